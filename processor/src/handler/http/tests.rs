//! The mapping of HTTP, against a real server on loopback.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap as Headers, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use portcullis_lua::TaskResult;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::fake;

/// A backend on loopback; gone when dropped.
struct Backend {
    url: String,
    _serving: JoinSet<()>,
}

impl Backend {
    async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/run", listener.local_addr().unwrap());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, _serving: serving }
    }

    /// One that always answers the same.
    async fn answering<A, F>(answer: F) -> Self
    where
        A: IntoResponse,
        F: Fn() -> A + Clone + Send + Sync + 'static,
    {
        Self::start(Router::new().route("/run", post(move || async move { answer() }))).await
    }

    async fn run(&self) -> (HandlerOutcome, Vec<String>) {
        let (attempt, streamed) = fake::attempt_context("chat", br#"{"prompt":"hi"}"#);
        let outcome = HttpHandler::new(&self.url).unwrap().handle(attempt).await;
        (outcome, streamed.pieces().await)
    }

    async fn outcome(&self) -> HandlerOutcome {
        self.run().await.0
    }
}

fn succeeded(outcome: HandlerOutcome) -> (TaskResult, Vec<(String, u64)>) {
    match outcome {
        HandlerOutcome::Succeeded { result, usage } => (result, usage),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_request_carries_what_the_interface_promises() {
    type Seen = Arc<Mutex<Option<(HashMap<String, String>, Bytes)>>>;
    let seen = Seen::default();
    let recorded = Arc::clone(&seen);
    let record = move |headers: Headers, body: Bytes| async move {
        let text = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        *recorded.lock().unwrap() = Some((headers.iter().map(text).collect(), body));
    };
    let backend = Backend::start(Router::new().route("/run", post(record))).await;
    let (mut attempt, _streamed) = fake::attempt_context("chat", br#"{"prompt":"hi"}"#);
    attempt.envelope.principal = "zoë".to_owned();
    attempt.envelope.actor = Some("agent-7".to_owned());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    attempt.envelope.traceparent = Some(traceparent.to_owned());
    attempt.envelope.tracestate = Some("vendor=1".to_owned());
    let task_id = attempt.task_id.to_string();
    HttpHandler::new(&backend.url).unwrap().handle(attempt).await;
    let (headers, body) = seen.lock().unwrap().take().unwrap();
    assert_eq!(body, r#"{"prompt":"hi"}"#);
    for (name, value) in [
        ("content-type", "application/json"),
        ("x-task-id", &task_id),
        ("idempotency-key", &task_id),
        ("x-attempt", "1"),
        ("x-fencing-token", "7"),
        ("x-tenant", "acme"),
        ("x-project", "shop"),
        ("x-user-type", "paid"),
        ("x-session-id", "session-1"),
        ("x-principal", "zoë"),
        ("x-actor", "agent-7"),
        ("x-request-id", "request-1"),
        ("x-deadline", "2023-11-14T22:14:20.005Z"),
        ("traceparent", traceparent),
        ("tracestate", "vendor=1"),
    ] {
        assert_eq!(headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!headers.contains_key("authorization") && !headers.contains_key("cookie"));
}

#[tokio::test]
async fn a_header_that_could_break_the_request_apart_is_refused() {
    let backend = Backend::answering(|| "never asked").await;
    let (mut attempt, _streamed) = fake::attempt_context("chat", b"{}");
    attempt.envelope.principal = "eve\r\nX-User-Type: privileged".to_owned();
    let outcome = HttpHandler::new(&backend.url).unwrap().handle(attempt).await;
    assert!(matches!(outcome, HandlerOutcome::Failed { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_json_body_is_the_result_and_reports_usage() {
    let body = r#"{"answer":42,"usage":{"total_tokens":12,"prompt_tokens":9}}"#;
    let fields =
        [("content-type", "application/json"), ("x-usage-micro-dollars", "350"), ("x-usage-prompt_tokens", "8")];
    let backend = Backend::answering(move || (fields, body)).await;
    let (result, mut usage) = succeeded(backend.outcome().await);
    assert_eq!((result.content_type.as_str(), &result.body[..]), ("application/json", body.as_bytes()));
    usage.sort();
    let expected = [("micro_dollars", 350), ("prompt_tokens", 8), ("tokens", 12)];
    assert_eq!(usage, expected.map(|(unit, amount)| (unit.to_owned(), amount)));
}

#[tokio::test]
async fn statuses_decide_between_another_attempt_and_failure() {
    for (status, retried) in [
        (400, false),
        (401, false),
        (404, false),
        (408, true),
        (409, false),
        (422, false),
        (425, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
        (302, false),
        (304, false),
    ] {
        let code = StatusCode::from_u16(status).unwrap();
        let backend = Backend::answering(move || (code, "because")).await;
        let error = match (backend.outcome().await, retried) {
            (HandlerOutcome::Retry { error, .. }, true) | (HandlerOutcome::Failed { error, .. }, false) => error,
            (other, _) => panic!("{status}: {other:?}"),
        };
        assert_eq!(error.code, "handler_status");
        assert!(error.detail.contains(&status.to_string()), "{error:?}");
        assert_eq!(error.detail.ends_with(": because"), status != 304, "{error:?}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let backend = Backend::answering(|| (StatusCode::TEMPORARY_REDIRECT, [("location", "/run")])).await;
    assert!(matches!(backend.outcome().await, HandlerOutcome::Failed { .. }));
}

#[tokio::test]
async fn retry_after_is_passed_on() {
    let backend = Backend::answering(|| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "17")])).await;
    let HandlerOutcome::Retry { after, .. } = backend.outcome().await else { panic!("429 is retried") };
    assert_eq!(after, Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn a_refusing_body_is_quoted_up_to_500_bytes() {
    let backend = Backend::answering(|| (StatusCode::BAD_REQUEST, "é".repeat(10_000))).await;
    let HandlerOutcome::Failed { error, .. } = backend.outcome().await else { panic!("400 is final") };
    assert!(error.detail.ends_with(&"é".repeat(250)), "{error:?}");
    assert!(!error.detail.contains(&"é".repeat(251)), "{error:?}");
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_worth_another_attempt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Backend { url: format!("http://{}/run", listener.local_addr().unwrap()), _serving: JoinSet::new() };
    drop(listener);
    let HandlerOutcome::Retry { error, .. } = gone.outcome().await else { panic!("it is retried") };
    assert_eq!(error.code, "handler_unreachable");
    assert!(!error.detail.contains("127.0.0.1"), "the target is the operator's business: {error:?}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_worth_another_attempt() {
    let broken = || {
        let pieces = [Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("gone"))];
        Body::from_stream(futures_util::stream::iter(pieces))
    };
    let backend = Backend::answering(broken).await;
    let HandlerOutcome::Retry { error, .. } = backend.outcome().await else { panic!("it is retried") };
    assert_eq!(error.code, "handler_unreachable");
}

#[tokio::test]
async fn results_are_bounded_with_and_without_a_length() {
    let streamed =
        || Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; 65]))]));
    let whole = || Body::from(vec![b'x'; 65]);
    for body in [streamed as fn() -> Body, whole as fn() -> Body] {
        let backend = Backend::answering(body).await;
        for (max_result_bytes, fits) in [(64, false), (65, true)] {
            let (mut attempt, _streamed) = fake::attempt_context("chat", b"{}");
            attempt.max_result_bytes = max_result_bytes;
            match HttpHandler::new(&backend.url).unwrap().handle(attempt).await {
                HandlerOutcome::Succeeded { result, .. } => assert!(fits && result.body.len() == 65),
                HandlerOutcome::Failed { error, .. } => assert!(!fits && error.code == "result_too_large"),
                other @ HandlerOutcome::Retry { .. } => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn events_are_relayed_while_they_arrive_and_kept_whole() {
    let (sender, receiver) = mpsc::channel::<&'static str>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let stream = move || -> Response {
        let receiver = receiver.lock().unwrap().take().unwrap();
        let chunks = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|chunk| (Ok::<_, std::io::Error>(chunk), receiver))
        });
        ([("content-type", "text/event-stream")], Body::from_stream(chunks)).into_response()
    };
    let backend = Backend::answering(stream).await;
    let (mut attempt, _streamed) = fake::attempt_context("chat", b"{}");
    let (sink, writer) = crate::output::channel();
    attempt.output = sink;
    let (store, answered) = (fake::FakeStore::default(), CancellationToken::new());
    let lease = fake::lease("chat", 7);
    let handler = HttpHandler::new(&backend.url).unwrap();
    let answering = async {
        let outcome = handler.handle(attempt).await;
        answered.cancel();
        outcome
    };
    let backend_writes = async {
        sender.send("data: one\n\n").await.unwrap();
        // The second is written only once the first has come out at the other end.
        store.until(|contents| contents.output == ["one"]).await;
        sender.send("data: {\"usage\":{\"total_tokens\":5}}\n\n").await.unwrap();
        drop(sender);
    };
    let (outcome, (), written) =
        tokio::join!(answering, backend_writes, writer.write(&store, &lease, answered.clone()));
    written.unwrap();
    let (result, usage) = succeeded(outcome);
    assert_eq!(result.body, "data: one\n\ndata: {\"usage\":{\"total_tokens\":5}}\n\n");
    assert_eq!(usage, [("tokens".to_owned(), 5)]);
    assert_eq!(store.read(|contents| contents.output.len()), 2);
}

#[tokio::test]
async fn json_lines_are_relayed_line_by_line() {
    let backend = Backend::answering(|| ([("content-type", "application/x-ndjson")], "{\"n\":1}\n{\"n\":2}\n")).await;
    let (outcome, pieces) = backend.run().await;
    assert_eq!(pieces, ["{\"n\":1}", "{\"n\":2}"]);
    assert_eq!(succeeded(outcome).0.body, "{\"n\":1}\n{\"n\":2}\n");
}

#[tokio::test]
async fn dropping_the_attempt_closes_the_connection() {
    let (closed, mut was_closed) = mpsc::channel::<()>(1);
    let (begun, mut has_begun) = mpsc::channel::<()>(1);
    let endless = move || {
        let (closed, begun) = (closed.clone(), begun.clone());
        async move {
            // Dropped by the server when the client is gone.
            let _tell = closed;
            begun.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    };
    let backend = Backend::start(Router::new().route("/run", post(endless))).await;
    let (attempt, _streamed) = fake::attempt_context("chat", b"{}");
    let handler = HttpHandler::new(&backend.url).unwrap();
    tokio::select! {
        outcome = handler.handle(attempt) => panic!("{outcome:?}"),
        _ = has_begun.recv() => {}
    }
    drop(backend);
    assert_eq!(was_closed.recv().await, None);
}

#[test]
fn deadlines_beyond_the_calendar_are_still_dates() {
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    assert_eq!(rfc3339(1_795_000_000_123), "2026-11-18T11:06:40.123Z");
    assert!(rfc3339(u64::MAX).starts_with("9999-12-31"));
}

#[test]
fn new_traces_are_well_formed() {
    let trace = new_trace();
    let lengths: Vec<usize> = trace.split('-').map(str::len).collect();
    assert_eq!(lengths, [2, 32, 16, 2]);
}
