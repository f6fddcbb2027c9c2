//! Handlers for trying things out: `builtin:echo` and `builtin:sleep`.
//!
//! Responsible for behaving like a backend of chosen speed and reliability, for demonstrations and tests. Must never
//! leave the process.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use portcullis_lua::TaskResult;
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use super::http::{Answer, classify};
use super::{AttemptContext, Handler, HandlerOutcome, error};

/// Most pieces one [`Sleep`] streams.
const OUTPUT_MAX: u32 = 10_000;

/// `builtin:echo`: the payload is the result, under the content type it came with.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, attempt: AttemptContext) -> HandlerOutcome {
        let result = TaskResult { content_type: attempt.envelope.content_type, body: attempt.payload };
        HandlerOutcome::Succeeded { result, usage: Vec::new() }
    }
}

/// `builtin:sleep`: does nothing for a while, as its JSON payload says (every field may be left out):
///
/// | field | means |
/// |---|---|
/// | `ms` | how long to work, milliseconds |
/// | `output` | pieces to stream, spread evenly over that time (at most 10,000): `piece 1 of 3`, … |
/// | `fail_times` | how many attempts fail; without it, all do if there is a `status` and none otherwise |
/// | `status` | what a failing attempt answers, read as the HTTP status of a handler; 503 if left out |
/// | `usage` | units reported as used, `{"tokens": 12}` |
///
/// An attempt that does not fail answers `{"slept_ms":…,"attempt":…}`.
#[derive(Clone, Copy, Debug)]
pub struct Sleep;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Order {
    ms: u64,
    output: u32,
    fail_times: Option<u32>,
    status: Option<u16>,
    usage: BTreeMap<String, u64>,
}

#[async_trait]
impl Handler for Sleep {
    async fn handle(&self, attempt: AttemptContext) -> HandlerOutcome {
        match serde_json::from_slice::<Order>(&attempt.payload) {
            Ok(order) if order.output <= OUTPUT_MAX => order.carry_out(&attempt).await,
            Ok(_) => HandlerOutcome::failed("invalid_payload", format_args!("output is at most {OUTPUT_MAX}")),
            Err(fault) => HandlerOutcome::failed("invalid_payload", fault),
        }
    }
}

impl Order {
    async fn carry_out(self, attempt: &AttemptContext) -> HandlerOutcome {
        let naps = self.output.max(1);
        for piece in 1..=naps {
            sleep(Duration::from_millis(self.ms) / naps).await;
            if self.output > 0 {
                // Refused only when the attempt is over, and then this future is about to be dropped.
                let _ = attempt.output.send(format!("piece {piece} of {naps}")).await;
            }
        }
        let failing = self.fail_times.unwrap_or(if self.status.is_some() { u32::MAX } else { 0 });
        let status = self.status.unwrap_or(503);
        let usage: Vec<(String, u64)> = self.usage.into_iter().collect();
        if attempt.number <= failing {
            let told = error("handler_status", format_args!("told to answer {status} on attempt {}", attempt.number));
            match classify(status) {
                Answer::Retry => return HandlerOutcome::Retry { error: told, after: None },
                Answer::Failed => return HandlerOutcome::Failed { error: told, usage },
                Answer::Succeeded => {}
            }
        }
        let body = json!({ "slept_ms": self.ms, "attempt": attempt.number }).to_string().into();
        let result = TaskResult { content_type: "application/json".to_owned(), body };
        HandlerOutcome::Succeeded { result, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[tokio::test]
    async fn echo_answers_the_payload() {
        let (attempt, _output) = fake::attempt_context("echo", b"\x00raw");
        let content_type = attempt.envelope.content_type.clone();
        let result = TaskResult { content_type, body: (&b"\x00raw"[..]).into() };
        assert_eq!(Echo.handle(attempt).await, HandlerOutcome::Succeeded { result, usage: vec![] });
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_fails_as_often_as_told_and_then_succeeds() {
        let (mut attempt, _output) = fake::attempt_context("slow", br#"{"ms":20,"fail_times":1}"#);
        let first = Sleep.handle(attempt.clone()).await;
        assert!(matches!(first, HandlerOutcome::Retry { .. }), "{first:?}");
        attempt.number = 2;
        let second = Sleep.handle(attempt).await;
        assert_eq!(second, HandlerOutcome::json(&json!({ "slept_ms": 20, "attempt": 2 })));
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_answers_the_status_it_is_told() {
        let (attempt, _output) = fake::attempt_context("slow", br#"{"status":404,"usage":{"tokens":7}}"#);
        let HandlerOutcome::Failed { usage, .. } = Sleep.handle(attempt).await else { panic!("404 is final") };
        assert_eq!(usage, [("tokens".to_owned(), 7)]);
    }

    #[tokio::test(start_paused = true)]
    async fn sleep_streams_pieces() {
        let (attempt, output) = fake::attempt_context("slow", br#"{"ms":9,"output":3}"#);
        assert!(matches!(Sleep.handle(attempt).await, HandlerOutcome::Succeeded { .. }));
        assert_eq!(output.pieces().await, ["piece 1 of 3", "piece 2 of 3", "piece 3 of 3"]);
    }

    #[tokio::test]
    async fn sleep_refuses_what_it_does_not_understand() {
        for payload in [&b"7"[..], br#"{"millis":5}"#, br#"{"output":10001}"#, b"{"] {
            let (attempt, _output) = fake::attempt_context("slow", payload);
            let HandlerOutcome::Failed { error, .. } = Sleep.handle(attempt).await else { panic!("{payload:?}") };
            assert_eq!(error.code, "invalid_payload");
        }
    }
}
