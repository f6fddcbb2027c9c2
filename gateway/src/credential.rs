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
    SessionCookie(&'a [u8]),
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
#[derive(Clone, Copy)]
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

impl fmt::Debug for Presented<'_> {
    /// Without the proof and the query, where an event stream's token stands.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Presented");
        shown.field("credential", &self.credential).field("method", self.method).field("path", &self.uri.path());
        shown.field("peer", &self.peer).finish_non_exhaustive()
    }
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

/// The same thing twice, by its name: which of them was meant cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AmbiguousCredential(pub(crate) &'static str);

pub(crate) const INTERNAL_TOKEN: HeaderName = HeaderName::from_static("x-internal-token");
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The claims of a balancer's caller, signed by it (AWS, "Authenticate users using an Application Load Balancer").
pub(crate) const BALANCER_DATA: HeaderName = HeaderName::from_static("x-amzn-oidc-data");
/// Proof of possession (RFC 9449 §4.1).
pub(crate) const PROOF: HeaderName = HeaderName::from_static("dpop");
/// The session cookie where it goes over HTTPS only, and where it does not.
pub(crate) const SESSION_COOKIES: [&str; 2] = ["__Host-portcullis_session", "portcullis_session"];

/// In the query of an event stream: `EventSource` cannot set a header.
const QUERY_TOKEN: &str = "bearer_token";

/// The `bearer_token` of an event stream's query; `None` on every other path.
pub(crate) fn query_token(parts: &Parts) -> Result<Option<String>, AmbiguousCredential> {
    let path = parts.uri.path();
    if !(path.starts_with("/v1/tasks/") && path.ends_with("/events")) {
        return Ok(None);
    }
    let unreadable = |_| AmbiguousCredential(QUERY_TOKEN);
    let Query(parameters) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map_err(unreadable)?;
    let tokens = parameters.into_iter().filter(|(name, _)| name == QUERY_TOKEN).map(|(_, token)| token);
    only(tokens, QUERY_TOKEN)
}

/// The first credential presented, in the fixed order; `None` when there is none at all. A session is in the cookie of
/// this name and in no other. `balanced` says whether the peer is a balancer that logs callers in: of others its header
/// means nothing.
pub(crate) fn presented<'a>(
    headers: &'a HeaderMap,
    query_token: Option<&'a str>,
    session_cookie: &str,
    balanced: bool,
) -> Result<Option<Credential<'a>>, AmbiguousCredential> {
    if let Some(value) = single(headers, &AUTHORIZATION, "Authorization")? {
        return Ok(Some(bearer(value)));
    }
    if let Some(value) = single(headers, &INTERNAL_TOKEN, "X-Internal-Token")? {
        return Ok(Some(Credential::InternalToken(value.as_bytes())));
    }
    if let Some(value) = only(cookies(headers, session_cookie), "Cookie")? {
        return Ok(Some(Credential::SessionCookie(value)));
    }
    if let Some(value) = single(headers, &API_KEY, "X-API-Key")? {
        return Ok(Some(Credential::ApiKey(value.as_bytes())));
    }
    if let Some(token) = query_token {
        return Ok(Some(Credential::QueryToken(token)));
    }
    let data = if balanced { single(headers, &BALANCER_DATA, "X-Amzn-Oidc-Data")? } else { None };
    Ok(data.map(|value| Credential::BalancerData(value.as_bytes())))
}

/// What proves that the bearer of a credential holds its key, if it was sent.
pub(crate) fn proof(headers: &HeaderMap) -> Result<Option<&[u8]>, AmbiguousCredential> {
    Ok(single(headers, &PROOF, "DPoP")?.map(HeaderValue::as_bytes))
}

fn single<'a>(
    headers: &'a HeaderMap,
    header: &HeaderName,
    name: &'static str,
) -> Result<Option<&'a HeaderValue>, AmbiguousCredential> {
    only(headers.get_all(header).iter(), name)
}

fn only<T>(mut values: impl Iterator<Item = T>, name: &'static str) -> Result<Option<T>, AmbiguousCredential> {
    let first = values.next();
    if values.next().is_some() { Err(AmbiguousCredential(name)) } else { Ok(first) }
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

/// The values of the cookies of this name. Byte by byte: what other cookies hold need not be text.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (own, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        (own == name.as_bytes()).then_some(value)
    })
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

    const SECURE: &str = SESSION_COOKIES[0];
    const PLAIN: &str = SESSION_COOKIES[1];

    fn kind(lines: &[(&'static str, &'static str)], query: Option<&str>) -> String {
        shown(presented(&headers(lines), query, SECURE, true))
    }

    fn shown(presented: Result<Option<Credential<'_>>, AmbiguousCredential>) -> String {
        let lossy = String::from_utf8_lossy;
        match presented {
            Err(AmbiguousCredential(name)) => format!("twice {name}"),
            Ok(None) => "none".to_owned(),
            Ok(Some(Credential::Foreign)) => "foreign".to_owned(),
            Ok(Some(Credential::Bearer(text))) => format!("bearer {text}"),
            Ok(Some(Credential::QueryToken(text))) => format!("query {text}"),
            Ok(Some(Credential::Bound(text))) => format!("bound {text}"),
            Ok(Some(Credential::BalancerData(bytes))) => format!("balancer {}", lossy(bytes)),
            Ok(Some(Credential::SessionCookie(bytes))) => format!("cookie {}", lossy(bytes)),
            Ok(Some(Credential::InternalToken(bytes))) => format!("internal {}", lossy(bytes)),
            Ok(Some(Credential::ApiKey(bytes))) => format!("key {}", lossy(bytes)),
        }
    }

    #[test]
    fn the_first_place_in_the_fixed_order_decides() {
        let all = [
            ("x-api-key", "k"),
            ("cookie", "a=b; __Host-portcullis_session=s"),
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
        let elsewhere = headers(&balanced);
        assert_eq!(shown(presented(&elsewhere, None, SECURE, false)), "none", "anybody can write a header");
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
    fn the_same_place_twice_is_ambiguous_and_named() {
        assert_eq!(kind(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], None), "twice Authorization");
        assert_eq!(kind(&[("x-internal-token", "a"), ("x-internal-token", "a")], None), "twice X-Internal-Token");
        assert_eq!(kind(&[("x-api-key", "a"), ("x-api-key", "b")], None), "twice X-API-Key");
        let cookies = ["__Host-portcullis_session=a; b=c; __Host-portcullis_session=d", "__Host-portcullis_session=a"];
        assert_eq!(kind(&[("cookie", cookies[0])], None), "twice Cookie");
        assert_eq!(kind(&[("cookie", cookies[1]), ("cookie", cookies[1])], None), "twice Cookie");
    }

    #[test]
    fn only_the_cookie_of_this_gateway_is_a_session() {
        let both = [("cookie", "portcullis_session=weak"), ("cookie", "x=1;__Host-portcullis_session=strong")];
        assert_eq!(kind(&both, None), "cookie strong");
        assert_eq!(kind(&both[..1], None), "none", "whoever speaks for another host of the domain may have set it");
        let both = headers(&both);
        assert_eq!(shown(presented(&both, None, PLAIN, true)), "cookie weak");
        for other in ["session=1; not_portcullis_session=2", "__Host-portcullis_session", "__host-portcullis_session=1"]
        {
            assert_eq!(kind(&[("cookie", other)], None), "none", "{other}");
        }
        assert_eq!(kind(&[("cookie", "__Host-portcullis_session=")], None), "cookie ", "presented, and worth nothing");
    }

    #[test]
    fn a_session_counts_beside_cookies_that_are_no_text() {
        let mut headers = HeaderMap::new();
        let line = b"name=J\xf6rg; __Host-portcullis_session=s; b=\xe2\x82\xac";
        headers.insert(COOKIE, HeaderValue::from_bytes(line).unwrap());
        assert_eq!(shown(presented(&headers, None, SECURE, true)), "cookie s");
    }

    #[test]
    fn a_token_in_the_query_counts_on_event_streams_only_and_once() {
        let token = |uri: &str| query_token(&Request::get(uri).body(()).unwrap().into_parts().0);
        let one = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(token("/v1/tasks/1/events?bearer_token=a%3Ab&x=1"), one("a:b"));
        assert_eq!(token("/v1/tasks/1/events?x=1&bearer%5Ftoken=a"), one("a"), "however its name is written");
        assert_eq!(token("/v1/tasks/1/events?bearer_token"), one(""), "presented, and worth nothing");
        assert_eq!(token("/v1/tasks/1/events?bearer_token=%ff%00"), one("\u{fffd}\0"), "the same");
        assert_eq!(token("/v1/tasks/1/events?Bearer_token=a&x=bearer_token=a"), Ok(None));
        assert_eq!(token("/v1/tasks/1?bearer_token=a"), Ok(None));
        assert_eq!(token("/v1/limits/events?bearer_token=a"), Ok(None));
        let twice = Err(AmbiguousCredential("bearer_token"));
        assert_eq!(token("/v1/tasks/1/events?bearer_token=a&bearer_token=b"), twice);
        assert_eq!(token("/v1/tasks/1/events?bearer_token=a&bearer%5Ftoken=a"), twice);
    }

    #[test]
    fn a_credential_does_not_print_itself() {
        assert_eq!(format!("{:?}", Credential::Bearer("canary")), "Bearer(***)");
        assert_eq!(format!("{:?}", Credential::ApiKey(b"canary")), "ApiKey(***)");
        let uri = "/v1/tasks/1/events?bearer_token=canary".parse().unwrap();
        let presented = Presented {
            credential: Credential::QueryToken("canary"),
            method: &Method::GET,
            uri: &uri,
            peer: "127.0.0.1:4000".parse().unwrap(),
            proof: Some(b"canary"),
        };
        let shown = format!("{presented:?}");
        assert!(!shown.contains("canary") && shown.contains("/v1/tasks/1/events"), "{shown}");
        assert!(!shown.contains("97, 110"), "nor as bytes: {shown}");
    }
}
