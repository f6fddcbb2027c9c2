//! Temporary signatures (to be replaced file by file).
#![allow(unused_variables, missing_docs, clippy::all, clippy::pedantic)]
use crate::*;
use portcullis_config::{Policy, Scope, UserType};
use std::time::Duration;

/// Policy prepared for scripts, with its revision.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {}
impl CompiledPolicy {
    /// Prepares a policy. Infallible: `config` has validated it.
    pub fn new(policy: &Policy, revision: u64) -> Self { unimplemented!() }
    pub fn revision(&self) -> u64 { unimplemented!() }
    /// Whether admissions of this type can be decided.
    pub fn knows(&self, user_type: &UserType) -> bool { unimplemented!() }
    /// The static limits of a type (remaining = limit, reset 0), for answers that never reached Redis.
    pub fn limits_of(&self, user_type: &UserType) -> Vec<LimitState> { unimplemented!() }
}

#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// `redis://`, `rediss://`, `redis-cluster://`, `redis-sentinel://`.
    pub url: String,
    /// Connections for commands (not counting the blocking and subscribing ones).
    pub connections: usize,
    /// A command without an answer after this long has failed.
    pub command_timeout: Duration,
}

/// Handle on the Redis all scopes share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {}
impl Store {
    /// Starts connecting and returns at once; commands fail fast with `StoreError::Unavailable` until connected.
    /// Err only for an unusable URL.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> { unimplemented!() }
    /// Waits until Redis answers or `wait` has passed.
    pub async fn wait_ready(&self, wait: Duration) -> Result<(), StoreError> { unimplemented!() }
    pub async fn ping(&self) -> Result<(), StoreError> { unimplemented!() }
    /// The scope's half of the store.
    pub fn scope(&self, scope: &Scope) -> ScopeStore { unimplemented!() }
    /// Closes every connection.
    pub async fn close(&self) { unimplemented!() }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Redis did not answer in time or the connection is down; nothing is known about the command's effect.
    #[error("redis is unavailable: {0}")]
    Unavailable(String),
    /// The caller's policy revision is older than the scope's; nothing was decided.
    #[error("policy revision {held} is older than the scope's {current}")]
    StalePolicy { held: u64, current: u64 },
    /// Redis answered something the protocol does not know, or refused the command.
    #[error("redis protocol: {0}")]
    Protocol(String),
    #[error("redis url: {0}")]
    Url(String),
}

/// All scripts of one scope. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ScopeStore {}
impl ScopeStore {
    pub fn scope(&self) -> &Scope { unimplemented!() }
    /// Decides a batch (at most 64) in order; one round trip. Admitted ones are enqueued.
    pub async fn admit(&self, policy: &CompiledPolicy, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> { unimplemented!() }
    /// What `admit` would answer; changes nothing, records nothing.
    pub async fn peek(&self, policy: &CompiledPolicy, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> { unimplemented!() }
    /// Leases up to `slots` waiting tasks to `worker`.
    pub async fn claim(&self, policy: &CompiledPolicy, worker: &str, slots: u32) -> Result<Claimed, StoreError> { unimplemented!() }
    /// Extends leases; one answer per entry, in order.
    pub async fn renew(&self, policy: &CompiledPolicy, leases: &[(TaskId, FencingToken)]) -> Result<Vec<Renewal>, StoreError> { unimplemented!() }
    /// Ends attempts; one answer per entry, in order. A stale token changes nothing.
    pub async fn settle(&self, policy: &CompiledPolicy, settlements: Vec<Settlement>) -> Result<Vec<Settled>, StoreError> { unimplemented!() }
    /// Takes back lapsed leases: requeues them, or leases them to `worker` to be ended.
    pub async fn reclaim(&self, policy: &CompiledPolicy, worker: &str) -> Result<Reclaimed, StoreError> { unimplemented!() }
    /// This processor is alive and has this capacity.
    pub async fn heartbeat(&self, policy: &CompiledPolicy, beat: &Heartbeat) -> Result<(), StoreError> { unimplemented!() }
    /// This processor has left: forget it.
    pub async fn leave(&self, worker: &str) -> Result<(), StoreError> { unimplemented!() }
    /// Cancels a task of `principal`; None when there is no such task for that principal. Idempotent.
    pub async fn cancel(&self, policy: &CompiledPolicy, id: &TaskId, principal: &str) -> Result<Option<TaskRecord>, StoreError> { unimplemented!() }
    /// Appends output pieces under a lease; false when the token is stale (then nothing was written).
    pub async fn append_output(&self, policy: &CompiledPolicy, lease: &Lease, pieces: Vec<Bytes>) -> Result<bool, StoreError> { unimplemented!() }
    /// The task, if known (whoever asks: the caller compares the principal).
    pub async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError> { unimplemented!() }
    /// Output after a position, at most `count` pieces.
    pub async fn output(&self, id: &TaskId, after: OutputId, count: u32) -> Result<Vec<Output>, StoreError> { unimplemented!() }
    /// Adds locally counted refusals to the scope's statistics.
    pub async fn tally(&self, policy: &CompiledPolicy, refusals: &[TallyEntry]) -> Result<(), StoreError> { unimplemented!() }
    pub async fn processors(&self) -> Result<Vec<ProcessorView>, StoreError> { unimplemented!() }
    pub async fn queues(&self, policy: &CompiledPolicy) -> Result<QueueView, StoreError> { unimplemented!() }
    /// Newest first.
    pub async fn decisions(&self, limit: u32) -> Result<Vec<DecisionEvent>, StoreError> { unimplemented!() }
    /// Breakers of the kinds that have been seen lately.
    pub async fn breakers(&self, policy: &CompiledPolicy) -> Result<Vec<BreakerView>, StoreError> { unimplemented!() }
    /// Hourly statistics, newest first: (hour start ms, [("admitted:paid" | "refused:<code>:<user type>", count)]).
    pub async fn statistics(&self, hours: u32) -> Result<Vec<HourStatistics>, StoreError> { unimplemented!() }
    /// A blocking listener for new work, on a connection of its own.
    pub fn waker(&self) -> Waker { unimplemented!() }
    /// Follows changes of tasks, on a subscribing connection shared by all watches of the store. Lossy: see `Change`.
    pub async fn watch(&self) -> Result<tokio::sync::broadcast::Receiver<Change>, StoreError> { unimplemented!() }
}

#[derive(Clone, Debug)]
pub enum Change {
    /// This task has a new status or new output.
    Task(TaskId),
    /// Messages may have been lost (reconnected): look again at every watched task.
    Resync,
}

#[derive(Debug)]
pub struct Claimed {
    pub leases: Vec<Lease>,
    /// Tasks still waiting in the queue after this claim.
    pub waiting: u64,
    /// Time until the next delayed task is due, ms.
    pub next_due_ms: Option<u64>,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal { Held, /** the caller cancelled the task; the lease is extended */ Cancelled, /** somebody else holds it, or it has ended */ Lost }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled { /** now in this status (Retry gives Queued or Dead; HandedBack gives Queued) */ Done(TaskStatus), /** token was stale, nothing changed */ Stale }
#[derive(Debug)]
pub struct Reclaimed { pub requeued: u64, /** to be ended by settling as their purpose says */ pub leases: Vec<Lease> }

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, PartialEq)]
pub struct Heartbeat {
    /// Unique per process start, e.g. `host-4242-7f3a`.
    pub worker: String,
    pub instance: String,
    pub slots: u32,
    pub running: u32,
    pub draining: bool,
    pub version: String,
    pub policy_revision: u64,
    pub kinds: Vec<String>,
}
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProcessorView { #[serde(flatten)] pub beat: Heartbeat, pub last_heartbeat_ms: u64, pub age_ms: u64, /** counts for capacity */ pub live: bool }
#[derive(Clone, Debug, serde::Serialize)]
pub struct QueueView {
    pub queued: u64, pub running: u64, pub delayed: u64, pub dead: u64,
    /// waiting tasks by user type
    pub queued_by_type: std::collections::BTreeMap<String, u64>,
    pub slots: u64, pub live_processors: u64, pub capacity: u64,
    /// depth at which each type is refused
    pub thresholds: std::collections::BTreeMap<String, u64>,
    pub hard_limit: u64,
    /// depth / capacity
    pub pressure: f64,
    /// measured mean attempt duration, None until measured
    pub service_ms: Option<f64>,
    pub oldest_wait_ms: Option<u64>,
    pub policy_revision: u64,
}
#[derive(Clone, Debug, serde::Serialize)]
pub struct DecisionEvent {
    /// stream id and index, e.g. "1732233-0.3"
    pub id: String,
    pub at_ms: u64,
    pub policy_revision: u64,
    /// "admitted" | "refused" | "replayed"
    pub outcome: String,
    pub step: Option<String>, pub code: Option<String>, pub name: Option<String>,
    pub retry_after_ms: u64,
    pub task_id: Option<String>, pub user_type: String, pub session_id: String, pub principal: String, pub actor: Option<String>, pub kind: String, pub request_id: String,
    pub depth: u64, pub capacity: u64,
}
#[derive(Clone, Debug, serde::Serialize)]
pub struct BreakerView { pub name: String, /** closed|open|half_open */ pub state: String, pub calls: u64, pub failures: u64, pub slow: u64, pub probes_left: Option<u64>, pub retry_after_ms: u64 }
#[derive(Clone, Debug)]
pub struct TallyEntry { pub code: String, pub user_type: String, pub count: u64 }
#[derive(Clone, Debug, serde::Serialize)]
pub struct HourStatistics { pub hour_ms: u64, pub counts: std::collections::BTreeMap<String, u64> }

#[derive(Debug)]
pub struct Waker {}
impl Waker {
    /// Waits until there may be work, at most `limit`. Ok(true): woken. Ok(false): nothing within the limit.
    /// Err: the connection broke (a new one is made on the next call); back off briefly and claim again.
    pub async fn wait(&mut self, limit: Duration) -> Result<bool, StoreError> { unimplemented!() }
}
use bytes::Bytes;
