//! How a caller proved who it is, and through whom it acts.
//!
//! Responsible for what an admission must know of a credential besides the caller itself: what it can be revoked by,
//! the agents it was handed through, and what its decision event says. Must never hold the credential, or anything it
//! could be made from.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::once::Once;

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
    /// When its head had been read: from then on the decision event says how long it took.
    pub received: Option<Instant>,
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
    /// Trace it belongs to, of its W3C trace context: 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Time from the request's head being read until the batch with it was handed to Redis, µs: what the gateway spent,
    /// waiting for its body and for the call before included. What Redis took nobody knows before it has decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_us: Option<u64>,
    /// The agents the credential was handed through, root first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<Hop>,
    /// The chain is longer than an event keeps: names, scopes and reasons in it may end early, digests do not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hops_cut: bool,
}
