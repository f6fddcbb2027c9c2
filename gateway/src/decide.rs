//! `/v1/decide`: whether a request that another proxy holds may go on. `DELETE /v1/decide/{pass_id}` ends a place that
//! such a request was given.
//!
//! Responsible for reading which request is asked about and for an answer that the asking proxy can copy into it. Must
//! never be asked twice for one request of an admission: a decision consumes. What a proxy understands of an answer is
//! `decide/profile.rs`; the caller is the one whose credential came along, as everywhere.

pub(crate) mod asker;
mod asked;
pub(crate) mod profile;
mod request_line;

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use portcullis_lua::{PassEnd, PassEnded, StoreError, TaskId};

use crate::admission;
use crate::admission::classed::{self, Classed};
use crate::admission::pass::{Entry, Outcome};
use crate::admission::session::{Identity, Unspent};
use crate::openapi::{DecideQuery, Deciding, EndingPass, EndingQuery, PassIdPath};
use crate::proxy::usage;
use crate::refusal::Refused;
use crate::respond::{Answered, RequestId, set_limits};
use crate::state::Gateway;
use crate::trace_context::TraceContext;

use asked::Asked;

pub(crate) use asked::{MAX_LEASE_SECONDS, OUTCOMES};
pub(crate) use profile::Profile;
pub(crate) use request_line::RequestLine;

const PATH: &str = "/v1/decide";
const PASS_ID: HeaderName = HeaderName::from_static("x-pass-id");
const ROUTE_CLASS: HeaderName = HeaderName::from_static("x-route-class");

/// Who asks, and by which way.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) request_id: &'a RequestId,
    pub(crate) peer: SocketAddr,
}

/// Whether a path is under this endpoint.
pub(crate) fn takes(path: &str) -> bool {
    below(path).is_some()
}

/// The request that a decision is asked about, where it was described: its sender has proven to hold a key for that
/// one, and knows nothing of this.
pub(crate) fn asked_about(parts: &Parts) -> Option<(Method, Uri)> {
    Profile::of(parts)?;
    Asked::of(parts, true).ok()?.line?.said()
}

/// What stands behind the endpoint's own path; with a slash in front, or empty.
fn below(path: &str) -> Option<&str> {
    path.strip_prefix(PATH).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Decides about the request that is described. The method of the question is the other proxy's affair, where that
/// passes it on.
#[utoipa::path(
    method(get, post), path = "/v1/decide", operation_id = "decide", tag = "decide",
    summary = "Whether a request that another proxy holds may go on",
    description = "Takes the request asked about through the gates of its route class. Refusals have the status by \
        which the asking proxy understands them; what it really was stands in `X-Admit-Status` and `X-Admit-Code`.",
    params(DecideQuery),
    responses(
        (status = 200, description = "It may; the headers say who asks, for the proxy to copy", headers(
            ("X-Principal" = String), ("X-Tenant" = String), ("X-Project" = String), ("X-Actor" = String),
            ("X-Route-Class" = String), ("X-Pass-Id" = String, description = "The place it was given, or empty."),
        )),
        Deciding
    )
)]
pub(crate) async fn decide(
    gateway: &Gateway,
    caller: Caller<'_>,
    proof: &mut Unspent,
    parts: &Parts,
) -> Result<Answered, Refused> {
    let may_hold = gateway.decide_askers().include(caller.peer);
    let Asked { line, lease } = Asked::of(parts, may_hold).map_err(Refused::invalid)?;
    let trace = TraceContext::of(&parts.headers);
    let method = line.as_ref().and_then(RequestLine::method).map(str::to_owned);
    let entry = Entry { in_flight: lease.is_some(), lease, trace, method, route: PATH, ..Entry::default() };
    let (identity, request_id) = (caller.identity, caller.request_id);
    let classify = |policy: &_| RequestLine::class_of(line.as_ref(), policy);
    let fits = |policy: &_, _: &str| RequestLine::has_one_class(line.as_ref(), policy);
    let decided = classed::admit(gateway, identity, proof, request_id, classify, fits, entry).await?;
    let Classed { policy, class, pass } = decided;
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    say_who(headers, identity);
    if let Ok(class) = HeaderValue::from_str(&class) {
        headers.insert(ROUTE_CLASS, class);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(pass) = pass {
        set_limits(headers, pass.limits(), 0);
        let pass_id = pass.hand_over().and_then(|pass_id| HeaderValue::from_str(pass_id.as_str()).ok());
        headers.insert(PASS_ID, pass_id.unwrap_or(HeaderValue::from_static("")));
    }
    Ok(Answered { response, policy: Some(policy) })
}

/// Everything about the caller that an application may believe, for the proxy to copy. What is not known is said to be
/// empty, because a proxy that finds nothing to copy leaves what the client wrote. User type and session stand in every
/// answer.
fn say_who(headers: &mut HeaderMap, identity: &Identity) {
    let scope = identity.scope().store().scope();
    let said = [
        ("x-principal", identity.principal()),
        ("x-tenant", scope.tenant()),
        ("x-project", scope.project()),
        ("x-actor", identity.actor().unwrap_or_default()),
        ("x-pass-id", ""),
    ];
    for (name, text) in said {
        // Names of people may be UTF-8. One that could break the header apart says nothing.
        let value = HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""));
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Ends a place among the passes in flight, with what was really used in `X-Usage-<Unit>`. Nothing else is asked for
/// below this endpoint.
#[utoipa::path(
    delete, path = "/v1/decide/{pass_id}", operation_id = "end_pass", tag = "decide",
    summary = "Ends a place that a decision gave",
    description = "For the operator's own proxies (`PORTCULLIS_DECIDE_CIDRS`), with the credential that it was given \
        to; nobody else finds it. What was really used stands in `X-Usage-<Unit>`; without, the estimates count.",
    params(PassIdPath, EndingQuery),
    responses((status = 204, description = "It has ended"), EndingPass)
)]
pub(crate) async fn end(gateway: &Gateway, caller: Caller<'_>, parts: &Parts) -> Result<Answered, Refused> {
    let pass_id = below(parts.uri.path()).and_then(|rest| rest.strip_prefix('/')).and_then(TaskId::parse);
    let pass_id = pass_id.filter(|_| parts.method == Method::DELETE).ok_or_else(Refused::not_found)?;
    // Usage and outcome are the asker's word: a caller who reported its own would pay what it likes.
    if !gateway.decide_askers().include(caller.peer) {
        return Err(Refused::not_found());
    }
    let (outcome, answered_ms) = match asked::outcome(parts).map_err(Refused::invalid)? {
        Some(outcome) => (outcome, None),
        // Nothing is said about the application, and the work is taken to have been done.
        None => (Outcome::Abandoned, Some(0)),
    };
    let (scope, policy) = (caller.identity.scope(), caller.identity.scope().policy());
    let record = admission::ask(gateway, scope.store().pass(&pass_id)).await?;
    let record = record.filter(|record| record.principal == caller.identity.principal());
    let record = record.ok_or_else(Refused::not_found)?;
    let mut reported = Vec::new();
    usage::add(&mut reported, &parts.headers);
    let ends = [PassEnd { lease: record.lease, outcome, usage: reported, answered_ms }];
    match admission::ask(gateway, scope.store().finish(policy.compiled(), &ends)).await?.as_slice() {
        [PassEnded::Now] => {}
        [PassEnded::Refused] => {
            let error = StoreError::Protocol("the end of a pass was refused".to_owned());
            return Err(admission::circuit_breaker::unavailable(&error));
        }
        _ => return Err(Refused::not_found()),
    }
    gateway.refusal_memory().note_place_free();
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(Answered { response, policy: Some(policy) })
}

#[cfg(test)]
mod tests;
