//! Named limits: sliding windows beside the two that every session has.
//!
//! Responsible for their shape and bounds. Must never hold what has been used, which lives in Redis alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::UserType;
use crate::policy::Subject;

/// A sliding window shared by all requests of one subject: no `window_seconds` ever hold more than `limit` units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedLimit {
    /// Whom it counts: each gets a window of its own. A request without such a subject (no agent) is not limited by it.
    pub per: Subject,
    /// What is counted: `requests`, weighted by the kind's `cost`, or a unit that requests estimate, such as `tokens`.
    #[schemars(regex(pattern = r"^[a-z][a-z0-9_]{0,31}$"))]
    pub unit: String,
    /// Most units in any window.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub limit: u64,
    /// Length of the window, seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: u64,
    /// Counted for a request that gives no estimate in this unit; without meaning for `requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000_000))]
    pub default_estimate: Option<u64>,
    /// User types it applies to; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub user_types: Option<Vec<UserType>>,
    /// Task kinds it applies to, declared in `kinds` or not; left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,63}$")))]
    pub kinds: Option<Vec<String>>,
}

impl NamedLimit {
    /// Whether a request of this type and kind counts.
    #[must_use]
    pub fn applies_to(&self, user_type: &UserType, kind: &str) -> bool {
        self.user_types.as_ref().is_none_or(|types| types.contains(user_type))
            && self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|each| each == kind))
    }
}
