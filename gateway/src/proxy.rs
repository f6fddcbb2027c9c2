//! Requests for the application behind this gateway.
//!
//! Responsible for the order of things: the class of the path, the gates it takes, the request as the application gets
//! it, and an answer that is passed on as it comes. Must never ask the application for anything that was refused, nor
//! let go of a pass before its answer is over. Neither body is ever held whole.

mod bounds;
mod failure;
mod field;
mod upload;
mod download;
pub(crate) mod usage;
mod switch;
mod tunnel;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade;
use tokio::time::Instant;

use crate::admission::classed::{self, Classed};
use crate::admission::pass::{Entry, Outcome};
use crate::admission::session::{Identity, Unspent};
use crate::metric;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Refused, RequestFault};
use crate::respond::{Answered, RequestId, set_limits};
use crate::server::LongestStall;
use crate::state::Gateway;
use crate::trace_context::TraceContext;

use bounds::Bounds;
use download::{Account, Download};
use failure::Failure;
use field::Forwarded;
use switch::Switch;
use tunnel::Tunnel;
use upload::{Progress, Upload};
use upstream::Upstream;

pub(crate) use tunnel::Places as TunnelPlaces;
pub use upstream::{UnusableUpstream, UpstreamOptions, UpstreamUrl};

/// Paths that are this gateway's own, with everything below them: they are never the application's.
const OWN: [&str; 9] = [
    "/v1/tasks",
    "/v1/limits",
    "/v1/sessions",
    "/v1/delegations",
    "/v1/decide",
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/.well-known/oauth-protected-resource",
];

/// What paths that are the application's are called, in metrics and in decision events.
pub(crate) const ROUTE: &str = "proxied";

/// Whether a path is for the application.
pub(crate) fn takes(path: &str) -> bool {
    let own = |own: &&str| path.strip_prefix(*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.starts_with('/') && !OWN.iter().any(own)
}

/// Who asks, and by which way.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) request_id: &'a RequestId,
    pub(crate) peer: SocketAddr,
}

/// Has the application answer.
pub(crate) async fn forward(
    gateway: &Gateway,
    upstream: &Upstream,
    caller: Caller<'_>,
    proof: &mut Unspent,
    mut parts: Parts,
    body: Body,
) -> Result<Answered, Refused> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refused::invalid(vec![RequestFault::new("method", "is not passed on to the application")]));
    }
    let switch = Switch::asked_for(gateway, caller.identity, &mut parts)?;
    let Classed { policy, class, pass } = admit(caller, proof, gateway, &parts).await?;
    let (bounds, decided_at) = (Bounds::of(policy.policy(), &class), Instant::now());
    let mut account = Account { pass, outcome: Outcome::Abandoned, usage: Vec::new() };
    let limits = account.pass.as_ref().map(|pass| pass.limits().to_vec());
    let request = request(gateway, upstream, caller, parts, body, &bounds, switch.is_some());
    let request = request.ok_or_else(Refused::not_found)?;
    let upload = request.body().progress();
    let answer = match upstream.send(request, &bounds).await {
        Ok(answer) => pass_on(gateway, caller.identity, answer, upload, account, &bounds, switch),
        Err(failure) => {
            account.close(if failure.is_upstreams() { Outcome::Failed } else { Outcome::Abandoned });
            Err(failure)
        }
    };
    let mut response = answer.map_err(|failure| {
        let refused = failure.refused();
        if failure.is_upstreams() {
            metric::upstream_failure(refused.cause.code());
        }
        Refused { policy: Some(policy.clone()), ..refused }
    })?;
    if let Some(limits) = limits {
        set_limits(response.headers_mut(), &limits, decided_at.elapsed().as_millis() as u64);
    }
    Ok(Answered { response, policy: Some(policy) })
}

/// Takes a request through the gates of its class, unless it says that it is larger than its class may be.
async fn admit(caller: Caller<'_>, proof: &mut Unspent, gateway: &Gateway, parts: &Parts) -> Result<Classed, Refused> {
    let classify = |policy: &PolicyInForce| policy.route_class(parts.method.as_str(), parts.uri.path());
    let length = announced(&parts.headers);
    let fits = |policy: &PolicyInForce, class: &str| {
        let too_large = length > Bounds::of(policy.policy(), class).request_bytes;
        if too_large { Err(Failure::TooMuchSent.refused()) } else { Ok(()) }
    };
    let (trace, method) = (TraceContext::of(&parts.headers), Some(parts.method.to_string()));
    let entry = Entry { in_flight: true, trace, method, route: ROUTE, ..Entry::default() };
    classed::admit(gateway, caller.identity, proof, caller.request_id, classify, fits, entry).await
}

/// The request as the application gets it; `None` where its path cannot be one of the application's.
fn request(
    gateway: &Gateway,
    upstream: &Upstream,
    caller: Caller<'_>,
    parts: Parts,
    body: Body,
    bounds: &Bounds,
    websocket: bool,
) -> Option<Request<Upload>> {
    let forwarded = Forwarded::of(gateway.trusted_proxies(), caller.peer, &parts.uri, &parts.headers);
    let mut headers = parts.headers;
    field::of_request(&mut headers, caller.identity, caller.request_id.header(), forwarded, websocket);
    let upload = Upload::new(body, bounds);
    if upload.size_hint().exact().is_none() {
        headers.remove(CONTENT_LENGTH);
        if !upload.is_end_stream() {
            // Without it hyper takes a body of unknown length for none where the method seldom has one.
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    let mut request = Request::new(upload);
    *request.method_mut() = parts.method;
    *request.uri_mut() = upstream.target(parts.uri.into_parts().path_and_query?)?;
    *request.headers_mut() = headers;
    Some(request)
}

/// Passes an answer on, or says why it cannot be.
fn pass_on(
    gateway: &Gateway,
    caller: &Identity,
    answer: Response<Incoming>,
    upload: Arc<Progress>,
    mut account: Account,
    bounds: &Bounds,
    switch: Option<Switch>,
) -> Result<axum::response::Response, Failure> {
    if let Some(pass) = &mut account.pass {
        pass.note_answered(failed(answer.status()));
    }
    usage::add(&mut account.usage, answer.headers());
    // No other informational status ends an exchange.
    if answer.status().is_informational() {
        return switch_over(gateway, caller, answer, account, bounds, switch);
    }
    account.outcome = if failed(answer.status()) { Outcome::Failed } else { Outcome::Succeeded };
    if bounds.response_bytes.is_some_and(|most| answer.body().size_hint().lower() > most) {
        account.close(Outcome::Failed);
        return Err(Failure::Invalid);
    }
    let (mut parts, body) = answer.into_parts();
    parts.extensions.clear();
    parts.extensions.insert(LongestStall(bounds.pause));
    // What an application of HTTP/1.0 cuts off must not look complete to a client of HTTP/1.1.
    parts.version = Version::HTTP_11;
    field::of_answer(&mut parts.headers, false);
    let endless = body.size_hint().exact().is_none();
    if endless {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let going = (endless && is_event_stream(&parts.headers)).then(|| gateway.drain_state().closed().cancelled_owned());
    let body = Download::new(body, account, upload, bounds, going);
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// Whether an answer says that the application failed: three of its codes only say what the client asked for.
fn failed(status: StatusCode) -> bool {
    status.is_server_error() && !matches!(status.as_u16(), 501 | 505 | 511)
}

/// Goes on as a tunnel, if that is what the client asked for.
fn switch_over(
    gateway: &Gateway,
    caller: &Identity,
    mut answer: Response<Incoming>,
    mut account: Account,
    bounds: &Bounds,
    switch: Option<Switch>,
) -> Result<axum::response::Response, Failure> {
    let Some(Switch { client, place }) = switch.filter(|_| field::asks_for_websocket(answer.headers())) else {
        account.close(Outcome::Failed);
        return Err(Failure::Invalid);
    };
    account.outcome = Outcome::Succeeded;
    let application = upgrade::on(&mut answer);
    let (caller, longest_pause) = (caller.clone(), bounds.pause);
    Tunnel { client, application, account, caller, longest_pause, place }.spawn(gateway);
    let (mut parts, _) = answer.into_parts();
    parts.extensions.clear();
    field::of_answer(&mut parts.headers, true);
    Ok(Response::from_parts(parts, Body::empty()))
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()?.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Length of the body as far as the client says it; 0 if it does not.
fn announced(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_own_paths_are_never_the_applications() {
        for path in
            ["/v1/tasks", "/v1/tasks/1", "/v1/tasks/1/other", "/v1/decide", "/healthz", "/openapi.json", "*", ""]
        {
            assert!(!takes(path), "{path}");
        }
        for path in ["/", "/v1", "/v1/tasksx", "/v1/chat/completions", "/api/v1/tasks", "/openapi.json5"] {
            assert!(takes(path), "{path}");
        }
    }
}
