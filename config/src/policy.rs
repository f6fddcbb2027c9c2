//! The policy: everything the cluster is told about who may in, how fast, how much and when.
//!
//! Responsible for the shape of the effective document (a superset of `KDCube`'s `gateway.yaml`), its units and the
//! bounds of each value alone. Must never hold a default number: those stand in `default.yaml`, over which every
//! document is merged before it becomes a [`Policy`]. Relations between values are checked in `check.rs`. The bounds
//! keep every product of a count and a time in milliseconds below 2^53, so that it is exact in Lua.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::UserType;
use crate::redis_url::RedisUrl;

mod breaker;
mod budget;
mod queue;
mod kind;
mod named_limit;
mod carried;
mod route_class;
mod cors;
mod writes;
mod tier;

pub use breaker::{CircuitBreakers, TaskBreaker};
pub use budget::{Budget, Period, Subject};
pub use carried::{DataBus, Pools, PublishLimits, RedisLifetimes};
pub use cors::Cors;
pub use kind::{KindBreaker, KindRetry, KindSettings};
pub use named_limit::NamedLimit;
pub use queue::{Queue, Retry};
pub(crate) use route_class::BUILT_IN as BUILT_IN_CLASSES;
pub use route_class::{GUARDED, ProxySettings, RouteClassSettings};
pub use writes::Writes;

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
    #[schemars(with = "Option<String>")]
    pub redis_url: Option<RedisUrl>,
    /// How fast each user type may come.
    pub rate_limits: RateLimits,
    /// Declared user types: weights, thresholds, and whose limits a type borrows.
    #[schemars(extend("maxProperties" = 64))]
    pub user_types: BTreeMap<UserType, UserTypeSettings>,
    /// How much one processor runs at once.
    pub service_capacity: ServiceCapacity,
    /// When depth against capacity turns a user type away.
    pub backpressure: Backpressure,
    /// When repeated failure of a task kind turns callers away.
    pub circuit_breakers: CircuitBreakers,
    /// What callers may spend.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z][a-z0-9_-]{0,63}$" }, "maxProperties" = 64))]
    pub budgets: BTreeMap<String, Budget>,
    /// Leases, retries, retention and size bounds of tasks.
    pub queue: Queue,
    /// What differs for one kind of task: cost, attempts, backoff, breaker.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" }, "maxProperties" = 64))]
    pub kinds: BTreeMap<String, KindSettings>,
    /// Heartbeats and retention of statistics.
    pub monitoring: Monitoring,
    /// Lifetimes of keys in Redis; carried, not interpreted.
    pub redis: RedisLifetimes,
    /// Connection pools of the reference system; carried, not interpreted.
    pub pools: Pools,
    /// Absolute bounds.
    pub limits: Limits,
    /// Paths that take rate limit, pressure, breaker and budget (regular expressions).
    #[schemars(length(max = 256))]
    pub guarded_rest_patterns: Vec<String>,
    /// Paths to which rate limits do not apply (regular expressions).
    #[schemars(length(max = 256))]
    pub bypass_throttling_patterns: Vec<String>,
    /// Classes of paths with gates of their own, by name.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$" }, "maxProperties" = 64))]
    pub route_classes: BTreeMap<String, RouteClassSettings>,
    /// How long and how large a proxied exchange may be.
    pub proxy: ProxySettings,
    /// Which web pages may call.
    pub cors: Cors,
    /// How often one caller may change things or ask for credentials.
    pub writes: Writes,
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

/// The two limits of a session by user type, and named ones of other subjects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// One entry per user type.
    #[schemars(extend("maxProperties" = 64))]
    pub roles: BTreeMap<UserType, RoleLimit>,
    /// Further limits, by the name that refusals and the `RateLimit` field carry.
    #[schemars(extend("propertyNames" = { "pattern": "^[a-z][a-z0-9_-]{0,63}$" }, "maxProperties" = 32))]
    pub named: BTreeMap<String, NamedLimit>,
}

/// The two sliding windows of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleLimit {
    /// Requests in any 3600 s; −1 is unlimited.
    #[schemars(range(min = -1, max = 1_000_000_000))]
    pub hourly: i64,
    /// Requests in any `burst_window`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u64,
    /// Length of the burst window, seconds.
    #[schemars(range(min = 1, max = 86_400))]
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
    #[schemars(range(max = 1_000), extend("exclusiveMinimum" = 0))]
    pub weight: Option<f64>,
    /// Share of capacity at which this type is refused; the built-in types' thresholds stand in `backpressure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub pressure_threshold: Option<f64>,
}

/// Capacity of one processor process and its fallback service time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceCapacity {
    /// Attempts one process runs at once.
    #[schemars(range(min = 1, max = 100_000))]
    pub concurrent_requests_per_process: u64,
    /// Processes per instance.
    #[schemars(range(min = 1, max = 10_000))]
    pub processes_per_instance: u64,
    /// Service time assumed until one has been measured, seconds.
    #[schemars(range(max = 604_800), extend("exclusiveMinimum" = 0))]
    pub avg_processing_time_seconds: f64,
    /// Product of the two above; checked when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub concurrent_requests_per_instance: Option<u64>,
    /// Theoretical throughput of an instance; carried, not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000_000_000_u64))]
    pub requests_per_hour: Option<u64>,
}

/// Thresholds of depth against capacity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backpressure {
    /// Share of the slots kept free: `floor(slots × (1 − capacity_buffer))` count as running room.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub capacity_buffer: f64,
    /// Queue room per slot: `floor(slots × queue_depth_multiplier)`.
    #[schemars(range(max = 10_000), extend("exclusiveMinimum" = 0))]
    pub queue_depth_multiplier: f64,
    /// Share of capacity at which anonymous callers are refused.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub anonymous_pressure_threshold: f64,
    /// Share of capacity at which registered callers are refused.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub registered_pressure_threshold: f64,
    /// Share of capacity at which paid callers are refused.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub paid_pressure_threshold: f64,
    /// Share of capacity at which everyone is refused.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    pub hard_limit_threshold: f64,
    /// Component whose heartbeats make up the capacity; only `proc` sends any.
    #[schemars(length(min = 1))]
    pub capacity_source_component: String,
}

/// Heartbeats and statistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Monitoring {
    /// Retention of throttling statistics, hours.
    #[schemars(range(min = 1, max = 87_600))]
    pub throttling_events_retention_hours: u64,
    /// Carried, not interpreted.
    pub session_analytics_enabled: bool,
    /// Carried, not interpreted.
    #[schemars(range(min = 1, max = 87_600))]
    pub circuit_breaker_stats_retention_hours: u64,
    /// Carried, not interpreted.
    pub queue_analytics_enabled: bool,
    /// A processor that has not been heard of for this long counts for nothing, seconds.
    #[schemars(range(min = 1, max = 3_600))]
    pub heartbeat_timeout_seconds: u64,
    /// Carried, not interpreted.
    #[schemars(range(max = 86_400))]
    pub instance_cache_ttl_seconds: u64,
    /// Revisions of the policy kept for looking back and rolling back to; the oldest goes first.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_policy_revisions: u64,
    /// Audit events kept; the oldest goes first.
    // Fewer, and whoever may change the policy could wipe out what it did.
    #[schemars(range(min = 1_000, max = 10_000_000))]
    pub max_audit_events: u64,
}

/// Absolute bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most tasks queued and running at once whatever the capacity; 0 is no such bound.
    #[schemars(range(max = 1_000_000_000))]
    pub max_queue_size: u64,
    /// Event streams one gateway serves at once; 0 is no bound.
    #[schemars(range(max = 10_000_000))]
    pub max_sse_connections_per_instance: u64,
    /// Carried, not interpreted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 10_000_000))]
    pub max_integrations_ops_concurrency: Option<u64>,
}
