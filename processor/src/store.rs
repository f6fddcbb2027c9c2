//! What a processor asks of the scope's store, and nothing more.
//!
//! Responsible for the seam between the life of a task and Redis, so that the former is tested without the latter.
//! Must never add meaning of its own: each method is the script of the same name, called with the policy in force.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use portcullis_lua::{
    Claimed, FencingToken, Heartbeat, Lease, Reclaimed, Renewal, ScopeStore, Settled, Settlement, StoreError, TaskId,
    Waker,
};

use crate::metric;
use crate::policy::PolicyHandle;

/// The scripts of one scope. Every error means that nothing is known about the call's effect.
#[async_trait]
pub(crate) trait TaskStore: Send + Sync + 'static {
    async fn claim(&self, slots: u32) -> Result<Claimed, StoreError>;
    async fn renew(&self, leases: &[(TaskId, FencingToken)]) -> Result<Vec<Renewal>, StoreError>;
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError>;
    async fn reclaim(&self) -> Result<Reclaimed, StoreError>;
    async fn heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError>;
    async fn leave(&self, worker: &str) -> Result<(), StoreError>;
    async fn append_output(&self, lease: &Lease, before: u64, pieces: Vec<Bytes>) -> Result<bool, StoreError>;
    fn waker(&self) -> Box<dyn Wake>;
}

/// A listener for new work.
#[async_trait]
pub(crate) trait Wake: Send + 'static {
    async fn wait(&mut self, limit: Duration) -> Result<bool, StoreError>;
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

/// The store in Redis, called with whatever policy is in force at that moment.
#[derive(Debug)]
pub(crate) struct RedisTasks {
    scope: ScopeStore,
    policy: PolicyHandle,
}

impl RedisTasks {
    pub(crate) fn new(scope: ScopeStore, policy: PolicyHandle) -> Self {
        Self { scope, policy }
    }
}

#[async_trait]
impl TaskStore for RedisTasks {
    async fn claim(&self, slots: u32) -> Result<Claimed, StoreError> {
        self.scope.claim(&self.policy.load().compiled, slots).await
    }

    async fn renew(&self, leases: &[(TaskId, FencingToken)]) -> Result<Vec<Renewal>, StoreError> {
        self.scope.renew(&self.policy.load().compiled, leases).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.scope.settle(&self.policy.load().compiled, settlements).await
    }

    async fn reclaim(&self) -> Result<Reclaimed, StoreError> {
        self.scope.reclaim(&self.policy.load().compiled).await
    }

    async fn heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        self.scope.heartbeat(&self.policy.load().compiled, beat).await
    }

    async fn leave(&self, worker: &str) -> Result<(), StoreError> {
        self.scope.leave(worker).await
    }

    async fn append_output(&self, lease: &Lease, before: u64, pieces: Vec<Bytes>) -> Result<bool, StoreError> {
        self.scope.append_output(&self.policy.load().compiled, lease, before, pieces).await
    }

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(self.scope.waker())
    }
}

#[async_trait]
impl Wake for Waker {
    async fn wait(&mut self, limit: Duration) -> Result<bool, StoreError> {
        Self::wait(self, limit).await
    }
}
