//! What is left when the load is over and everything has come to rest.
//!
//! Responsible for the end of every accepted task and for what stands in accounts. Must never leave out a task because
//! it is unknown: that is the finding.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// Each task that a client or a decision event knows of, by id.
    pub tasks: BTreeMap<String, TaskEnd>,
    /// Tasks still waiting, by the cluster's own count.
    pub queued: u64,
    /// Tasks still leased, by the cluster's own count.
    pub running: u64,
    /// Tasks still delayed, by the cluster's own count.
    pub delayed: u64,
    /// Every budget that anything was spent from or held on.
    pub budgets: Vec<AccountEnd>,
    /// Keys of the scope that have no expiry, by name without the prefix: what stays for ever.
    pub lasting_keys: Vec<String>,
    /// How long it took to come to rest, µs after the last call was sent; `None` if it did not in the time given.
    pub rested_us: Option<u64>,
}

/// How a task stands at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskEnd {
    /// `succeeded`, `queued` and so on; `None` where the cluster does not know the task.
    pub status: Option<String>,
    /// Attempts it has used.
    pub attempts: u32,
    /// When it was accepted, Redis clock, ms.
    pub created_ms: Option<u64>,
    /// When it ended, Redis clock, ms.
    pub finished_ms: Option<u64>,
}

/// What a budget holds for one subject at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AccountEnd {
    /// Name of the budget.
    pub name: String,
    /// Whose.
    pub subject: String,
    /// Units spent in the period.
    pub spent: u64,
    /// Units held.
    pub held: u64,
    /// Units allowed per period.
    pub amount: u64,
}
