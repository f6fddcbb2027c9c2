//! The headers that answers to all callers of one user type under one policy have in common.
//!
//! Responsible for writing them once per policy instead of once per answer: a flood of refusals is what a gateway
//! spends most of its time on when it matters. Must never hold what is one caller's or one request's: such headers have
//! their places here, and what stands in them is empty until an answer is written.

use std::sync::OnceLock;

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_config::UserType;

use crate::ratelimit_field::{RATELIMIT, RATELIMIT_POLICY};

/// Names the request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What the caller's limits are counted on.
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");
/// As what the caller is served.
pub(crate) const USER_TYPE: HeaderName = HeaderName::from_static("x-user-type");
/// The revision an answer was given under.
pub(crate) const POLICY_REVISION: HeaderName = HeaderName::from_static("x-policy-revision");

/// Room for the headers of an answer: a map that is made with it is never made again.
const HEADERS: usize = 12;

/// Of which each refusal to a caller has its own, or has none.
const OWN: [HeaderName; 4] = [REQUEST_ID, SESSION_ID, RETRY_AFTER, RATELIMIT];

/// What answers to callers of a user type say about it under a policy.
#[derive(Debug)]
pub(crate) struct TypeHeaders {
    user_type: Option<HeaderValue>,
    limits: Option<HeaderValue>,
    /// Most types of most scopes are never refused anything.
    refusal: OnceLock<HeaderMap>,
}

impl TypeHeaders {
    /// Of a user type with these limits, as `RateLimit-Policy` has them.
    pub(crate) fn new(user_type: &UserType, limits: Option<HeaderValue>) -> Self {
        // Names of user types are made of letters, digits, '-' and '_'.
        Self { user_type: HeaderValue::from_str(user_type.as_str()).ok(), limits, refusal: OnceLock::new() }
    }

    /// `RateLimit-Policy`; `None` when nothing limits it.
    pub(crate) fn limits(&self) -> Option<&HeaderValue> {
        self.limits.as_ref()
    }

    /// Writes them into an answer.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        for (name, value) in [(USER_TYPE, &self.user_type), (RATELIMIT_POLICY, &self.limits)] {
            if let Some(value) = value {
                headers.insert(name, value.clone());
            }
        }
    }

    /// All headers of a refusal under this revision. Every refusal sets those that are its own or removes them.
    pub(crate) fn refusal(&self, revision: &HeaderValue) -> HeaderMap {
        let prepared = self.refusal.get_or_init(|| {
            let mut headers = of_problem();
            headers.insert(POLICY_REVISION, revision.clone());
            self.write(&mut headers);
            for name in OWN {
                headers.insert(name, HeaderValue::from_static(""));
            }
            headers
        });
        prepared.clone()
    }
}

/// What every refusal says, whoever is refused.
pub(crate) fn of_problem() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    set_own(&mut headers);
    headers
}

/// Has a browser take this gateway's own answer for nothing but what it is labelled: reasons, results and faults hold
/// what others wrote. An application's answers are its own to label.
pub(crate) fn set_own(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}
