//! How often one caller may change things or ask for credentials.
//!
//! Responsible for the shape of that limit. Must never be confused with the limits of admissions: those are per session
//! and user type.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Changes of policy by privileged callers, sessions opened, delegations minted and revoked: of one principal, or of
/// all its agents, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Writes {
    /// In any 60 s.
    #[schemars(range(min = 1, max = 100_000))]
    pub per_minute: u32,
    /// In any 3600 s.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_hour: u32,
}
