//! How a caller proved who it is, and through whom it acts.
//!
//! Responsible for what an admission must know of a credential besides the caller itself: what it can be revoked by,
//! the agents it was handed through, and what its decision event says. Must never hold the credential, or anything it
//! could be made from.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::once::Once;
use crate::stored_policy::json;

/// Most hops of a chain of delegations.
pub const MOST_HOPS: usize = 8;

/// What is known of the credential a request came with, and of the request itself. By default, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// What sort of credential it was, such as `session` or `delegation`; empty where nobody says.
    pub source: &'static str,
    /// Network the request came from, truncated: of IPv4 a /24, of IPv6 a /48.
    pub network: Option<String>,
    /// HTTP method of the request.
    pub method: Option<String>,
    /// Route that matched it, as it is documented; never a path with what the caller filled in. Empty where unknown.
    pub route: &'static str,
    /// The agents it was handed through, root first; at most [`MOST_HOPS`].
    pub hops: Arc<[Hop]>,
    /// The [members](crate::Member) of the revocation set it dies with.
    pub members: Arc<[String]>,
    /// When it was issued, ms since the epoch; a revocation may spare what is issued later.
    pub issued_at_ms: Option<u64>,
    /// What came with it that counts once: whatever is decided about the request, it is used up.
    pub once: Option<Once>,
}

/// One hop of a chain of delegations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hop {
    /// The agent it was given to.
    pub client_id: String,
    /// Its `jti`.
    pub jti: String,
    /// Digest of its token; what it is counted and revoked by.
    pub hash: String,
    /// What it allows.
    pub scope: String,
    /// When it expires, seconds since the epoch.
    pub exp: u64,
    /// Why it was given, in its issuer's words.
    pub reason: String,
    /// Most calls through it in any minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_min: Option<u64>,
    /// Most calls through it in any hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_hour: Option<u64>,
}

/// What a decision event says of where a request came from. What is not known is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequestOrigin {
    /// What sort of credential the caller showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Network the request came from: of IPv4 a /24, of IPv6 a /48.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// HTTP method of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Route that matched it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The agents the credential was handed through, root first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
}

impl Provenance {
    /// The chain as a decision event keeps it; empty where there is none.
    pub(crate) fn hops_as_text(&self) -> String {
        if self.hops.is_empty() {
            return String::new();
        }
        // Strings and numbers can always be written.
        serde_json::to_string(&self.hops[..]).unwrap_or_default()
    }
}

impl RequestOrigin {
    /// What the fields of a decision event say.
    pub(crate) fn read([source, network, method, route, hops]: [&str; 5]) -> Result<Self, StoreError> {
        let known = |field: &str| (!field.is_empty()).then(|| field.to_owned());
        Ok(Self {
            source: known(source),
            network: known(network),
            method: known(method),
            route: known(route),
            hops: if hops.is_empty() { Vec::new() } else { json(hops.as_bytes())? },
        })
    }
}
