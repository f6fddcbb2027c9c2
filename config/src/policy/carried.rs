//! Sections of the reference system that are read and checked so that its documents load.
//!
//! Responsible for their shape and bounds. Must never be given a meaning here: what takes effect moves to `policy.rs`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::UserType;

/// Key lifetimes of the reference system, seconds; carried, not interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's keys, carried and not interpreted")]
pub struct RedisLifetimes {
    #[schemars(range(min = 1, max = 31_536_000))]
    pub rate_limit_key_ttl: u64,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub session_ttl: u64,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub analytics_ttl: u64,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub circuit_breaker_stats_ttl: u64,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub heartbeat_ttl: u64,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub sse_stats_ttl_seconds: u64,
    #[schemars(range(min = 1, max = 31_536_000))]
    pub sse_stats_max_age_seconds: u64,
}

/// Pool sizes of the reference system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's keys, carried and not interpreted")]
pub struct Pools {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub pg_pool_min_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub pg_pool_max_size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub redis_max_connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub pg_max_connections: Option<u64>,
}

/// Publish limits of the reference system's data bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataBus {
    /// By user type; carried, not interpreted.
    #[schemars(extend("maxProperties" = 64))]
    pub publish_limits: BTreeMap<UserType, PublishLimits>,
}

/// One user type's publish limits; −1 is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the reference system's keys, carried and not interpreted")]
pub struct PublishLimits {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000_000_i64))]
    pub packages_per_minute: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000_000_i64))]
    pub messages_per_minute: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000_000_i64))]
    pub bytes_per_minute: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000_000_i64))]
    pub max_messages_per_package: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 1_000_000_000_000_i64))]
    pub max_package_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub window_seconds: Option<i64>,
}
