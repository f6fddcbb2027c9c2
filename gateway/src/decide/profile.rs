//! Profiles: which proxy asks, because each understands other answers.
//!
//! Responsible for finding the profile of a request. Must never name a status: what becomes of one is in `respond.rs`.

use axum::extract::Query;
use axum::http::request::Parts;

use super::below;

/// What is asked in the query.
pub(super) type Pairs = Vec<(String, String)>;

/// Where the original path follows, for Envoy's `path_prefix`.
const ENVOY: &str = "/envoy";

/// The proxy that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Any other: takes statuses as they are.
    Plain,
    /// nginx `auth_request`: knows 2xx, 401 and 403; anything else is a failure of its own.
    Nginx,
    /// Envoy `ext_authz` over HTTP: exactly 200 is a yes, and 5xx is no answer, which `failure_mode_allow` lets
    /// through.
    Envoy,
    /// Traefik `ForwardAuth`: hands the whole answer on unless it is 2xx.
    Traefik,
    /// Caddy `forward_auth`: likewise.
    Caddy,
}

impl Profile {
    /// All of them by name.
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("plain", Self::Plain),
        ("nginx", Self::Nginx),
        ("envoy", Self::Envoy),
        ("traefik", Self::Traefik),
        ("caddy", Self::Caddy),
    ];

    /// Of a request for a decision: what its path says, else its query; never a header, which may be a client's. An
    /// unknown name is answered plainly, and refused. `None`: it is no request for a decision.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let rest = below(parts.uri.path())?;
        if original_path(rest).is_some() {
            return Some(Self::Envoy);
        }
        let named = |name: &str| Self::named(name).unwrap_or(Self::Plain);
        rest.is_empty().then(|| name(parts).map_or(Self::Plain, |name| named(&name)))
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, profile)| profile)
    }
}

/// The name given in the query, which is the operator's.
pub(super) fn name(parts: &Parts) -> Option<String> {
    pairs(parts).into_iter().find(|(name, _)| name == "profile").map(|(_, value)| value)
}

/// The query of this endpoint.
pub(super) fn pairs(parts: &Parts) -> Pairs {
    Query::<Pairs>::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default()
}

/// The path behind Envoy's prefix.
pub(super) fn original_path(rest: &str) -> Option<&str> {
    rest.strip_prefix(ENVOY).filter(|path| path.is_empty() || path.starts_with('/'))
}
