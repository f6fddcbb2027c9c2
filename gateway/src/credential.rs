//! What a caller presents, and the interface of whoever can tell what it is worth.
//!
//! Responsible for finding the one credential that decides, in the order the public interface fixes. Must never judge
//! it: that is a [`SessionResolver`]'s. Must never print one: the type has no text form.

use std::fmt;
use std::net::SocketAddr;

use async_trait::async_trait;
use axum::extract::Query;
use axum::http::header::{AUTHORIZATION, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use portcullis_lua::StoreError;
use serde::Deserialize;

use crate::caller::Caller;

/// A credential as presented, by the place it was found in.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// `Authorization: Bearer …`.
    Bearer(&'a str),
    /// `bearer_token` in the query of an event stream.
    QueryToken(&'a str),
    /// `Authorization: DPoP …`: of a bearer who proves to hold a key (RFC 9449).
    Bound(&'a str),
    /// `Authorization` of another scheme, or not text.
    Foreign,
    /// `X-Internal-Token`.
    InternalToken(&'a [u8]),
    /// The session cookie.
    SessionCookie(&'a str),
    /// `X-API-Key`.
    ApiKey(&'a [u8]),
    /// `x-amzn-oidc-data`, written by a balancer that logs its callers in.
    BalancerData(&'a [u8]),
}

impl Credential<'_> {
    /// Whether browsers send it by themselves, whichever page asks.
    pub(crate) fn is_ambient(&self) -> bool {
        matches!(self, Self::SessionCookie(_) | Self::BalancerData(_))
    }
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(***)",
            Self::QueryToken(_) => "QueryToken(***)",
            Self::Bound(_) => "Bound(***)",
            Self::Foreign => "Foreign(***)",
            Self::InternalToken(_) => "InternalToken(***)",
            Self::SessionCookie(_) => "SessionCookie(***)",
            Self::ApiKey(_) => "ApiKey(***)",
            Self::BalancerData(_) => "BalancerData(***)",
        })
    }
}

/// A request as far as it may say who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// What was presented.
    pub credential: Credential<'a>,
    /// The method, to which a proof of possession is bound; where another proxy asks about a request, that one's.
    pub method: &'a Method,
    /// The target, to which it is bound as well, and likewise.
    pub uri: &'a Uri,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// `DPoP` (RFC 9449), if it was sent.
    pub proof: Option<&'a [u8]>,
}

/// Why a credential proves nobody, or cannot be judged.
#[derive(Debug)]
pub enum Unproven {
    /// It is worth nothing, for a reason that audit events name and callers are not told.
    Failed(&'static str),
    /// What it says about its bearer could not be looked up.
    Store(StoreError),
    /// Whoever issues such credentials cannot be asked for its keys.
    Provider,
    /// Nobody can say at the moment whether it has been revoked.
    Unknown,
}

impl From<StoreError> for Unproven {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Resolves one kind of credential.
#[async_trait]
pub trait SessionResolver: fmt::Debug + Send + Sync {
    /// The caller this credential proves; `None` when it is not of this resolver's kind.
    async fn resolve(&self, presented: &Presented<'_>) -> Result<Option<Caller>, Unproven>;
}

/// The same header twice: which of them was meant cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmbiguousCredential;

pub(crate) const INTERNAL_TOKEN: HeaderName = HeaderName::from_static("x-internal-token");
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The claims of a balancer's caller, signed by it (AWS, "Authenticate users using an Application Load Balancer").
pub(crate) const BALANCER_DATA: HeaderName = HeaderName::from_static("x-amzn-oidc-data");
/// Proof of possession (RFC 9449 §4.1).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");
pub(crate) const SESSION_COOKIES: [&str; 2] = ["__Host-portcullis_session", "portcullis_session"];

/// The query of an event stream: `EventSource` cannot set a header.
#[derive(Deserialize)]
struct EventsQuery {
    bearer_token: Option<String>,
}

/// The `bearer_token` of an event stream's query; `None` on every other path.
pub(crate) fn query_token(parts: &Parts) -> Option<String> {
    let path = parts.uri.path();
    if !(path.starts_with("/v1/tasks/") && path.ends_with("/events")) {
        return None;
    }
    Query::<EventsQuery>::try_from_uri(&parts.uri).ok().and_then(|Query(query)| query.bearer_token)
}

/// The first credential presented, in the fixed order; `None` when there is none at all. `balanced` says whether the
/// peer is a balancer that logs callers in: of others its header means nothing.
pub(crate) fn presented<'a>(
    headers: &'a HeaderMap,
    query_token: Option<&'a str>,
    balanced: bool,
) -> Result<Option<Credential<'a>>, AmbiguousCredential> {
    if let Some(value) = single(headers, &AUTHORIZATION)? {
        return Ok(Some(bearer(value)));
    }
    if let Some(value) = single(headers, &INTERNAL_TOKEN)? {
        return Ok(Some(Credential::InternalToken(value.as_bytes())));
    }
    if let Some(value) = session_cookie(headers) {
        return Ok(Some(Credential::SessionCookie(value)));
    }
    if let Some(value) = single(headers, &API_KEY)? {
        return Ok(Some(Credential::ApiKey(value.as_bytes())));
    }
    if let Some(token) = query_token {
        return Ok(Some(Credential::QueryToken(token)));
    }
    let data = if balanced { single(headers, &BALANCER_DATA)? } else { None };
    Ok(data.map(|value| Credential::BalancerData(value.as_bytes())))
}

/// What proves that the bearer of a credential holds its key, if it was sent.
pub(crate) fn proof(headers: &HeaderMap) -> Result<Option<&[u8]>, AmbiguousCredential> {
    Ok(single(headers, &PROOF)?.map(HeaderValue::as_bytes))
}

fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, AmbiguousCredential> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(AmbiguousCredential) } else { Ok(first) }
}

/// RFC 9110: scheme, space, token; the scheme's case does not matter.
fn bearer(value: &HeaderValue) -> Credential<'_> {
    match value.to_str().ok().and_then(|text| text.split_once(' ')) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Credential::Bearer(token.trim()),
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("dpop") => Credential::Bound(token.trim()),
        _ => Credential::Foreign,
    }
}

/// Whether a cookie of this name is a session of this gateway's.
pub(crate) fn is_session_cookie(name: &[u8]) -> bool {
    SESSION_COOKIES.iter().any(|known| known.as_bytes() == name)
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = || {
        let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
    };
    SESSION_COOKIES.iter().find_map(|wanted| pairs().find(|(name, _)| name == wanted).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn kind(lines: &[(&'static str, &'static str)], query: Option<&str>) -> String {
        kind_from(lines, query, true)
    }

    fn kind_from(lines: &[(&'static str, &'static str)], query: Option<&str>, balanced: bool) -> String {
        let headers = headers(lines);
        match presented(&headers, query, balanced) {
            Err(AmbiguousCredential) => "ambiguous".to_owned(),
            Ok(None) => "none".to_owned(),
            Ok(Some(Credential::Foreign)) => "foreign".to_owned(),
            Ok(Some(Credential::Bearer(text))) => format!("bearer {text}"),
            Ok(Some(Credential::QueryToken(text))) => format!("query {text}"),
            Ok(Some(Credential::Bound(text))) => format!("bound {text}"),
            Ok(Some(Credential::BalancerData(bytes))) => format!("balancer {}", String::from_utf8_lossy(bytes)),
            Ok(Some(Credential::SessionCookie(text))) => format!("cookie {text}"),
            Ok(Some(Credential::InternalToken(bytes))) => format!("internal {}", String::from_utf8_lossy(bytes)),
            Ok(Some(Credential::ApiKey(bytes))) => format!("key {}", String::from_utf8_lossy(bytes)),
        }
    }

    #[test]
    fn the_first_place_in_the_fixed_order_decides() {
        let all = [
            ("x-api-key", "k"),
            ("cookie", "a=b; portcullis_session=s"),
            ("x-internal-token", "i"),
            ("authorization", "Bearer t"),
        ];
        assert_eq!(kind(&all, Some("q")), "bearer t");
        assert_eq!(kind(&all[..3], Some("q")), "internal i");
        assert_eq!(kind(&all[..2], Some("q")), "cookie s");
        assert_eq!(kind(&all[..1], Some("q")), "key k");
        let balanced = [("x-amzn-oidc-data", "d")];
        assert_eq!(kind(&balanced, Some("q")), "query q");
        assert_eq!(kind(&balanced, None), "balancer d");
        assert_eq!(kind_from(&balanced, None, false), "none", "anybody can write a header");
        assert_eq!(kind(&[], None), "none");
    }

    #[test]
    fn what_is_no_bearer_token_is_still_a_presented_credential() {
        assert_eq!(kind(&[("authorization", "Basic abc")], None), "foreign");
        assert_eq!(kind(&[("authorization", "")], None), "foreign");
        assert_eq!(kind(&[("authorization", "bEARER  t ")], None), "bearer t");
        assert_eq!(kind(&[("authorization", "DPoP t")], None), "bound t");
        assert_eq!(kind(&[("x-api-key", "")], None), "key ");
    }

    #[test]
    fn the_same_header_twice_is_ambiguous() {
        assert_eq!(kind(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], None), "ambiguous");
        assert_eq!(kind(&[("x-internal-token", "a"), ("x-internal-token", "a")], None), "ambiguous");
    }

    #[test]
    fn the_host_bound_cookie_goes_first_and_other_cookies_mean_nothing() {
        let both = [("cookie", "portcullis_session=weak"), ("cookie", "x=1;__Host-portcullis_session=strong")];
        assert_eq!(kind(&both, None), "cookie strong");
        assert_eq!(kind(&[("cookie", "session=1; not_portcullis_session=2")], None), "none");
    }

    #[test]
    fn a_token_in_the_query_counts_on_event_streams_only() {
        let token = |uri: &str| query_token(&Request::get(uri).body(()).unwrap().into_parts().0);
        assert_eq!(token("/v1/tasks/1/events?bearer_token=a%3Ab&x=1").as_deref(), Some("a:b"));
        assert_eq!(token("/v1/tasks/1?bearer_token=a"), None);
        assert_eq!(token("/v1/limits/events?bearer_token=a"), None);
    }

    #[test]
    fn a_credential_does_not_print_itself() {
        assert_eq!(format!("{:?}", Credential::Bearer("canary")), "Bearer(***)");
        assert_eq!(format!("{:?}", Credential::ApiKey(b"canary")), "ApiKey(***)");
    }
}
