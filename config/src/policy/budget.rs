//! Budgets: what callers may spend per calendar period.
//!
//! Responsible for their shape and bounds. Must never hold an amount spent, which lives in Redis alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::UserType;

/// An amount of a unit that may be spent per period.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is counted: `requests`, or a name a client estimates and a handler reports (`tokens`, `micro_dollars`).
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,31}$"))]
    pub unit: String,
    /// Units per period; nobody gets past `spent + held + estimate ≤ amount`.
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub amount: u64,
    /// Calendar period in UTC after which it is full again.
    pub period: Period,
    /// Whom it belongs to: each gets an amount of its own.
    pub per: Subject,
    /// Held for a request that gives no estimate in this unit.
    #[schemars(range(max = 1_000_000_000_000_000_u64))]
    pub default_estimate: u64,
    /// User types it applies to; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
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
    /// One network address, whoever calls from it: an IPv4 address or an IPv6 /64.
    ClientAddress,
    /// One agent that acts for principals, and those it hands on to; a request without an agent has no such subject.
    Agent,
}
