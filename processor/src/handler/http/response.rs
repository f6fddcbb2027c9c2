//! A handler's response, read into an outcome.
//!
//! Responsible for the bound on results and for relaying streams while they arrive. Must never hold more of a body than
//! the policy allows as a result.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use portcullis_lua::TaskResult;
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use tokio::time::timeout;

use super::relay::Splitter;
use super::retry_after::retry_after;
use super::{Answer, classify, unreachable};
use crate::handler::{AttemptContext, HandlerOutcome, error, usage};

/// How much of a refusing body goes into the task's error, bytes.
const DETAIL_BYTES: usize = 500;

/// How long to wait for it; the status alone says enough.
const DETAIL_WAIT: Duration = Duration::from_secs(2);

/// Reads the response to one attempt.
pub(super) async fn read(response: Response, attempt: &AttemptContext) -> HandlerOutcome {
    match classify(response.status().as_u16()) {
        Answer::Succeeded => result(response, attempt).await,
        Answer::Retry => {
            let after = retry_after(response.headers(), SystemTime::now());
            HandlerOutcome::Retry { error: error("handler_status", refusal(response).await), after }
        }
        Answer::Failed => {
            let usage = usage::from_headers(response.headers());
            HandlerOutcome::Failed { error: error("handler_status", refusal(response).await), usage }
        }
    }
}

async fn result(mut response: Response, attempt: &AttemptContext) -> HandlerOutcome {
    let content_type = content_type(&response);
    let measured = usage::from_headers(response.headers());
    let most = usize::try_from(attempt.max_result_bytes).unwrap_or(usize::MAX);
    if response.content_length().is_some_and(|length| length > attempt.max_result_bytes) {
        return too_large(attempt.max_result_bytes, measured);
    }
    let mut splitter = Splitter::for_content_type(&content_type);
    let mut streamed = None;
    let mut body = BytesMut::new();
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(fault) => return unreachable(fault),
        };
        if body.len() + chunk.len() > most {
            return too_large(attempt.max_result_bytes, measured);
        }
        body.extend_from_slice(&chunk);
        if let Some(splitter) = &mut splitter {
            relay(splitter.push(&chunk), attempt, &mut streamed).await;
        }
    }
    if let Some(last) = splitter.and_then(Splitter::finish) {
        relay(vec![last], attempt, &mut streamed).await;
    }
    let reported = streamed.or_else(|| usage::is_json(&content_type).then(|| usage::from_json(&body)).flatten());
    let result = TaskResult { content_type, body: body.freeze() };
    HandlerOutcome::Succeeded { result, usage: usage::merge(measured, reported.unwrap_or_default()) }
}

/// Sends pieces on and remembers the last usage one of them reports, as streaming model servers do.
async fn relay(pieces: Vec<Bytes>, attempt: &AttemptContext, streamed: &mut Option<Vec<(String, u64)>>) {
    for piece in pieces {
        if let Some(usage) = usage::from_json(&piece) {
            *streamed = Some(usage);
        }
        // Refused only when the attempt is over, and then this future is about to be dropped.
        let _ = attempt.output.send(piece).await;
    }
}

fn too_large(max_result_bytes: u64, usage: Vec<(String, u64)>) -> HandlerOutcome {
    let detail = format!("the result is larger than {max_result_bytes} bytes");
    HandlerOutcome::Failed { error: error("result_too_large", detail), usage }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or("application/octet-stream").to_owned()
}

/// The status and the beginning of the body.
async fn refusal(mut response: Response) -> String {
    let status = response.status();
    let mut body = Vec::new();
    // Whatever has come by then is used, so neither the elapsed time nor a broken connection matters.
    let _ = timeout(DETAIL_WAIT, async {
        while body.len() < DETAIL_BYTES
            && let Ok(Some(chunk)) = response.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
    })
    .await;
    body.truncate(DETAIL_BYTES);
    let body = String::from_utf8_lossy(&body);
    let body = body.trim_end_matches(char::REPLACEMENT_CHARACTER).trim();
    if body.is_empty() { format!("handler answered {status}") } else { format!("handler answered {status}: {body}") }
}
