//! What a refusal looks like in HTTP, and the headers every answer carries.
//!
//! Responsible for the one mapping from causes to statuses: no other file names a status of a refusal. Bodies are
//! problem details (RFC 9457) with the problem types of draft-ietf-httpapi-ratelimit-headers-11. Must never show one
//! caller anything about another: what it writes comes from the refusal, the caller's identity and the policy.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use portcullis_lua::{LimitState, Reason, Step, chain_limits};
use tokio::time::Instant;

use crate::admission::session::Identity;
use crate::answer_headers::{REQUEST_ID, SESSION_ID, TypeHeaders, of_problem};
use crate::challenge;
use crate::decide::profile::Profile;
use crate::degraded::Fallback;
use crate::policy_in_force::PolicyInForce;
use crate::problem::Problem;
use crate::ratelimit_field::{self, RATELIMIT, RATELIMIT_POLICY};
use crate::refusal::{Cause, Refused};

const ADMIT_STATUS: HeaderName = HeaderName::from_static("x-admit-status");
const ADMIT_CODE: HeaderName = HeaderName::from_static("x-admit-code");

/// Kinds of problems that have a page; every other is `about:blank`.
pub(crate) const PROBLEM_TYPES: [&str; 2] = [QUOTA_EXCEEDED, REDUCED_CAPACITY];

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// Longest request id taken over from a client, bytes.
const MAX_REQUEST_ID: usize = 64;

/// Names one request in answers, logs, decisions and tasks, and knows since when it is here.
#[derive(Clone, Debug)]
pub(crate) struct RequestId {
    name: HeaderValue,
    received: Instant,
}

impl RequestId {
    /// The client's `X-Request-Id` if it is short and harmless, else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let sent = headers.get(REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(harmless)
        });
        sent.cloned().map_or_else(Self::generate, Self::new)
    }

    /// Of a request whose head has just been read.
    fn new(name: HeaderValue) -> Self {
        Self { name, received: Instant::now() }
    }

    fn generate() -> Self {
        // A ULID is made of letters and digits.
        let text = ulid::Ulid::generate().to_string();
        Self::new(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("none")))
    }

    pub(crate) fn header(&self) -> &HeaderValue {
        &self.name
    }

    pub(crate) fn as_str(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// When its head had been read.
    pub(crate) fn received(&self) -> Instant {
        self.received
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

/// The status of a refusal.
pub(crate) fn status(cause: Cause) -> StatusCode {
    match cause {
        Cause::Unauthenticated => StatusCode::UNAUTHORIZED,
        Cause::Forbidden | Cause::InsufficientScope | Cause::AddressRefused => StatusCode::FORBIDDEN,
        Cause::FailedAttempts | Cause::TooManyWrites => StatusCode::TOO_MANY_REQUESTS,
        Cause::Unattributable | Cause::Invalid => StatusCode::BAD_REQUEST,
        Cause::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Cause::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Cause::NotFound => StatusCode::NOT_FOUND,
        Cause::RevisionConflict { .. } => StatusCode::CONFLICT,
        Cause::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
        Cause::IdentityUnavailable | Cause::StoreUnavailable | Cause::Draining | Cause::StreamLimit => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Cause::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        Cause::UpstreamUnreachable | Cause::UpstreamInvalid => StatusCode::BAD_GATEWAY,
        Cause::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        Cause::Decided(Reason::IdempotencyMismatch) => StatusCode::UNPROCESSABLE_ENTITY,
        Cause::Decided(reason) => match reason.step() {
            Step::Session => StatusCode::UNAUTHORIZED,
            Step::RateLimit | Step::Economics => StatusCode::TOO_MANY_REQUESTS,
            Step::Backpressure | Step::CircuitBreaker | Step::Enqueue => StatusCode::SERVICE_UNAVAILABLE,
        },
    }
}

/// The status by which the proxy that asked understands an answer of this status.
pub(crate) fn status_for(profile: Profile, status: StatusCode) -> StatusCode {
    match profile {
        Profile::Nginx if !status.is_success() && status != StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
        Profile::Envoy if status.is_success() => StatusCode::OK,
        Profile::Envoy if status.is_server_error() => StatusCode::TOO_MANY_REQUESTS,
        Profile::Plain | Profile::Nginx | Profile::Envoy | Profile::Traefik | Profile::Caddy => status,
    }
}

/// Makes an answer one that the proxy that asked understands; `code` is its refusal's. What it really was stands in
/// `X-Admit-Status` and `X-Admit-Code`.
pub(crate) fn tell(profile: Profile, code: Option<&'static str>, response: &mut Response) {
    let status = response.status();
    *response.status_mut() = status_for(profile, status);
    if let Some(code) = code {
        response.headers_mut().insert(ADMIT_STATUS, HeaderValue::from(status.as_u16()));
        response.headers_mut().insert(ADMIT_CODE, HeaderValue::from_static(code));
    }
}

/// Has a 401 of this gateway's own say which credential would be accepted.
pub(crate) fn challenge(challenge: &HeaderValue, response: &mut Response) {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge.clone());
    }
}

/// A refusal on the admin listener, whose callers have no identity here.
pub(crate) fn problem(refused: &Refused) -> Response {
    let request_id = RequestId::generate();
    let mut response = problem_for(refused, &request_id, None, of_problem());
    response.headers_mut().insert(REQUEST_ID, request_id.name);
    response
}

/// A refusal as problem details. `identity` is whom it is told to, if that is known; `headers` are what all such
/// refusals say.
fn problem_for(
    refused: &Refused,
    request_id: &RequestId,
    identity: Option<&Identity>,
    mut headers: HeaderMap,
) -> Response {
    let (cause, status) = (refused.cause, status(refused.cause));
    let comes_back = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    // A whole second at least: HTTP has no shorter wait, and nobody knows a better one for an outage.
    let wait_seconds = refused.retry_after_ms.div_ceil(1000).max(1);
    let exact_ms = if refused.retry_after_ms == 0 { wait_seconds * 1000 } else { refused.retry_after_ms };
    let name_in = |step| refused.name.as_deref().filter(|_| cause.step() == Some(step));
    let violated = match cause {
        Cause::Decided(_) | Cause::FailedAttempts | Cause::TooManyWrites => {
            &[refused.name.as_deref().unwrap_or(cause.code())][..]
        }
        _ => &[],
    };
    let body = Problem {
        r#type: match status {
            StatusCode::TOO_MANY_REQUESTS => QUOTA_EXCEEDED,
            StatusCode::SERVICE_UNAVAILABLE => REDUCED_CAPACITY,
            _ => "about:blank",
        },
        title: refused.title,
        status: status.as_u16(),
        detail: refused.detail,
        code: cause.code(),
        // A body that no caller submitted was not on its way into the queue.
        step: cause.step().filter(|_| cause != Cause::Invalid || identity.is_some()).map(Step::as_str),
        retry_after_ms: comes_back.then_some(exact_ms),
        user_type: identity.map(|identity| identity.user_type().as_str()),
        session_id: identity.map(Identity::session_id),
        request_id: request_id.as_str(),
        limit: name_in(Step::RateLimit),
        budget: name_in(Step::Economics),
        violated_policies: comes_back.then_some(violated),
        errors: &refused.faults,
        degraded: refused.limits.assumed.then_some(Fallback::ServiceTimeUnmeasured.as_str()),
        current: match cause {
            Cause::RevisionConflict { current } => Some(current),
            _ => None,
        },
    };
    let mut response = Response::new(Body::from(body.json()));
    *response.status_mut() = status;
    let field = ratelimit_field::state_list(&refused.limits.states, refused.limits.aged_ms.into());
    set(&mut headers, RETRY_AFTER, comes_back.then(|| HeaderValue::from(wait_seconds)));
    set(&mut headers, RATELIMIT, field);
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §11.6.1: a 401 names a scheme that would be accepted.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let (Cause::InsufficientScope, Some(needed)) = (cause, &refused.name)
        && let Ok(challenge) = HeaderValue::from_str(&challenge::insufficient_scope(needed))
    {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    *response.headers_mut() = headers;
    response
}

/// What the caller has is still so (RFC 9110 §15.4.5).
pub(crate) fn not_modified() -> Response {
    StatusCode::NOT_MODIFIED.into_response()
}

/// An answer before it has the headers that every answer has.
#[derive(Debug)]
pub(crate) struct Answered {
    /// Status, body, and the headers that are this answer's own.
    pub(crate) response: Response,
    /// The policy it was decided under; `None`: it says nothing about one.
    pub(crate) policy: Option<Arc<PolicyInForce>>,
}

impl Answered {
    /// What a handler of the table of routes has answered, its notes taken out.
    pub(crate) fn of(mut response: Response) -> Result<Self, Refused> {
        match response.extensions_mut().remove::<Refused>() {
            Some(refused) => Err(refused),
            None => Ok(Self { policy: response.extensions_mut().remove::<Arc<PolicyInForce>>(), response }),
        }
    }
}

/// Carried in the response of a handler until `finish` writes it out, because only there are request id and caller at
/// hand.
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = status(self.cause).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Notes which policy a handler's answer was decided under, for `finish`.
pub(crate) fn set_policy(response: &mut Response, policy: Arc<PolicyInForce>) {
    response.extensions_mut().insert(policy);
}

/// Writes `RateLimit` from the limits at a decision that was made `aged_ms` ago.
pub(crate) fn set_limits(headers: &mut HeaderMap, limits: &[LimitState], aged_ms: u64) {
    if let Some(field) = ratelimit_field::state_list(limits, aged_ms) {
        headers.insert(RATELIMIT, field);
    }
}

/// The answer as it leaves: a refusal written out, and the headers every answer has. `in_force` is asked for the policy
/// of an answer that does not say under which it was decided.
pub(crate) fn finish(
    answer: Result<Answered, Refused>,
    request_id: &RequestId,
    identity: Option<&Identity>,
    in_force: impl FnOnce() -> Arc<PolicyInForce>,
    draining: bool,
) -> Response {
    let (mut response, policy) = match answer {
        Ok(Answered { mut response, policy }) => {
            let policy = policy.unwrap_or_else(in_force);
            set_common(response.headers_mut(), &policy, identity);
            (response, policy)
        }
        Err(mut refused) => {
            let policy = refused.policy.take().unwrap_or_else(in_force);
            let headers = identity.and_then(|identity| policy.refusal_headers(identity.user_type()));
            let headers = headers.unwrap_or_else(|| {
                let mut headers = of_problem();
                set_common(&mut headers, &policy, identity);
                headers
            });
            (problem_for(&refused, request_id, identity, headers), policy)
        }
    };
    // A tunnel that begins is not closed by the field that makes it one.
    let stays = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id.name.clone());
    if draining && !stays {
        say_goodbye(headers);
    }
    if let Some(identity) = identity {
        set(headers, SESSION_ID, identity.session_header().cloned());
        let hops = &identity.caller().hops;
        if !hops.is_empty() {
            let of_type = policy.type_headers(identity.user_type()).and_then(TypeHeaders::limits);
            if let Some(field) = ratelimit_field::policy_list_with(of_type, &chain_limits(hops)) {
                headers.insert(RATELIMIT_POLICY, field);
            }
        }
    }
    response
}

/// Has an answer say this and nothing else under a name.
fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

/// Sets what all answers to such callers under this policy say.
fn set_common(headers: &mut HeaderMap, policy: &PolicyInForce, identity: Option<&Identity>) {
    policy.write_revision(headers);
    let Some(identity) = identity else { return };
    match policy.type_headers(identity.user_type()) {
        Some(of_type) => of_type.write(headers),
        None => TypeHeaders::new(identity.user_type(), None).write(headers),
    }
}

/// The answer to a health check as it leaves: nobody's, under no policy.
pub(crate) fn finish_health(mut response: Response, request_id: RequestId, draining: bool) -> Response {
    let headers = response.headers_mut();
    headers.entry(REQUEST_ID).or_insert(request_id.name);
    if draining {
        say_goodbye(headers);
    }
    response
}

/// The client's next request goes to another gateway.
fn say_goodbye(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

#[cfg(test)]
mod tests;
