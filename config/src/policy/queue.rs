//! The queue: leases, attempts, retries, retention and sizes.
//!
//! Responsible for their shape and bounds. Must never compute a backoff or a deadline: the scripts do, by the time of
//! Redis.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Life of a task: lease, retries, retention, bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// A lease not renewed for this long is reclaimed, milliseconds.
    #[schemars(range(min = 200, max = 3_600_000))]
    pub lease_ms: u64,
    /// Attempts of a task that does not say otherwise.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: u64,
    /// Most attempts a task may ask for.
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts_limit: u64,
    /// Longest one attempt may run, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub attempt_timeout_ms: u64,
    /// Backoff between attempts.
    pub retry: Retry,
    /// Largest payload, bytes.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub max_payload_bytes: u64,
    /// Largest result, bytes; a larger one fails the task.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub max_result_bytes: u64,
    /// Longest delayed start, milliseconds.
    #[schemars(range(max = 31_536_000_000_u64))]
    pub max_delay_ms: u64,
    /// Most tasks that may wait for a delayed start.
    #[schemars(range(max = 10_000_000))]
    pub max_delayed: u64,
    /// How long a finished task can be read, seconds.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub result_ttl_seconds: u64,
    /// How long an `Idempotency-Key` is remembered, seconds.
    #[schemars(range(min = 1, max = 31_536_000))]
    pub idempotency_ttl_seconds: u64,
    /// Dead letters kept; the oldest goes first.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_dead_letters: u64,
    /// Output pieces kept per task.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_output_events: u64,
    /// Batches of decision events kept per scope, and as many ends of what agents were let do.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_decision_events: u64,
}

/// Exponential backoff with full jitter: `random(0.5..1) × min(initial × factor^(attempt−1), max)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Backoff after the first attempt, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub initial_ms: u64,
    /// Growth per attempt.
    #[schemars(range(min = 1, max = 100))]
    pub factor: f64,
    /// Longest backoff, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub max_ms: u64,
}
