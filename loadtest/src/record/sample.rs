//! The state of the cluster at one moment.
//!
//! Responsible for numbers, taken together at one time. Must never hold a difference or a rate: reports derive those.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The cluster at one moment. What could not be read is `None` or empty: the moment itself says something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at_us: u64,
    /// Tasks waiting.
    pub queued: Option<u64>,
    /// Tasks leased.
    pub running: Option<u64>,
    /// Tasks whose start is delayed, or that back off.
    pub delayed: Option<u64>,
    /// Dead letters.
    pub dead: Option<u64>,
    /// Depth the live processors stand for.
    pub capacity: Option<u64>,
    /// Depth at which each user type is refused.
    pub thresholds: BTreeMap<String, u64>,
    /// Depth at which everybody is refused.
    pub hard_limit: Option<u64>,
    /// Slots of live, accepting processors.
    pub slots: Option<u64>,
    /// Live, accepting processors.
    pub live_processors: Option<u64>,
    /// Waiting tasks by user type.
    pub queued_by_type: BTreeMap<String, u64>,
    /// Totals of Redis by command since it was started, lower case; scripts by the command that calls them.
    pub redis: BTreeMap<String, CommandTotal>,
    /// `used_memory` of Redis, bytes.
    pub redis_memory_bytes: Option<u64>,
    /// Processes of the cluster that run on this machine, by name, such as `gateway-0` and `redis`.
    pub processes: BTreeMap<String, ProcessSample>,
}

/// What a command has cost Redis since the server was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandTotal {
    /// Calls.
    pub calls: u64,
    /// Time in the command, µs.
    pub time_us: u64,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    /// Time on a processor since it was started, user and system, ms.
    pub cpu_ms: u64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
}
