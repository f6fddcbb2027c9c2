//! What a processor asks of the scope's store, and nothing more.
//!
//! Responsible for the seam between the life of a task and Redis, so that the former is tested without the latter.
//! Must never add meaning of its own: each method is the call of the same name in `portcullis-lua`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use portcullis_lua::{
    Change, Claimed, CompiledPolicy, FencingToken, Heartbeat, Lease, LiveRevocations, PolicyStamp, Reclaimed, Renewal,
    RevocationView, ScopeStore, Settled, Settlement, Store, StoreError, TaskId, Topic, Waker,
};
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use crate::metric;
use crate::policy::ScopePolicy;

/// The scripts and the policy of one scope. Every error means that nothing is known about the call's effect. A policy
/// is handed in where the caller goes by the same one, such as for the length of a lease; elsewhere the one in force
/// counts.
#[async_trait]
pub(crate) trait TaskStore: Send + Sync + 'static {
    /// What is revoked, where the scope's number of revocations is this; `None`: whatever it is when this is called.
    async fn revocations(&self, number: Option<u64>) -> Result<Arc<RevocationView>, StoreError>;
    async fn renew(
        &self,
        policy: &CompiledPolicy,
        leases: &[(TaskId, FencingToken)],
    ) -> Result<Vec<Renewal>, StoreError>;
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError>;
    async fn reclaim(&self, policy: &CompiledPolicy) -> Result<Reclaimed, StoreError>;
    async fn heartbeat(&self, policy: &CompiledPolicy, beat: &Heartbeat) -> Result<PolicyStamp, StoreError>;
    async fn leave(&self, worker: &str) -> Result<(), StoreError>;
    async fn append_output(&self, lease: &Lease, before: u64, pieces: Vec<Bytes>) -> Result<bool, StoreError>;
    fn waker(&self) -> Box<dyn Wake>;

    /// What changes in the scope, its policy above all.
    async fn changes(&self) -> Result<broadcast::Receiver<Change>, StoreError>;
    async fn catch_up(&self) -> Result<(), StoreError>;
    async fn hear(&self, stored: PolicyStamp) -> Result<(), StoreError>;
    async fn force_boot(&self) -> Result<bool, StoreError>;
}

/// Claims work, and waits for it.
#[async_trait]
pub(crate) trait Wake: Send + 'static {
    async fn claim_now(&mut self, policy: &CompiledPolicy, slots: u32) -> Result<Claimed, StoreError>;
    async fn claim(
        &mut self,
        policy: &CompiledPolicy,
        slots: u32,
        limit: Duration,
        hurry: &CancellationToken,
    ) -> Result<Claimed, StoreError>;
}

/// Counts a failed call. That Redis is away is said once, by the heartbeat; anything else is worth a line each time.
pub(crate) fn failed(script: &'static str, fault: &StoreError) {
    metric::store_error(script);
    if matches!(fault, StoreError::Unavailable(_)) {
        tracing::debug!(script, %fault, "redis call failed");
    } else {
        tracing::warn!(script, %fault, "redis call failed");
    }
}

/// The store in Redis.
#[derive(Debug)]
pub(crate) struct RedisTasks {
    store: Store,
    scope: ScopeStore,
    policy: ScopePolicy,
    revocations: LiveRevocations,
}

impl RedisTasks {
    pub(crate) fn new(store: Store, scope: ScopeStore, policy: ScopePolicy) -> Self {
        Self { store, revocations: LiveRevocations::new(scope.clone()), scope, policy }
    }
}

#[async_trait]
impl TaskStore for RedisTasks {
    async fn revocations(&self, number: Option<u64>) -> Result<Arc<RevocationView>, StoreError> {
        match number {
            Some(number) => self.revocations.hear(number).await,
            None => self.revocations.catch_up().await,
        }
    }

    async fn renew(
        &self,
        policy: &CompiledPolicy,
        leases: &[(TaskId, FencingToken)],
    ) -> Result<Vec<Renewal>, StoreError> {
        self.scope.renew(policy, leases).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.scope.settle(self.policy.load().compiled(), settlements).await
    }

    async fn reclaim(&self, policy: &CompiledPolicy) -> Result<Reclaimed, StoreError> {
        self.scope.reclaim(policy).await
    }

    async fn heartbeat(&self, policy: &CompiledPolicy, beat: &Heartbeat) -> Result<PolicyStamp, StoreError> {
        self.scope.heartbeat(policy, beat).await
    }

    async fn leave(&self, worker: &str) -> Result<(), StoreError> {
        self.scope.leave(worker).await
    }

    async fn append_output(&self, lease: &Lease, before: u64, pieces: Vec<Bytes>) -> Result<bool, StoreError> {
        self.scope.append_output(self.policy.load().compiled(), lease, before, pieces).await
    }

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(self.scope.waker())
    }

    async fn changes(&self) -> Result<broadcast::Receiver<Change>, StoreError> {
        // First the receiver, so that it hears the news with which a subscription begins.
        let changes = self.store.watch().await?;
        self.scope.subscribe(&[Topic::Policy]).await?;
        Ok(changes)
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        self.policy.catch_up().await.map(drop)
    }

    async fn hear(&self, stored: PolicyStamp) -> Result<(), StoreError> {
        self.policy.hear(stored).await.map(drop)
    }

    async fn force_boot(&self) -> Result<bool, StoreError> {
        self.policy.force_boot().await
    }
}

#[async_trait]
impl Wake for Waker {
    async fn claim_now(&mut self, policy: &CompiledPolicy, slots: u32) -> Result<Claimed, StoreError> {
        Self::claim_now(self, policy, slots).await
    }

    async fn claim(
        &mut self,
        policy: &CompiledPolicy,
        slots: u32,
        limit: Duration,
        hurry: &CancellationToken,
    ) -> Result<Claimed, StoreError> {
        Self::claim(self, policy, slots, limit, hurry.cancelled()).await
    }
}
