//! The policy: everything the cluster is told about who may in, how fast, how much and when.
//!
//! Responsible for the shape of the effective document (a superset of `KDCube`'s `gateway.yaml`), its units and the
//! questions others ask of it. Must never hold a default number: those stand in `default.yaml`, over which every
//! document is merged before it becomes a [`Policy`]. Relations between values are checked in `check.rs`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::UserType;

/// The effective policy of one scope, as seen by one component.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Named set of defaults the document was written for; carried, not interpreted.
    pub profile: Profile,
    /// Tenant this document belongs to; a placeholder is resolved from `TENANT_ID`.
    pub tenant: String,
    /// Project this document belongs to; a placeholder is resolved from `PROJECT_ID`.
    pub project: String,
    /// Name of this instance in heartbeats; `INSTANCE_ID` wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Redis to use when `REDIS_URL` is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<String>,
    /// How fast each user type may come.
    pub rate_limits: RateLimits,
    /// Declared user types: weights, thresholds, and whose limits a type borrows.
    pub user_types: BTreeMap<UserType, UserTypeSettings>,
    /// How much one processor runs at once.
    pub service_capacity: ServiceCapacity,
    /// When depth against capacity turns a user type away.
    pub backpressure: Backpressure,
    /// When repeated failure of a task kind turns callers away.
    pub circuit_breakers: CircuitBreakers,
    /// What callers may spend.
    pub budgets: BTreeMap<String, Budget>,
    /// Leases, retries, retention and size bounds of tasks.
    pub queue: Queue,
    /// Heartbeats and retention of statistics.
    pub monitoring: Monitoring,
    /// Lifetimes of keys in Redis.
    pub redis: RedisLifetimes,
    /// Connection pools of the reference system; only `redis_max_connections` is used here.
    pub pools: Pools,
    /// Absolute bounds.
    pub limits: Limits,
    /// Paths that take rate limit, pressure, breaker and budget (regular expressions).
    pub guarded_rest_patterns: Vec<String>,
    /// Paths that skip throttling (regular expressions).
    pub bypass_throttling_patterns: Vec<String>,
    /// Publish limits of the reference system's data bus; carried, not interpreted.
    pub data_bus: DataBus,
}

/// Profile names of the reference system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Profile {
    Development,
    Testing,
    Production,
    LoadTest,
}

/// Session limits by user type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// One entry per user type.
    pub roles: BTreeMap<UserType, RoleLimit>,
}

/// The two sliding windows of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleLimit {
    /// Requests in any 3600 s; −1 is unlimited.
    pub hourly: i64,
    /// Requests in any `burst_window`.
    pub burst: u64,
    /// Length of the burst window, seconds.
    pub burst_window: u64,
}

/// What a declared user type borrows and how it is weighed. Every field may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserTypeSettings {
    /// The user type whose limits, threshold and weight apply where this type has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub falls_back_to: Option<UserType>,
    /// Share of the queue against the other types.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Share of capacity at which this type is refused; the built-in types' thresholds stand in `backpressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure_threshold: Option<f64>,
}

/// Capacity of one processor process and its fallback service time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCapacity {
    /// Attempts one process runs at once.
    pub concurrent_requests_per_process: u64,
    /// Processes per instance.
    pub processes_per_instance: u64,
    /// Service time assumed until one has been measured, seconds.
    pub avg_processing_time_seconds: f64,
    /// Product of the two above; checked when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_requests_per_instance: Option<u64>,
    /// Theoretical throughput of an instance; carried, not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_hour: Option<u64>,
}

/// Thresholds of depth against capacity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backpressure {
    /// Share of the slots kept free: `floor(slots × (1 − capacity_buffer))` count as running room.
    pub capacity_buffer: f64,
    /// Queue room per slot: `floor(slots × queue_depth_multiplier)`.
    pub queue_depth_multiplier: f64,
    /// Share of capacity at which anonymous callers are refused.
    pub anonymous_pressure_threshold: f64,
    /// Share of capacity at which registered callers are refused.
    pub registered_pressure_threshold: f64,
    /// Share of capacity at which paid callers are refused.
    pub paid_pressure_threshold: f64,
    /// Share of capacity at which everyone is refused.
    pub hard_limit_threshold: f64,
    /// Component whose heartbeats make up the capacity; only `proc` sends any.
    pub capacity_source_component: String,
}

/// Breakers: those of the reference system, carried and checked, and the breaker of each task kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's flat keys, carried and not interpreted")]
pub struct CircuitBreakers {
    pub auth_failure_threshold: u64,
    pub auth_recovery_timeout: u64,
    pub auth_success_threshold: u64,
    pub auth_window_size: u64,
    pub auth_half_open_max_calls: u64,
    pub rate_limit_failure_threshold: u64,
    pub rate_limit_recovery_timeout: u64,
    pub rate_limit_success_threshold: u64,
    pub rate_limit_window_size: u64,
    pub rate_limit_half_open_max_calls: u64,
    pub backpressure_failure_threshold: u64,
    pub backpressure_recovery_timeout: u64,
    pub backpressure_success_threshold: u64,
    pub backpressure_window_size: u64,
    pub backpressure_half_open_max_calls: u64,
    /// The breaker every task kind has, fed by settled attempts.
    pub tasks: TaskBreaker,
}

/// Breaker of a task kind over a sliding window of settled attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskBreaker {
    /// Share of failed attempts in the window that opens it.
    pub failure_rate: f64,
    /// Share of slow attempts in the window that opens it.
    pub slow_call_rate: f64,
    /// An attempt longer than this counts as slow, milliseconds.
    pub slow_call_ms: u64,
    /// Length of the window, seconds.
    pub window_seconds: u64,
    /// Attempts the window must hold before a rate means anything.
    pub minimum_calls: u64,
    /// How long it stays open before probes are let through, seconds.
    pub open_seconds: u64,
    /// Probes let through while half-open; all must succeed to close it.
    pub half_open_probes: u64,
}

/// An amount of a unit that may be spent per period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is counted: `requests`, or a name a client estimates and a handler reports (`tokens`, `micro_dollars`).
    pub unit: String,
    /// Units per period; nobody gets past `spent + held + estimate ≤ amount`.
    pub amount: u64,
    /// Calendar period in UTC after which it is full again.
    pub period: Period,
    /// Whom it belongs to: each gets an amount of its own.
    pub per: Subject,
    /// Held for a request that gives no estimate in this unit.
    pub default_estimate: u64,
    /// User types it applies to; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_types: Option<Vec<UserType>>,
}

/// Calendar periods, aligned in UTC. Weeks start on Monday.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Period {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// Whom a budget or a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// The whole scope.
    Tenant,
    /// Everybody of one user type together.
    UserType,
    /// One principal over all its sessions.
    Principal,
    /// One session.
    Session,
}

/// Life of a task: lease, retries, retention, bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// A lease not renewed for this long is reclaimed, milliseconds.
    pub lease_ms: u64,
    /// Attempts of a task that does not say otherwise.
    pub max_attempts: u64,
    /// Most attempts a task may ask for.
    pub max_attempts_limit: u64,
    /// Longest one attempt may run, milliseconds.
    pub attempt_timeout_ms: u64,
    /// Backoff between attempts.
    pub retry: Retry,
    /// Largest payload, bytes.
    pub max_payload_bytes: u64,
    /// Largest result, bytes; a larger one fails the task.
    pub max_result_bytes: u64,
    /// Longest delayed start, milliseconds.
    pub max_delay_ms: u64,
    /// Most tasks that may wait for a delayed start.
    pub max_delayed: u64,
    /// How long a finished task can be read, seconds.
    pub result_ttl_seconds: u64,
    /// How long an `Idempotency-Key` is remembered, seconds.
    pub idempotency_ttl_seconds: u64,
    /// Dead letters kept; the oldest goes first.
    pub max_dead_letters: u64,
    /// Output pieces kept per task.
    pub max_output_events: u64,
    /// Decision events kept per scope.
    pub max_decision_events: u64,
}

/// Exponential backoff with full jitter: `random(0.5..1) × min(initial × factor^(attempt−1), max)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Backoff after the first attempt, milliseconds.
    pub initial_ms: u64,
    /// Growth per attempt.
    pub factor: f64,
    /// Longest backoff, milliseconds.
    pub max_ms: u64,
}

/// Heartbeats and statistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Monitoring {
    /// Retention of throttling statistics, hours.
    pub throttling_events_retention_hours: u64,
    /// Carried, not interpreted.
    pub session_analytics_enabled: bool,
    /// Carried, not interpreted.
    pub circuit_breaker_stats_retention_hours: u64,
    /// Carried, not interpreted.
    pub queue_analytics_enabled: bool,
    /// A processor that has not been heard of for this long counts for nothing, seconds.
    pub heartbeat_timeout_seconds: u64,
    /// Carried, not interpreted.
    pub instance_cache_ttl_seconds: u64,
}

/// Key lifetimes of the reference system, seconds. Only `session_ttl` is used here (by the identity step).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's keys, carried and not interpreted")]
pub struct RedisLifetimes {
    pub rate_limit_key_ttl: u64,
    pub session_ttl: u64,
    pub analytics_ttl: u64,
    pub circuit_breaker_stats_ttl: u64,
    pub heartbeat_ttl: u64,
    pub sse_stats_ttl_seconds: u64,
    pub sse_stats_max_age_seconds: u64,
}

/// Pool sizes of the reference system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's keys, carried and not interpreted")]
pub struct Pools {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg_pool_min_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg_pool_max_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis_max_connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pg_max_connections: Option<u64>,
}

/// Absolute bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most tasks queued and running at once whatever the capacity; 0 is no such bound.
    pub max_queue_size: u64,
    /// Event streams one gateway serves at once; 0 is no bound.
    pub max_sse_connections_per_instance: u64,
    /// Carried, not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_integrations_ops_concurrency: Option<u64>,
}

/// Publish limits of the reference system's data bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataBus {
    /// By user type; carried, not interpreted.
    pub publish_limits: BTreeMap<UserType, PublishLimits>,
}

/// One user type's publish limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the reference system's keys, carried and not interpreted")]
pub struct PublishLimits {
    pub enabled: bool,
    pub packages_per_minute: i64,
    pub messages_per_minute: i64,
    pub bytes_per_minute: i64,
    pub max_messages_per_package: i64,
    pub max_package_bytes: i64,
    pub window_seconds: i64,
}
