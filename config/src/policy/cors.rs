//! Which web pages may call: cross-origin resource sharing.
//!
//! Responsible for the shape of that list. Must never hold patterns: an origin is one that stands here letter by
//! letter, because every clever match so far has matched somebody else's domain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pages of other origins that may call the public listener of the gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    /// Origins as browsers write them, such as `https://app.example.com`; `*` alone is any origin.
    #[schemars(length(max = 64))]
    pub allowed_origins: Vec<String>,
    /// Whether these pages may send cookies along; not with `*`.
    pub allow_credentials: bool,
    /// How long a browser may remember what it was allowed, seconds.
    #[schemars(range(max = 86_400))]
    pub max_age_seconds: u64,
}

impl Cors {
    /// Whether every origin may call.
    #[must_use]
    pub fn allows_any(&self) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed == "*")
    }
}
