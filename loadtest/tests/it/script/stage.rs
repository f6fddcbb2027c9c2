//! A Redis of a test's own, scopes on it, and the requests and policies the tests start from.
//!
//! Responsible for isolation: one server per test, one scope per case. Must never give two cases the same scope.

use std::sync::Arc;

use bytes::Bytes;
use portcullis_config::policy::{NamedLimit, Subject};
use portcullis_config::{Policy, Scope, UserType};
use portcullis_loadtest::cluster::{Redis, open_store, stand_in_beat};
use portcullis_loadtest::probe::Probe;
use portcullis_lua::{AdmitRequest, CompiledPolicy, Provenance, ScopeStore, Store, TaskId};

/// 2026-03-02 10:00:00 UTC, a Monday: where injected time begins unless a test wants otherwise.
pub(crate) const START_MS: u64 = 1_772_445_600_000;

/// Longer than any injected time.
pub(crate) const FOR_EVER_SECONDS: u64 = 10_000_000_000;

/// A server, the crate under test connected to it, and a connection to look at it from outside.
pub(crate) struct Stage {
    pub(crate) store: Store,
    pub(crate) probe: Arc<Probe>,
    /// Declared last: it goes after everything that uses it. `None` when somebody else owns the server.
    redis: Option<Redis>,
}

/// A scope of its own, and its keys.
#[derive(Clone)]
pub(crate) struct Act {
    pub(crate) store: ScopeStore,
    pub(crate) probe: Arc<Probe>,
    pub(crate) prefix: String,
}

impl Stage {
    /// Starts a server.
    pub(crate) async fn set() -> Self {
        let redis = Redis::start(false).await.expect("redis starts");
        let stage = Self::on(&redis.url(), &redis.url()).await;
        Self { redis: Some(redis), ..stage }
    }

    /// Uses a server that somebody else started.
    pub(crate) async fn on(store_url: &str, probe_url: &str) -> Self {
        let store = open_store(store_url).await.expect("a store");
        let probe = Arc::new(Probe::connect(probe_url).await.expect("a connection"));
        Self { store, probe, redis: None }
    }

    /// Another store on the same server.
    pub(crate) async fn another_store(&self) -> Store {
        let redis = self.redis.as_ref().expect("a server of its own");
        open_store(&redis.url()).await.expect("a store")
    }

    /// A scope nobody else has.
    pub(crate) fn act(&self) -> Act {
        let name = TaskId::generate();
        let scope = Scope::new("t", name.as_str()).expect("a scope");
        let prefix = format!("{{t:{name}}}:");
        Act { store: self.store.scope(&scope), probe: Arc::clone(&self.probe), prefix }
    }
}

impl Act {
    /// The name of one of the scope's keys.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A processor of this many slots is alive at `now_ms`.
    pub(crate) async fn beat(&self, policy: &CompiledPolicy, now_ms: u64, slots: u32) {
        let beat = stand_in_beat("stand-in".to_owned(), slots);
        self.store.at(now_ms).heartbeat(policy, &beat).await.expect("a heartbeat");
    }

    /// Removes the whole scope, so that thousands of them leave the server small.
    pub(crate) async fn strike(&self) {
        for key in self.probe.keys(&self.prefix).await.expect("keys") {
            self.probe.command("UNLINK", [key.as_str()]).await.expect("unlinked");
        }
    }
}

/// The shipped policy with room for everybody, and processors that live for ever: only what a test changes can refuse.
pub(crate) fn roomy() -> Policy {
    let mut policy = Policy::shipped("t", "p");
    for role in policy.rate_limits.roles.values_mut() {
        (role.hourly, role.burst) = (-1, 1_000_000);
    }
    policy.monitoring.heartbeat_timeout_seconds = FOR_EVER_SECONDS;
    policy
}

/// Changes the limits of a user type.
pub(crate) fn limit(policy: &mut Policy, user_type: &str, burst: u64, burst_window: u64, hourly: i64) {
    let role = policy.rate_limits.roles.get_mut(user_type).expect("a role");
    (role.burst, role.burst_window, role.hourly) = (burst, burst_window, hourly);
}

/// Adds a limit of this name, for every type and kind; one of tokens counts 1 for a request that does not say.
pub(crate) fn named_limit(policy: &mut Policy, name: &str, per: Subject, unit: &str, limit: u64, window_seconds: u64) {
    let default_estimate = (unit != "requests").then_some(1);
    let unit = unit.to_owned();
    let limit = NamedLimit { per, unit, limit, window_seconds, default_estimate, user_types: None, kinds: None };
    policy.rate_limits.named.insert(name.to_owned(), limit);
}

/// A built-in or declared user type.
pub(crate) fn user_type(name: &str) -> UserType {
    UserType::new(name).expect("a user type")
}

/// A request of one, for now, by a session that is its own principal.
pub(crate) fn request(user_type_name: &str, session: &str) -> AdmitRequest {
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: user_type(user_type_name),
        session_id: session.to_owned(),
        principal: session.to_owned(),
        actor: None,
        client_address: None,
        kind: "chat".to_owned(),
        pass: None,
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 3,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance::default(),
        request_id: "r".to_owned(),
        traceparent: None,
        tracestate: None,
        content_type: "application/json".to_owned(),
        payload: Bytes::from_static(b"{}"),
    }
}

/// How many cases a test tries: `full`, unless `PORTCULLIS_TEST_CASES` says a percentage of it.
pub(crate) fn cases(full: usize) -> usize {
    let percent = std::env::var("PORTCULLIS_TEST_CASES").ok().and_then(|text| text.parse::<usize>().ok());
    (full * percent.unwrap_or(100) / 100).max(1)
}
