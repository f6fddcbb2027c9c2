//! Breakers: the one every task kind has, and those of the reference system.
//!
//! Responsible for their shape and bounds. Must never hold the state of a breaker, which lives in Redis alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Breakers: those of the reference system, carried and checked, and the breaker of each task kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's flat keys, carried and not interpreted")]
pub struct CircuitBreakers {
    #[schemars(range(min = 1, max = 1_000_000))]
    pub auth_failure_threshold: u64,
    #[schemars(range(min = 1, max = 86_400))]
    pub auth_recovery_timeout: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub auth_success_threshold: u64,
    #[schemars(range(min = 1, max = 86_400))]
    pub auth_window_size: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub auth_half_open_max_calls: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate_limit_failure_threshold: u64,
    #[schemars(range(min = 1, max = 86_400))]
    pub rate_limit_recovery_timeout: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate_limit_success_threshold: u64,
    #[schemars(range(min = 1, max = 86_400))]
    pub rate_limit_window_size: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate_limit_half_open_max_calls: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backpressure_failure_threshold: u64,
    #[schemars(range(min = 1, max = 86_400))]
    pub backpressure_recovery_timeout: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backpressure_success_threshold: u64,
    #[schemars(range(min = 1, max = 86_400))]
    pub backpressure_window_size: u64,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub backpressure_half_open_max_calls: u64,
    /// The breaker every task kind has, fed by settled attempts.
    pub tasks: TaskBreaker,
}

/// Breaker of a task kind over a sliding window of settled attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskBreaker {
    /// Share of failed attempts in the window that opens it.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub failure_rate: f64,
    /// Share of slow attempts in the window that opens it.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub slow_call_rate: f64,
    /// An attempt longer than this counts as slow, milliseconds.
    #[schemars(range(min = 1, max = 604_800_000))]
    pub slow_call_ms: u64,
    /// Length of the window, seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: u64,
    /// Attempts the window must hold before a rate means anything.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum_calls: u64,
    /// How long it stays open before probes are let through, seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub open_seconds: u64,
    /// Probes let through while half-open; all must succeed to close it.
    #[schemars(range(min = 1, max = 10_000))]
    pub half_open_probes: u64,
}
