//! When a change of each setting takes effect.
//!
//! Responsible for the one table of it, which names every setting of the policy. Must never be guessed from elsewhere:
//! what reads a setting once, at its start, is marked here.

use schemars::JsonSchema;
use serde::Serialize;

/// When a changed setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TakesEffect {
    /// With the revision, on every replica, without a restart.
    AtOnce,
    /// When a process is started with it.
    AfterRestart,
    /// Not at all: it is carried so that the reference system's documents load.
    Never,
}

use TakesEffect::{AfterRestart, AtOnce, Never};

/// Settings by their place without slices; a section stands for all that is in it.
const TABLE: [(&str, TakesEffect); 59] = [
    ("profile", Never),
    ("tenant", Never),
    ("project", Never),
    ("instance_id", AfterRestart),
    ("redis_url", AfterRestart),
    ("rate_limits.roles", AtOnce),
    ("rate_limits.named", AtOnce),
    ("user_types", AtOnce),
    ("service_capacity.concurrent_requests_per_process", AtOnce),
    ("service_capacity.processes_per_instance", AfterRestart),
    ("service_capacity.avg_processing_time_seconds", AtOnce),
    ("service_capacity.concurrent_requests_per_instance", Never),
    ("service_capacity.requests_per_hour", Never),
    ("backpressure.capacity_buffer", AtOnce),
    ("backpressure.queue_depth_multiplier", AtOnce),
    ("backpressure.anonymous_pressure_threshold", AtOnce),
    ("backpressure.registered_pressure_threshold", AtOnce),
    ("backpressure.paid_pressure_threshold", AtOnce),
    ("backpressure.hard_limit_threshold", AtOnce),
    ("backpressure.capacity_source_component", Never),
    ("circuit_breakers.tasks", AtOnce),
    ("circuit_breakers.auth_failure_threshold", Never),
    ("circuit_breakers.auth_recovery_timeout", Never),
    ("circuit_breakers.auth_success_threshold", Never),
    ("circuit_breakers.auth_window_size", Never),
    ("circuit_breakers.auth_half_open_max_calls", Never),
    ("circuit_breakers.rate_limit_failure_threshold", Never),
    ("circuit_breakers.rate_limit_recovery_timeout", Never),
    ("circuit_breakers.rate_limit_success_threshold", Never),
    ("circuit_breakers.rate_limit_window_size", Never),
    ("circuit_breakers.rate_limit_half_open_max_calls", Never),
    ("circuit_breakers.backpressure_failure_threshold", Never),
    ("circuit_breakers.backpressure_recovery_timeout", Never),
    ("circuit_breakers.backpressure_success_threshold", Never),
    ("circuit_breakers.backpressure_window_size", Never),
    ("circuit_breakers.backpressure_half_open_max_calls", Never),
    ("budgets", AtOnce),
    ("queue", AtOnce),
    ("kinds", AtOnce),
    ("monitoring.throttling_events_retention_hours", AtOnce),
    ("monitoring.heartbeat_timeout_seconds", AtOnce),
    ("monitoring.max_policy_revisions", AtOnce),
    ("monitoring.max_audit_events", AtOnce),
    ("monitoring.session_analytics_enabled", Never),
    ("monitoring.circuit_breaker_stats_retention_hours", Never),
    ("monitoring.queue_analytics_enabled", Never),
    ("monitoring.instance_cache_ttl_seconds", Never),
    ("redis", Never),
    ("pools", Never),
    ("limits.max_queue_size", AtOnce),
    ("limits.max_sse_connections_per_instance", AtOnce),
    ("limits.max_integrations_ops_concurrency", Never),
    ("guarded_rest_patterns", AtOnce),
    ("bypass_throttling_patterns", AtOnce),
    ("route_classes", AtOnce),
    ("proxy", AtOnce),
    ("cors", AtOnce),
    ("writes", AtOnce),
    ("data_bus", Never),
];

impl TakesEffect {
    /// When a change at this place, written without slices (`limits.max_queue_size`), takes effect; `None` for a place
    /// that no setting has.
    #[must_use]
    pub fn of(place: &str) -> Option<Self> {
        let inside = |setting: &str| {
            place.strip_prefix(setting).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        TABLE.into_iter().find(|(setting, _)| inside(setting)).map(|(_, takes_effect)| takes_effect)
    }
}
