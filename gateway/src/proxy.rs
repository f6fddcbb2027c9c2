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
mod tunnel;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::{self, OnUpgrade};
use portcullis_config::RouteClass;
use tokio::sync::OwnedSemaphorePermit;

use crate::admission::pass::{self, Entry, Outcome, Pass};
use crate::admission::session::Identity;
use crate::metric;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Cause, Refused, RequestFault};
use crate::respond::{Answered, RequestId, set_limits};
use crate::state::Gateway;
use crate::trace_context::TraceContext;

use bounds::Bounds;
use download::{Account, Download};
use failure::Failure;
use field::Forwarded;
use tunnel::Tunnel;
use upload::Upload;
use upstream::Upstream;

pub use upstream::{UnusableUpstream, UpstreamUrl};

/// How often a path is classed: policies that change twice while a request is being decided are not changed by people.
const ROUNDS: usize = 3;

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
    mut parts: Parts,
    body: Body,
) -> Result<Answered, Refused> {
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Refused::invalid(vec![RequestFault::new("method", "is not passed on to the application")]));
    }
    let switch = Switch::asked_for(gateway, &mut parts)?;
    let Admitted { policy, class, pass } = admit(caller, gateway, &parts).await?;
    let bounds = Bounds::of(policy.policy(), &class);
    let mut account = Account { pass, outcome: Outcome::Abandoned, usage: Vec::new() };
    let limits = account.pass.as_ref().map(|pass| pass.limits().to_vec());
    let request = request(gateway, upstream, caller, parts, body, &bounds, switch.is_some());
    let answer = match upstream.send(request.ok_or_else(Refused::not_found)?, &bounds).await {
        Ok(answer) => pass_on(gateway, answer, account, &bounds, switch),
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
        set_limits(response.headers_mut(), &limits, 0);
    }
    Ok(Answered { response, policy: Some(policy) })
}

/// A request that may go to the application.
struct Admitted {
    policy: Arc<PolicyInForce>,
    class: Arc<str>,
    /// `None`: its class takes no gates.
    pass: Option<Pass>,
}

/// Takes a request through the gates of its class. The class is the one that its path has under the policy it is
/// decided under, and under no other.
async fn admit(caller: Caller<'_>, gateway: &Gateway, parts: &Parts) -> Result<Admitted, Refused> {
    let scope = caller.identity.scope();
    let mut policy = scope.policy();
    let mut round = 1;
    loop {
        let class = policy.route_class(parts.method.as_str(), parts.uri.path());
        let (name, throttled) = match &class {
            RouteClass::Guarded { class, throttled } => (class.clone(), Some(*throttled)),
            RouteClass::Read => ("read".into(), None),
            RouteClass::Bypass => ("bypass".into(), None),
        };
        let too_large = announced(&parts.headers) > Bounds::of(policy.policy(), &name).request_bytes;
        let Some(throttled) = throttled.filter(|_| !too_large) else {
            // Nothing is asked of the script, which would say whether this policy still counts.
            if round < ROUNDS && scope.has_moved_on_from(policy.stamp()).await {
                (policy, round) = (scope.policy(), round + 1);
                continue;
            }
            let pass = None;
            return if too_large {
                Err(Failure::TooMuchSent.refused())
            } else {
                Ok(Admitted { policy, class: name, pass })
            };
        };
        let trace = TraceContext::of(&parts.headers);
        let entry = Entry { class: name.clone(), throttled, in_flight: true, trace, ..Entry::default() };
        let outcome = pass::pass(gateway, caller.identity, caller.request_id.as_str(), entry).await;
        let decided_under = match &outcome {
            Ok(pass) => pass.policy().clone(),
            Err(refused) => refused.policy.clone().unwrap_or_else(|| policy.clone()),
        };
        let same = decided_under.stamp() == policy.stamp()
            || decided_under.route_class(parts.method.as_str(), parts.uri.path()) == class;
        if same || round == ROUNDS {
            return outcome.map(|pass| Admitted { policy: decided_under, class: name, pass: Some(pass) });
        }
        (policy, round) = (decided_under, round + 1);
    }
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
    let upload = Upload::new(body, bounds.request_bytes, bounds.pause);
    if upload.size_hint().exact().is_none() {
        headers.remove(CONTENT_LENGTH);
    }
    let mut request = Request::new(upload);
    *request.method_mut() = parts.method;
    *request.uri_mut() = upstream.target(parts.uri.into_parts().path_and_query?)?;
    *request.headers_mut() = headers;
    Some(request)
}

/// A client's wish to go on with a WebSocket.
struct Switch {
    client: OnUpgrade,
    place: OwnedSemaphorePermit,
}

impl Switch {
    /// `None`: the request asks for nothing of the kind, or not in a way that could be granted.
    fn asked_for(gateway: &Gateway, parts: &mut Parts) -> Result<Option<Self>, Refused> {
        let may = parts.version == Version::HTTP_11 && parts.method == Method::GET;
        if !may || !field::asks_for_websocket(&parts.headers) {
            return Ok(None);
        }
        if gateway.drain_state().closing() {
            // It would have to end as soon as it has begun.
            return Err(Refused::draining());
        }
        let Some(client) = parts.extensions.remove::<OnUpgrade>() else { return Ok(None) };
        let detail = "This gateway carries as many tunnels as it can. Another one may have room: try again.";
        let full = || Refused::new(Cause::StreamLimit, "Too many tunnels", detail);
        gateway.open_tunnel().map(|place| Some(Self { client, place })).ok_or_else(full)
    }
}

/// Passes an answer on, or says why it cannot be.
fn pass_on(
    gateway: &Gateway,
    answer: Response<Incoming>,
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
        return switch_over(gateway, answer, account, bounds, switch);
    }
    account.outcome = if failed(answer.status()) { Outcome::Failed } else { Outcome::Succeeded };
    if bounds.response_bytes.is_some_and(|most| answer.body().size_hint().lower() > most) {
        account.close(Outcome::Failed);
        return Err(Failure::Invalid);
    }
    let (mut parts, body) = answer.into_parts();
    parts.extensions.clear();
    // What an application of HTTP/1.0 cuts off must not look complete to a client of HTTP/1.1.
    parts.version = Version::HTTP_11;
    field::of_answer(&mut parts.headers, false);
    let endless = body.size_hint().exact().is_none();
    if endless {
        parts.headers.remove(CONTENT_LENGTH);
    }
    let going = (endless && is_event_stream(&parts.headers)).then(|| gateway.drain_state().closed().cancelled_owned());
    let body = Download::new(body, account, bounds.response_bytes, bounds.pause, going);
    Ok(Response::from_parts(parts, Body::new(body)))
}

/// Whether an answer says that the application failed: three of its codes only say what the client asked for.
fn failed(status: StatusCode) -> bool {
    status.is_server_error() && !matches!(status.as_u16(), 501 | 505 | 511)
}

/// Goes on as a tunnel, if that is what the client asked for.
fn switch_over(
    gateway: &Gateway,
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
    Tunnel { client, application, account, longest_pause: bounds.pause, place }.spawn(gateway);
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
