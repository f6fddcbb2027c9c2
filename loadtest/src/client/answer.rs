//! One complete answer of a gateway.
//!
//! Responsible for reading what the public interface promises out of it. Must never judge: expectations stand with the
//! tests.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::time::Instant;

use crate::error::HarnessError;

/// Status, headers, body and how long it took.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; null when it is none.
    pub body: Value,
    /// From sending to the last byte.
    pub elapsed: Duration,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response, sent: Instant) -> Result<Self, HarnessError> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok(Self { status, headers, text, body, elapsed: sent.elapsed() })
    }

    /// Whether a submission became a task, or found the one it already was.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self.status, 200 | 202)
    }

    /// The `code` of a refusal; empty on anything else.
    #[must_use]
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The `step` of a refusal; empty on anything else.
    #[must_use]
    pub fn step(&self) -> &str {
        self.body["step"].as_str().unwrap_or_default()
    }

    /// The task's id, if the answer is about one.
    #[must_use]
    pub fn task_id(&self) -> &str {
        self.body["task_id"].as_str().unwrap_or_default()
    }

    /// The task's status, if the answer is about one.
    #[must_use]
    pub fn task_status(&self) -> &str {
        self.body["status"].as_str().unwrap_or_default()
    }

    /// Whether the task it is about has reached one of its five ends.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.task_status(), "succeeded" | "failed" | "dead" | "cancelled" | "expired")
    }

    /// The `Retry-After` header.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?.parse().ok().map(Duration::from_secs)
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
