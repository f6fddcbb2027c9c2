//! A quiet Redis with one scope in it, brought into whatever state a measurement starts from.
//!
//! Responsible for preparing: capacity, waiting tasks, leases, exhausted limits. Must never measure anything itself:
//! what it does must stay outside the figures.

use std::collections::BTreeMap;

use bytes::Bytes;
use portcullis_config::policy::NamedLimit;
use portcullis_config::{Policy, Scope, UserType};
use portcullis_lua::{
    ADMIT_BATCH, AdmitRequest, CLAIM_BATCH, CompiledPolicy, Hop, Idempotency, Lease, Member, Outcome, PolicyStamp,
    Provenance, ScopeStore, Settlement, Store, TaskId, TaskResult, Verdict,
};
use serde_json::json;

use crate::cluster::{Redis, open_store, stand_in_beat};
use crate::error::HarnessError;
use crate::probe::Probe;

/// Sessions the admitted traffic comes from: enough that none comes near its limits.
const SESSIONS: usize = 512;
/// Slots of the processor that stands for capacity: pressure is checked but never reached.
const SLOTS: u32 = 10_000_000;
/// Tasks that wait for a measurement, per session; fewer than a registered session's burst.
const PER_SESSION: usize = 50;
const PAYLOAD_BYTES: usize = 200;
/// Agent, scope and reason of each hop of a chain as people make them.
const HOPS: [(&str, &str, &str); 3] = [
    ("orchestrator", "tasks:submit tasks:read quota:read", "Plan and carry out the weekly report for the sales team"),
    ("researcher", "tasks:submit tasks:read", "Collect the figures of the last seven days from all regions"),
    ("summariser", "tasks:submit", "Summarise the figures of one region on a single page"),
];

/// The server, a scope's scripts and a plain connection.
#[derive(Debug)]
pub struct Workbench {
    /// The plain connection.
    pub probe: Probe,
    /// The scope's scripts.
    pub scope: ScopeStore,
    /// The policy they are called with.
    pub policy: CompiledPolicy,
    /// The policy with three named limits, none of which is ever reached.
    pub limited: CompiledPolicy,
    /// The same policy, before it was compiled.
    pub document: Policy,
    /// Digest of `return 1`.
    pub floor: String,
    _store: Store,
    _redis: Redis,
}

impl Workbench {
    /// Starts a server that persists nothing.
    pub async fn start() -> Result<Self, HarnessError> {
        let redis = Redis::start(false).await?;
        let probe = Probe::connect(&redis.url()).await?;
        let floor = probe.load_script("return 1").await?;
        let store = open_store(&redis.url()).await?;
        let scope = Scope::new("bench", "scripts").map_err(|name| HarnessError::Policy(name.to_string()))?;
        let document = policy(&scope)?;
        let mut limited = document.clone();
        limited.rate_limits.named = named_limits()?;
        let bench = Self {
            probe,
            scope: store.scope(&scope),
            policy: CompiledPolicy::new(&document, PolicyStamp::NONE),
            limited: CompiledPolicy::new(&limited, PolicyStamp::NONE),
            document,
            floor,
            _store: store,
            _redis: redis,
        };
        bench.empty().await?;
        Ok(bench)
    }

    /// Empties the database and gives it capacity and a closed breaker again. Loaded scripts stay.
    pub async fn empty(&self) -> Result<(), HarnessError> {
        self.probe.command("FLUSHALL", ["SYNC"]).await?;
        self.scope.heartbeat(&self.policy, &stand_in_beat("bench".to_owned(), SLOTS)).await?;
        // A breaker is consulted once its kind has settled something.
        self.admit_waiting(1).await?;
        let leases = self.take(1).await?;
        let settlements: Vec<Settlement> = leases.iter().map(succeeded).collect();
        self.scope.settle(&self.policy, &settlements).await?;
        Ok(())
    }

    /// Puts this many tasks into the queue; their ids.
    pub async fn admit_waiting(&self, count: usize) -> Result<Vec<TaskId>, HarnessError> {
        // Sessions of their own, so that no limit is reached and none is left used up for what is measured.
        let series = rand::random::<u32>();
        let session = |number: usize| format!("waiting-{series:08x}-{}", number / PER_SESSION);
        self.enqueue((0..count).map(|number| request_of("registered", &session(number))).collect()).await
    }

    /// Puts this many tasks of an agent into the queue; their ids.
    pub async fn admit_delegated(&self, count: usize) -> Result<Vec<TaskId>, HarnessError> {
        self.enqueue((0..count).map(|number| delegated(request(number))).collect()).await
    }

    async fn enqueue(&self, requests: Vec<AdmitRequest>) -> Result<Vec<TaskId>, HarnessError> {
        for batch in requests.chunks(ADMIT_BATCH) {
            let decisions = self.scope.admit(&self.policy, batch).await?;
            if let Some(other) = decisions.iter().find(|one| !matches!(one.verdict, Verdict::Admitted { .. })) {
                return Err(HarnessError::Answer(format!("not admitted: {:?}", other.verdict)));
            }
        }
        Ok(requests.into_iter().map(|request| request.task_id).collect())
    }

    /// Leases this many waiting tasks.
    pub async fn take(&self, count: usize) -> Result<Vec<Lease>, HarnessError> {
        let mut leases = Vec::with_capacity(count);
        while leases.len() < count {
            let slots = (count - leases.len()).min(CLAIM_BATCH as usize) as u32;
            let claimed = self.scope.claim(&self.policy, slots).await?;
            if claimed.leases.is_empty() {
                return Err(HarnessError::Answer(format!("only {} of {count} tasks could be leased", leases.len())));
            }
            leases.extend(claimed.leases);
        }
        Ok(leases)
    }
}

/// The shipped policy with one budget, no end of leases and no end of a processor that beats once.
fn policy(scope: &Scope) -> Result<Policy, HarnessError> {
    let mut policy = Policy::shipped(scope.tenant(), scope.project());
    policy.queue.lease_ms = 3_600_000;
    policy.monitoring.heartbeat_timeout_seconds = 86_400;
    let budget = json!({
        "unit": "tokens", "amount": 1_000_000_000_000_u64, "period": "day", "per": "principal", "default_estimate": 100,
    });
    let budget = serde_json::from_value(budget).map_err(|error| HarnessError::Policy(error.to_string()))?;
    policy.budgets.insert("daily_tokens".to_owned(), budget);
    Ok(policy)
}

/// One that all share, one of tokens, one of addresses.
fn named_limits() -> Result<BTreeMap<String, NamedLimit>, HarnessError> {
    let limits = json!({
        "all": { "per": "tenant", "unit": "requests", "limit": 1_000_000_000, "window_seconds": 60 },
        "tokens": {
            "per": "principal", "unit": "tokens", "limit": 100_000_000, "window_seconds": 60, "default_estimate": 100,
        },
        "address": { "per": "client_address", "unit": "requests", "limit": 100_000, "window_seconds": 3600 },
    });
    serde_json::from_value(limits).map_err(|error| HarnessError::Policy(error.to_string()))
}

/// The request of one of many registered sessions.
#[must_use]
pub fn request(number: usize) -> AdmitRequest {
    let session = format!("session-{:04}", number % SESSIONS);
    request_of("registered", &session)
}

/// A request of this session.
#[must_use]
pub fn request_of(user_type: &str, session: &str) -> AdmitRequest {
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: UserType::new(user_type).unwrap_or_else(|_| UserType::anonymous()),
        session_id: session.to_owned(),
        principal: session.to_owned(),
        actor: None,
        client_address: Some(session.to_owned()),
        kind: "bench".to_owned(),
        pass: None,
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 3,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance::default(),
        request_id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        traceparent: None,
        tracestate: None,
        content_type: "application/json".to_owned(),
        payload: Bytes::from(format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2))),
    }
}

/// The same request, made for its principal by an agent three hops down.
#[must_use]
pub fn delegated(mut request: AdmitRequest) -> AdmitRequest {
    let hops: Vec<Hop> = HOPS.iter().map(|(agent, scope, reason)| hop(agent, scope, reason)).collect();
    request.actor = hops.last().map(|hop| hop.client_id.clone());
    request.provenance = Provenance {
        source: "delegation",
        network: Some("192.0.2.0/24".to_owned()),
        method: Some("POST".to_owned()),
        route: "/v1/tasks",
        members: hops.iter().map(|hop| Member::Token(&hop.hash).to_string()).collect(),
        hops: hops.into(),
        issued_at_ms: Some(1),
        ..Provenance::default()
    };
    request
}

fn hop(agent: &str, scope: &str, reason: &str) -> Hop {
    Hop {
        client_id: agent.to_owned(),
        jti: format!("01ARZ3NDEKTSV4RRFF-{agent}"),
        hash: format!("{agent:x>43}"),
        scope: scope.to_owned(),
        exp: 1_800_000_000,
        reason: reason.to_owned(),
        ..Hop::default()
    }
}

/// The same request under an idempotency key of its own.
#[must_use]
pub fn idempotent(mut request: AdmitRequest) -> AdmitRequest {
    let key_hash = format!("{:064x}", rand::random::<u128>());
    request.idempotency = Some(Idempotency { key_hash, body_hash: format!("{:064x}", 7) });
    request
}

/// The settlement of a lease whose handler answered something short.
#[must_use]
pub fn succeeded(lease: &Lease) -> Settlement {
    let result = TaskResult { content_type: "application/json".to_owned(), body: Bytes::from_static(b"{\"ok\":true}") };
    Settlement { lease: lease.clone(), outcome: Outcome::Succeeded { result, usage: vec![("tokens".to_owned(), 80)] } }
}
