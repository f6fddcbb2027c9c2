//! Task kinds: what differs for one sort of work.
//!
//! Responsible for their shape and bounds, and for what a kind gets that says nothing. Must never hold a default
//! number: whatever a kind leaves out comes from `queue` and `circuit_breakers.tasks`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::policy::{Policy, Retry, TaskBreaker};

/// What differs for tasks of one kind. Every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KindSettings {
    /// As how many requests one of this kind counts in every limit and budget of requests; left out: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub cost: Option<u64>,
    /// Attempts of a task that does not say otherwise; left out: `queue.max_attempts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_attempts: Option<u64>,
    /// Longest one attempt may run, milliseconds; left out: `queue.attempt_timeout_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800_000))]
    pub attempt_timeout_ms: Option<u64>,
    /// Backoff between attempts; what it leaves out comes from `queue.retry`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<KindRetry>,
    /// Its breaker; what it leaves out comes from `circuit_breakers.tasks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<KindBreaker>,
}

/// What differs in a kind's backoff.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KindRetry {
    /// Backoff after the first attempt, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800_000))]
    pub initial_ms: Option<u64>,
    /// Growth per attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub factor: Option<f64>,
    /// Longest backoff, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800_000))]
    pub max_ms: Option<u64>,
}

/// What differs in a kind's breaker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KindBreaker {
    /// Share of failed attempts in the window that opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub failure_rate: Option<f64>,
    /// Share of slow attempts in the window that opens it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub slow_call_rate: Option<f64>,
    /// An attempt longer than this counts as slow, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800_000))]
    pub slow_call_ms: Option<u64>,
    /// Length of the window, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: Option<u64>,
    /// Attempts the window must hold before a rate means anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub minimum_calls: Option<u64>,
    /// How long it stays open before probes are let through, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub open_seconds: Option<u64>,
    /// Probes let through while half-open; all must succeed to close it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub half_open_probes: Option<u64>,
}

impl Policy {
    /// As how many requests one of this kind counts.
    #[must_use]
    pub fn cost_of(&self, kind: &str) -> u64 {
        self.kinds.get(kind).and_then(|settings| settings.cost).unwrap_or(1)
    }

    /// Attempts of a task of this kind that does not say otherwise.
    #[must_use]
    pub fn max_attempts_of(&self, kind: &str) -> u64 {
        self.kinds.get(kind).and_then(|settings| settings.max_attempts).unwrap_or(self.queue.max_attempts)
    }

    /// Longest one attempt of this kind may run, ms.
    #[must_use]
    pub fn attempt_timeout_ms_of(&self, kind: &str) -> u64 {
        self.kinds.get(kind).and_then(|settings| settings.attempt_timeout_ms).unwrap_or(self.queue.attempt_timeout_ms)
    }

    /// Backoff between attempts of this kind.
    #[must_use]
    pub fn retry_of(&self, kind: &str) -> Retry {
        let shared = &self.queue.retry;
        let Some(own) = self.kinds.get(kind).and_then(|settings| settings.retry.as_ref()) else {
            return shared.clone();
        };
        Retry {
            initial_ms: own.initial_ms.unwrap_or(shared.initial_ms),
            factor: own.factor.unwrap_or(shared.factor),
            max_ms: own.max_ms.unwrap_or(shared.max_ms),
        }
    }

    /// The breaker of this kind.
    #[must_use]
    pub fn breaker_of(&self, kind: &str) -> TaskBreaker {
        let shared = &self.circuit_breakers.tasks;
        let Some(own) = self.kinds.get(kind).and_then(|settings| settings.circuit_breaker.as_ref()) else {
            return shared.clone();
        };
        TaskBreaker {
            failure_rate: own.failure_rate.unwrap_or(shared.failure_rate),
            slow_call_rate: own.slow_call_rate.unwrap_or(shared.slow_call_rate),
            slow_call_ms: own.slow_call_ms.unwrap_or(shared.slow_call_ms),
            window_seconds: own.window_seconds.unwrap_or(shared.window_seconds),
            minimum_calls: own.minimum_calls.unwrap_or(shared.minimum_calls),
            open_seconds: own.open_seconds.unwrap_or(shared.open_seconds),
            half_open_probes: own.half_open_probes.unwrap_or(shared.half_open_probes),
        }
    }
}
