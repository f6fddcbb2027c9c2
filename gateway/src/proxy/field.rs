//! Header fields on their way through the proxy.
//!
//! Responsible for what belongs to one connection only and ends here (RFC 9110 §7.6.1), for what a client says about
//! itself that only this gateway may say, and for saying it. Must never pass a field on that the application would
//! take for this gateway's word and that a client wrote: application servers that hand fields over in environment
//! variables cannot tell `X_User_Type` from `X-User-Type`, so names are compared with both signs alike.

use axum::http::header::{CONNECTION, COOKIE, HOST, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::admission::session::identity::Identity;
use crate::credential;
use crate::trace_context::{TRACEPARENT, TRACESTATE, TraceContext};

mod forwarded;

pub(super) use forwarded::Forwarded;

/// Fields of one connection, whether or not `Connection` names them; `Upgrade` is put back where it was asked for.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What only this gateway says to an application: who calls, by which way, and what only a processor says to a handler.
/// Others would let a client have another path or method served than the one that was classed.
const OURS: [&str; 21] = [
    "x-user-type",
    "x-session-id",
    "x-principal",
    "x-tenant",
    "x-project",
    "x-actor",
    "x-request-id",
    "x-real-ip",
    "forwarded",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-pass-id",
    "x-route-class",
    "x-task-id",
    "x-attempt",
    "x-fencing-token",
    "x-deadline",
    "x-policy-revision",
];

/// What names begin with that only this gateway, or a proxy in front of it, says; of the last, what is handed on is
/// written anew. Proxies that log people in say with `X-Forwarded-User` and its like who they are.
const OUR_FAMILIES: [&str; 3] = ["x-portcullis-", "x-admit-", "x-forwarded-"];

/// The caller's credentials: they were given to this gateway. Cookies are looked through one by one.
const CREDENTIALS: [&str; 7] = [
    "authorization",
    "dpop",
    "x-internal-token",
    "x-api-key",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-amzn-oidc-accesstoken",
];

/// What this gateway says about limits in every answer; an application's own would contradict it.
const OUR_ANSWERS: [&str; 6] =
    ["ratelimit", "ratelimit-policy", "x-request-id", "x-session-id", "x-user-type", "x-policy-revision"];

/// The protocol a request may switch to. Not `h2c`: behind it a client could send requests that nobody decides about.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Whether a request asks for a WebSocket (RFC 6455 §4.1).
pub(super) fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let mut protocols = headers.get_all(UPGRADE).iter();
    let alone = protocols.next().filter(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    alone.is_some() && protocols.next().is_none() && tokens(headers, &CONNECTION).any(|token| token == "upgrade")
}

/// Makes the fields of a request those that the application gets.
pub(super) fn of_request(
    headers: &mut HeaderMap,
    identity: &Identity,
    request_id: &HeaderValue,
    forwarded: Forwarded,
    websocket: bool,
) {
    let trace = TraceContext::of(headers);
    let trailers = tokens(headers, &TE).any(|token| token == "trailers");
    strip(headers, |name| {
        [&HOP_BY_HOP[..], &OURS, &CREDENTIALS].into_iter().any(|names| is_one_of(name, names)) || is_of_ours(name)
    });
    drop_session_cookies(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if websocket {
        switch_to_websocket(headers);
    }
    headers.append(VIA, HeaderValue::from_static("1.1 portcullis"));
    forwarded.write(headers);
    go_on_with(trace, headers);
    headers.insert(HeaderName::from_static("x-request-id"), request_id.clone());
    let scope = identity.scope().store().scope().clone();
    let said = [
        ("x-user-type", identity.user_type().as_str()),
        ("x-session-id", identity.session_id()),
        ("x-principal", identity.principal()),
        ("x-tenant", scope.tenant()),
        ("x-project", scope.project()),
        ("x-actor", identity.actor().unwrap_or_default()),
    ];
    for (name, text) in said.into_iter().filter(|(_, text)| !text.is_empty()) {
        // Names of people may be UTF-8. One that could break the header apart is left out, and says nothing.
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The application gets the trace as tasks get it: whole, or none.
fn go_on_with(trace: Option<TraceContext>, headers: &mut HeaderMap) {
    let (parent, state) = trace.map_or((None, None), |trace| (Some(trace.traceparent), trace.tracestate));
    for (name, text) in [(TRACEPARENT, parent), (TRACESTATE, state)] {
        headers.remove(&name);
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
}

/// Makes the fields of an application's answer those that the client gets.
pub(super) fn of_answer(headers: &mut HeaderMap, websocket: bool) {
    strip(headers, |name| is_one_of(name, &HOP_BY_HOP) || is_one_of(name, &OUR_ANSWERS));
    drop_session_set_cookies(headers);
    if websocket {
        switch_to_websocket(headers);
    }
}

/// Takes out of the trailers what may not stand in one (RFC 9110 §6.5.1) or is this gateway's to say.
pub(super) fn of_trailers(trailers: &mut HeaderMap) {
    strip(trailers, |name| {
        let framing = ["content-length", "content-encoding", "content-type", "content-range", "host", "trailer"];
        let routing = ["set-cookie", "cache-control", "retry-after", "via", "cookie"];
        let said = [&HOP_BY_HOP[..], &OURS, &CREDENTIALS, &OUR_ANSWERS, &framing, &routing];
        said.into_iter().any(|names| is_one_of(name, names)) || is_of_ours(name)
    });
}

fn switch_to_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Removes what `Connection` names and what `ends_here` says. A client may not name what the message itself needs.
fn strip(headers: &mut HeaderMap, ends_here: impl Fn(&str) -> bool) {
    let kept = [HOST.as_str(), "content-length", "content-type", TRAILER.as_str(), VIA.as_str()];
    let named: Vec<String> = tokens(headers, &CONNECTION).filter(|token| !kept.contains(&token.as_str())).collect();
    let gone = |name: &&HeaderName| ends_here(name.as_str()) || named.iter().any(|named| named == name.as_str());
    let gone: Vec<HeaderName> = headers.keys().filter(gone).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
    // hyper writes it again where the message needs it.
    headers.remove(TRANSFER_ENCODING);
}

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.len() == other.len() && begins(name, other))
}

fn is_of_ours(name: &str) -> bool {
    OUR_FAMILIES.iter().any(|family| begins(name, family))
}

fn begins(name: &str, with: &str) -> bool {
    let alike = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= with.len() && name.bytes().zip(with.bytes()).all(alike)
}

/// The elements of a list field, in lower case.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + use<'a> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|token| token.trim().to_ascii_lowercase())
}

/// Takes the session out of the cookies; the others are the application's. They become one line: over HTTP/2 each may
/// come alone (RFC 9113 §8.2.3).
fn drop_session_cookies(headers: &mut HeaderMap) {
    let Some(first) = headers.get(COOKIE) else { return };
    let mut left: Vec<u8> = Vec::with_capacity(first.len());
    for value in headers.get_all(COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
            if pair.is_empty() || is_session(pair) {
                continue;
            }
            if !left.is_empty() {
                left.extend_from_slice(b"; ");
            }
            left.extend_from_slice(pair);
        }
    }
    headers.remove(COOKIE);
    // Parts of what was a value.
    if let (false, Ok(value)) = (left.is_empty(), HeaderValue::from_bytes(&left)) {
        headers.insert(COOKIE, value);
    }
}

/// Takes out what would set the session of this gateway: an application that could would log its callers in as others.
fn drop_session_set_cookies(headers: &mut HeaderMap) {
    let sets_session =
        |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').next().is_some_and(is_session);
    if !headers.get_all(SET_COOKIE).iter().any(sets_session) {
        return;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).iter().filter(|value| !sets_session(value)).cloned().collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

/// Whether this is the session of this gateway: a name, `=` and a value.
fn is_session(pair: &[u8]) -> bool {
    let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    credential::is_session_cookie(name.trim_ascii())
}

#[cfg(test)]
mod tests;
