//! What every request of a gateway shares.
//!
//! Responsible for holding the parts together and for starting none of them: the tasks that keep them going are
//! `run`'s. Must never hold state that another gateway would have to know: that is in Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_config::{Policy, Scope};
use portcullis_lua::{CompiledPolicy, ScopeStore, Store};
use secrecy::SecretString;

use crate::client_address::TrustedProxies;
use crate::credential::SessionResolver;
use crate::dev_token::DevTokens;
use crate::drain::DrainState;
use crate::group_commit::{Gathered, GroupCommit, group_commit};
use crate::metric;
use crate::policy_in_force::{PolicyHandle, PolicyInForce};
use crate::refusal_memory::RefusalMemory;
use crate::store_breaker::StoreBreaker;
use crate::tally::Tally;
use crate::watch_hub::WatchHub;

/// How a gateway is to run. The listeners come beside it.
#[derive(Debug)]
pub struct GatewayOptions {
    /// Redis, opened (not necessarily reachable yet).
    pub store: Store,
    /// The scope served: the policy's tenant and project.
    pub scope: Scope,
    /// The policy the gateway starts with.
    pub policy: Policy,
    /// Its revision; 0 for a document that came from the environment.
    pub policy_revision: u64,
    /// Where the policy came from, in words for an operator.
    pub policy_source: String,
    /// Bearer token of the admin listener.
    pub admin_token: SecretString,
    /// Name of this gateway in logs and documents.
    pub instance: String,
    /// Whom to believe about the client's address.
    pub trusted_proxies: TrustedProxies,
    /// Whether `Bearer dev:<user_type>:<principal>` is accepted. For loopback listeners only.
    pub dev_tokens: bool,
    /// How long requests are still served after readiness began to fail.
    pub drain: Duration,
    /// How long Redis may take for an answer before the caller gets a 503.
    pub store_timeout: Duration,
}

/// The shared state of one gateway.
#[derive(Debug)]
pub struct Gateway {
    store: Store,
    scope_store: ScopeStore,
    policy: PolicyHandle,
    policy_source: String,
    admin_token: SecretString,
    instance: String,
    trusted_proxies: TrustedProxies,
    resolvers: Vec<Box<dyn SessionResolver>>,
    admissions: GroupCommit,
    refusal_memory: RefusalMemory,
    tally: Tally,
    store_breaker: StoreBreaker,
    drain_state: DrainState,
    watch_hub: Arc<WatchHub>,
    event_streams: AtomicU64,
}

impl Gateway {
    pub(crate) fn new(options: GatewayOptions) -> (Arc<Self>, Gathered) {
        let (admissions, gathered) = group_commit();
        let mut resolvers: Vec<Box<dyn SessionResolver>> = Vec::new();
        if options.dev_tokens {
            resolvers.push(Box::new(DevTokens));
        }
        let gateway = Self {
            scope_store: options.store.scope(&options.scope),
            store: options.store,
            policy: PolicyHandle::new(options.policy, options.policy_revision),
            policy_source: options.policy_source,
            admin_token: options.admin_token,
            instance: options.instance,
            trusted_proxies: options.trusted_proxies,
            resolvers,
            admissions,
            refusal_memory: RefusalMemory::new(),
            tally: Tally::default(),
            store_breaker: StoreBreaker::new(options.store_timeout),
            drain_state: DrainState::default(),
            watch_hub: Arc::default(),
            event_streams: AtomicU64::new(0),
        };
        (Arc::new(gateway), gathered)
    }

    /// The scripts of the scope this gateway serves.
    #[must_use]
    pub fn scope_store(&self) -> &ScopeStore {
        &self.scope_store
    }

    /// What is in force now, all forms of one revision.
    #[must_use]
    pub fn policy_in_force(&self) -> Arc<PolicyInForce> {
        self.policy.load()
    }

    /// The handle through which another revision is put in force.
    #[must_use]
    pub fn policy_handle(&self) -> &PolicyHandle {
        &self.policy
    }

    /// The policy document in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.load().policy().clone()
    }

    /// The policy in force, prepared for the scripts.
    #[must_use]
    pub fn compiled_policy(&self) -> Arc<CompiledPolicy> {
        self.policy.load().compiled().clone()
    }

    /// Revision of the policy in force.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.policy.load().revision()
    }

    /// Where the policy this gateway started with came from.
    #[must_use]
    pub fn policy_source(&self) -> &str {
        &self.policy_source
    }

    /// Bearer token of the admin listener.
    #[must_use]
    pub fn admin_token(&self) -> &SecretString {
        &self.admin_token
    }

    /// Name of this gateway.
    #[must_use]
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The local breaker for Redis; every call of the store goes through it.
    #[must_use]
    pub fn store_breaker(&self) -> &StoreBreaker {
        &self.store_breaker
    }

    /// Whether readiness fails.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.drain_state.draining()
    }

    /// Event streams open now.
    #[must_use]
    pub fn event_streams(&self) -> u64 {
        self.event_streams.load(Ordering::Relaxed)
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn drain_state(&self) -> &DrainState {
        &self.drain_state
    }

    pub(crate) fn trusted_proxies(&self) -> &TrustedProxies {
        &self.trusted_proxies
    }

    pub(crate) fn resolvers(&self) -> &[Box<dyn SessionResolver>] {
        &self.resolvers
    }

    pub(crate) fn admissions(&self) -> &GroupCommit {
        &self.admissions
    }

    pub(crate) fn refusal_memory(&self) -> &RefusalMemory {
        &self.refusal_memory
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn watch_hub(&self) -> &Arc<WatchHub> {
        &self.watch_hub
    }

    /// A place among the event streams; `None` when `most` are taken (0: no bound).
    pub(crate) fn open_event_stream(self: &Arc<Self>, most: u64) -> Option<EventStreamPlace> {
        let taken = self
            .event_streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| (most == 0 || open < most).then_some(open + 1));
        taken.ok().map(|_| {
            metric::event_streams(1);
            EventStreamPlace(self.clone())
        })
    }
}

/// One event stream's place among those a gateway may serve; given back when dropped.
#[derive(Debug)]
pub(crate) struct EventStreamPlace(Arc<Gateway>);

impl Drop for EventStreamPlace {
    fn drop(&mut self) {
        self.0.event_streams.fetch_sub(1, Ordering::Relaxed);
        metric::event_streams(-1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use portcullis_lua::StoreOptions;

    use super::*;

    /// Options of a gateway whose Redis is not there: port 1 of loopback belongs to nobody. Call it on a runtime.
    pub(crate) fn options_without_redis() -> GatewayOptions {
        let policy = Policy::shipped("acme", "demo");
        let store_timeout = Duration::from_millis(40);
        let url = "redis://127.0.0.1:1".to_owned();
        let redis = StoreOptions { url, connections: 1, command_timeout: store_timeout };
        GatewayOptions {
            store: Store::open(&redis).expect("a sound URL"),
            scope: policy.scope().expect("sound names"),
            policy,
            policy_revision: 7,
            policy_source: "a test".to_owned(),
            admin_token: "0123456789abcdef0123456789abcdef".into(),
            instance: "gateway-1".to_owned(),
            trusted_proxies: TrustedProxies::default(),
            dev_tokens: true,
            drain: Duration::ZERO,
            store_timeout,
        }
    }

    #[tokio::test]
    async fn places_among_the_event_streams_are_bounded_and_given_back() {
        let (gateway, _) = Gateway::new(options_without_redis());
        let first = gateway.open_event_stream(2).unwrap();
        let second = gateway.open_event_stream(2).unwrap();
        assert!(gateway.open_event_stream(2).is_none());
        assert!(gateway.open_event_stream(0).is_some(), "0 is no bound");
        drop(first);
        assert!(gateway.open_event_stream(2).is_some());
        drop(second);
        assert_eq!(gateway.event_streams(), 0);
    }
}
