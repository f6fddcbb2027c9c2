//! What a refusal looks like in HTTP, and the headers every answer carries.
//!
//! Responsible for the one mapping from causes to statuses: no other file names a status of a refusal. Bodies are
//! problem details (RFC 9457) with the problem types of draft-ietf-httpapi-ratelimit-headers-11. Must never show one
//! caller anything about another: what it writes comes from the refusal, the caller's identity and the policy.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use portcullis_config::UserType;
use portcullis_lua::{LimitState, Reason, Step};
use serde::Serialize;

use crate::admission::session::Identity;
use crate::policy_in_force::PolicyInForce;
use crate::ratelimit_field;
use crate::refusal::{Cause, Refused, RequestFault};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
const USER_TYPE: HeaderName = HeaderName::from_static("x-user-type");
const POLICY_REVISION: HeaderName = HeaderName::from_static("x-policy-revision");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const REDUCED_CAPACITY: &str = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// Longest request id taken over from a client, bytes.
const MAX_REQUEST_ID: usize = 64;

/// Names one request in answers, logs, decisions and tasks.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// The client's `X-Request-Id` if it is short and harmless, else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let sent = headers.get(REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(harmless)
        });
        sent.cloned().map_or_else(Self::generate, Self)
    }

    fn generate() -> Self {
        // A ULID is made of letters and digits.
        let text = ulid::Ulid::generate().to_string();
        Self(HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("none")))
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

/// The status of a refusal.
fn status(cause: Cause) -> StatusCode {
    match cause {
        Cause::Unauthenticated => StatusCode::UNAUTHORIZED,
        Cause::Unattributable | Cause::Invalid => StatusCode::BAD_REQUEST,
        Cause::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Cause::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Cause::NotFound => StatusCode::NOT_FOUND,
        Cause::RevisionConflict { .. } => StatusCode::CONFLICT,
        Cause::StoreUnavailable | Cause::Draining | Cause::StreamLimit => StatusCode::SERVICE_UNAVAILABLE,
        Cause::Decided(Reason::IdempotencyMismatch) => StatusCode::UNPROCESSABLE_ENTITY,
        Cause::Decided(reason) => match reason.step() {
            Step::RateLimit | Step::Economics => StatusCode::TOO_MANY_REQUESTS,
            Step::Session | Step::Backpressure | Step::CircuitBreaker | Step::Enqueue => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        },
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    step: Option<&'static str>,
    /// Seconds, to the millisecond; absent from what waiting does not help.
    retry_after: Option<f64>,
    user_type: Option<&'a UserType>,
    session_id: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<&'a str>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "<[RequestFault]>::is_empty")]
    errors: &'a [RequestFault],
    /// Revision that is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<u64>,
}

/// A refusal on the admin listener, whose callers have no identity here.
pub(crate) fn problem(refused: &Refused) -> Response {
    let request_id = RequestId::generate();
    let mut response = problem_for(refused, &request_id, None);
    response.headers_mut().insert(REQUEST_ID, request_id.0);
    response
}

/// A refusal as problem details. `identity` is whom it is told to, if that is known.
fn problem_for(refused: &Refused, request_id: &RequestId, identity: Option<&Identity>) -> Response {
    let (cause, status) = (refused.cause, status(refused.cause));
    let comes_back = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    // A whole second at least: HTTP has no shorter wait, and nobody knows a better one for an outage.
    let wait_seconds = refused.retry_after_ms.div_ceil(1000).max(1);
    let exact_seconds = match refused.retry_after_ms {
        0 => wait_seconds as f64,
        ms => ms as f64 / 1000.0,
    };
    let name_in = |step| refused.name.as_deref().filter(|_| cause.step() == Some(step));
    let violated = match cause {
        Cause::Decided(_) => vec![refused.name.as_deref().unwrap_or(cause.code())],
        _ => Vec::new(),
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
        retry_after: comes_back.then_some(exact_seconds),
        user_type: identity.map(Identity::user_type),
        session_id: identity.map(Identity::session_id),
        request_id: request_id.as_str(),
        limit: name_in(Step::RateLimit),
        budget: name_in(Step::Economics),
        violated_policies: comes_back.then_some(violated),
        errors: &refused.faults,
        current: match cause {
            Cause::RevisionConflict { current } => Some(current),
            _ => None,
        },
    };
    let mut response = (status, Body::from(serde_json::to_vec(&body).unwrap_or_default())).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if comes_back {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait_seconds));
    }
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 §11.6.1: a 401 names a scheme that would be accepted.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    set_limits(headers, &refused.limits);
    response
}

/// Carried in the response until `finish` writes it out, because only there are request id and caller at hand.
impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = status(self.cause).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Notes which policy an answer was decided under, for `finish`.
pub(crate) fn set_policy(response: &mut Response, policy: Arc<PolicyInForce>) {
    response.extensions_mut().insert(policy);
}

/// Writes `RateLimit` from the limits at a decision.
pub(crate) fn set_limits(headers: &mut HeaderMap, limits: &[LimitState]) {
    if let Some(field) = ratelimit_field::state_list(limits) {
        headers.insert(RATELIMIT, field);
    }
}

/// The answer as it leaves: a refusal written out, and the headers every answer has. `policy` is the one in force now;
/// an answer that was decided under another says so itself.
pub(crate) fn finish(
    mut response: Response,
    request_id: &RequestId,
    identity: Option<&Identity>,
    policy: &Arc<PolicyInForce>,
    draining: bool,
) -> Response {
    let mut decided_under = response.extensions_mut().remove::<Arc<PolicyInForce>>();
    if let Some(refused) = response.extensions_mut().remove::<Refused>() {
        response = problem_for(&refused, request_id, identity);
        decided_under = decided_under.or(refused.policy);
    }
    let policy = decided_under.as_ref().unwrap_or(policy);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id.0.clone());
    headers.insert(POLICY_REVISION, policy.revision_header().clone());
    if let Some(identity) = identity {
        // Names of user types and sessions are made of letters, digits, '-' and '_'.
        for (name, value) in [(USER_TYPE, identity.user_type().as_str()), (SESSION_ID, identity.session_id())] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        if let Some(field) = policy.limit_header(identity.user_type()) {
            headers.insert(RATELIMIT_POLICY, field.clone());
        }
    }
    if draining {
        // The client's next request goes to another gateway.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests;
