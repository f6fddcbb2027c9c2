//! A handler behind HTTP: the attempt as a POST, the response as its outcome.
//!
//! Responsible for the mapping that the public interface fixes: which headers go out, which statuses are final. Must
//! never forward the caller's credential (it is not even here), and never follow a redirect: the target is chosen by
//! the operator, not by whoever answers it.

mod response;
mod relay;
mod retry_after;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{AttemptContext, Handler, HandlerOutcome};

/// Longest wait for a connection; a backend that is down is better found out early and retried elsewhere.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Posts every attempt to one URL.
#[derive(Clone, Debug)]
pub struct HttpHandler {
    client: reqwest::Client,
    target: Url,
}

/// Why a target cannot be posted to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableTarget {
    /// It is no URL.
    #[error("not a URL: {0}")]
    Url(String),
    /// It is a URL of something else.
    #[error("{0}: is not http or https")]
    Scheme(String),
    /// TLS could not be set up.
    #[error("http client: {0}")]
    Client(String),
}

/// How a status is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The body is the result.
    Succeeded,
    /// Another attempt may do better.
    Retry,
    /// It will not do better.
    Failed,
}

/// 2xx is success; 408, 425, 429 and 5xx are worth another attempt; all else is final, redirects included.
pub(super) fn classify(status: u16) -> Answer {
    match status {
        200..=299 => Answer::Succeeded,
        408 | 425 | 429 | 500..=599 => Answer::Retry,
        _ => Answer::Failed,
    }
}

impl HttpHandler {
    /// A handler that posts to `target`.
    pub fn new(target: &str) -> Result<Self, UnusableTarget> {
        let target = Url::parse(target).map_err(|fault| UnusableTarget::Url(fault.to_string()))?;
        if !matches!(target.scheme(), "http" | "https") {
            return Err(UnusableTarget::Scheme(target.scheme().to_owned()));
        }
        let client = reqwest::Client::builder()
            // Work goes to whom the operator named, and not to whom a variable meant for other programs names.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("portcullis-processor/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|fault| UnusableTarget::Client(chain(&fault)))?;
        Ok(Self { client, target })
    }
}

#[async_trait]
impl Handler for HttpHandler {
    /// The attempt's deadline is the runner's to keep: when it drops this future, the connection is closed.
    async fn handle(&self, attempt: AttemptContext) -> HandlerOutcome {
        let headers = match request_headers(&attempt) {
            Ok(headers) => headers,
            Err(fault) => return HandlerOutcome::failed("invalid_request", fault),
        };
        let request = self.client.post(self.target.clone()).headers(headers).body(attempt.payload.clone());
        match request.send().await {
            Ok(answer) => response::read(answer, &attempt).await,
            Err(fault) => unreachable(fault),
        }
    }
}

/// A broken or refused connection; the URL is the operator's business and stays out of it.
fn unreachable(fault: reqwest::Error) -> HandlerOutcome {
    HandlerOutcome::retry("handler_unreachable", chain(&fault.without_url()))
}

/// An error with its causes, which `reqwest` keeps out of its own message.
fn chain(fault: &(dyn std::error::Error + 'static)) -> String {
    let mut text = fault.to_string();
    let mut cause = fault.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn request_headers(attempt: &AttemptContext) -> Result<HeaderMap, InvalidHeaderValue> {
    let envelope = &attempt.envelope;
    let (number, token) = (attempt.number.to_string(), attempt.token.to_string());
    let deadline = rfc3339(attempt.deadline_ms);
    let traceparent = envelope.traceparent.clone().unwrap_or_else(new_trace);
    let task_id = attempt.task_id.as_str();
    let mut headers = HeaderMap::with_capacity(16);
    let mut put = |name: HeaderName, value: &str| {
        // Names of people may be UTF-8: sent as they are, refused only if they could break the header apart.
        HeaderValue::from_bytes(value.as_bytes()).map(|value| headers.insert(name, value))
    };
    put(CONTENT_TYPE, &envelope.content_type)?;
    put(HeaderName::from_static("x-task-id"), task_id)?;
    put(HeaderName::from_static("idempotency-key"), task_id)?;
    put(HeaderName::from_static("x-attempt"), &number)?;
    put(HeaderName::from_static("x-fencing-token"), &token)?;
    put(HeaderName::from_static("x-tenant"), attempt.scope.tenant())?;
    put(HeaderName::from_static("x-project"), attempt.scope.project())?;
    put(HeaderName::from_static("x-user-type"), envelope.user_type.as_str())?;
    put(HeaderName::from_static("x-session-id"), &envelope.session_id)?;
    put(HeaderName::from_static("x-principal"), &envelope.principal)?;
    if let Some(actor) = &envelope.actor {
        put(HeaderName::from_static("x-actor"), actor)?;
    }
    put(HeaderName::from_static("x-request-id"), &envelope.request_id)?;
    put(HeaderName::from_static("x-deadline"), &deadline)?;
    put(HeaderName::from_static("traceparent"), &traceparent)?;
    if let Some(tracestate) = &envelope.tracestate {
        put(HeaderName::from_static("tracestate"), tracestate)?;
    }
    Ok(headers)
}

fn rfc3339(at_ms: u64) -> String {
    // Beyond the year 9999 there is no RFC 3339; such a deadline is none.
    let last = OffsetDateTime::new_utc(time::Date::MAX, time::Time::MIDNIGHT);
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000).unwrap_or(last);
    at.format(&Rfc3339).unwrap_or_default()
}

/// A new W3C trace for a task that came without one, so that the backend's logs can be joined by it.
fn new_trace() -> String {
    // Zero is no valid id in either place.
    let trace = rand::random_range(1..=u128::MAX);
    let span = rand::random_range(1..=u64::MAX);
    format!("00-{trace:032x}-{span:016x}-00")
}

#[cfg(test)]
mod tests;
