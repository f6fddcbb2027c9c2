//! An application that is not there, hangs, breaks off or answers nonsense; a client that does.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::application::Application;
use super::{before, guarded, head, read_to_end, read_until, send, until_in_flight};
use crate::fixture::{Fixture, start, until};

/// Small, but larger than what a busy machine takes for anything that is to succeed here.
const SHORT_MS: u64 = 1500;

#[tokio::test]
async fn an_application_that_fails_is_502_and_leaves_nothing_in_flight() {
    let open = json!({ "circuit_breakers": { "tasks": { "minimum_calls": 1000 } } });
    let (cluster, mut application) = guarded(5, &open).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    for (path, code) in [
        ("/guarded/reset", "upstream_unreachable"),
        ("/guarded/two-lengths", "upstream_invalid"),
        ("/guarded/no-http", "upstream_invalid"),
        ("/guarded/huge-head", "upstream_invalid"),
    ] {
        let answer = client.get(path).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (502, code), "{path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.header("x-request-id").is_some() && answer.retry_after().is_none());
        assert!(!answer.text.contains("127.0.0.1"), "{}", answer.text);
    }
    for path in ["/guarded/reset-in-body", "/guarded/bad-chunk"] {
        assert!(client.get(path).await.is_err(), "{path} must not look complete");
    }
    let answer = client.get("/guarded/status-503").await.expect("an answer");
    assert_eq!((answer.status, answer.text.as_str()), (503, "no"), "an application's own error is its own answer");
    until_in_flight(&cluster, 0).await;
    application.vanish().await;
    let answer = client.get("/guarded/ok").await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (502, "upstream_unreachable"));
    until_in_flight(&cluster, 0).await;
    application.come_back().await;
    assert_eq!(client.get("/guarded/ok").await.expect("an answer").status, 200);
}

#[tokio::test]
async fn an_application_that_hangs_is_504_and_its_connection_is_closed() {
    let short = json!({ "proxy": { "response_timeout_ms": SHORT_MS, "idle_timeout_ms": SHORT_MS } });
    let (cluster, application) = guarded(5, &short).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let answer = client.get("/guarded/hang").await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (504, "upstream_timeout"));
    assert!(client.get("/guarded/hang-in-body").await.is_err(), "it must not look complete");
    until_in_flight(&cluster, 0).await;
    until("its connections are closed", || async { (application.running() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    // One failure would do.
    let one_failure = json!({ "circuit_breakers": { "tasks": { "minimum_calls": 1 } } });
    let (cluster, application) = guarded(9, &one_failure).await;
    let before_the_answer = send(&cluster, &(head("GET", "/guarded/hang") + "\r\n")).await;
    let mut in_the_answer = send(&cluster, &(head("GET", "/guarded/hang-in-body") + "\r\n")).await;
    let in_its_own_body = send(&cluster, &(head("POST", "/guarded/echo") + "Content-Length: 9\r\n\r\nab")).await;
    read_until(&mut in_the_answer, "half").await;
    until_in_flight(&cluster, 3).await;
    until("the application has all of them", || async { (application.running() == 3).then_some(()) }).await;
    drop((before_the_answer, in_the_answer, in_its_own_body));
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
    let breakers = async || cluster.admin(0).get("/admin/circuit-breakers").await.expect("an answer").text;
    assert!(!breakers().await.contains("\"open\""), "nobody but its client has failed: {}", breakers().await);
    let client = cluster.gateway(0).caller("paid", "ada");
    until("a failure of the application opens it", || async {
        (client.get("/guarded/status-500").await.ok()?.code() == "circuit_open").then_some(())
    })
    .await;
    assert!(breakers().await.contains("\"open\""), "and it is said: {}", breakers().await);
}

#[tokio::test]
async fn a_client_that_sends_too_much_or_stops_is_refused_and_it_is_not_the_applications_fault() {
    let bounds = json!({ "proxy": { "max_request_bytes": 1000, "idle_timeout_ms": SHORT_MS } });
    let (cluster, application) = guarded(9, &bounds).await;
    let announced = head("POST", "/guarded/ok") + "Content-Length: 1001\r\nConnection: close\r\n\r\n";
    let answer = read_to_end(&mut send(&cluster, &announced).await).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large"), "{answer}");
    assert_eq!(application.seen("/guarded/ok"), 0, "what is announced as too much is not begun");

    let chunked = head("POST", "/guarded/hang") + "Transfer-Encoding: chunked\r\n\r\n";
    let mut stream = send(&cluster, &chunked).await;
    stream.write_all(format!("3e9\r\n{}\r\n", "x".repeat(0x3e9)).as_bytes()).await.expect("sent");
    let answer = read_until(&mut stream, "payload_too_large").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    let mut stream = send(&cluster, &chunked).await;
    stream.write_all(b"2\r\nab\r\n").await.expect("sent");
    let answer = read_until(&mut stream, "invalid_request").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");

    let mut stream = send(&cluster, &chunked).await;
    stream.write_all(b"nonsense\r\n").await.expect("sent");
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_request"), "{answer}");
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
}

/// Asks with these fields and a second request behind them; the statuses of all answers.
async fn smuggled(cluster: &Fixture, fields: &str) -> Vec<u16> {
    let mut stream = send(cluster, &format!("{}{fields}\r\n{INNER}", head("POST", "/outer"))).await;
    let answers = read_to_end(&mut stream).await;
    let statuses = answers.split("HTTP/1.1 ").skip(1);
    statuses.map(|answer| answer[..3].parse().expect("a status")).collect()
}

const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn smuggled_framing_reaches_no_application() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({}))).await;
    let length = INNER.len();
    for fields in [
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n".to_owned(),
        format!("Transfer-Encoding: xchunked\r\nContent-Length: {length}\r\n"),
    ] {
        assert_eq!(smuggled(&cluster, &fields).await, [400], "{fields:?}");
    }
    assert_eq!(application.seen(""), 0, "what can be read in two ways reaches nobody");

    // What `Connection` names ends here, but not what says where the body ends: it is a body for both.
    let nominated = format!("Connection: content-length, close\r\nContent-Length: {length}\r\n");
    assert_eq!(smuggled(&cluster, &nominated).await, [200]);
    let seen = application.head("/outer").to_ascii_lowercase();
    assert_eq!(seen.matches(&format!("content-length: {length}\r\n")).count(), 1, "{seen}");
    assert!(!seen.contains("transfer-encoding"), "{seen}");

    // Two readings that RFC 9112 section 6.3 settles: the chunks count, the application is told of nothing else, and
    // what stands behind them is not read.
    let both = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n");
    assert_eq!(smuggled(&cluster, &both).await, [200]);
    let seen = application.head("/outer").to_ascii_lowercase();
    assert!(seen.contains("transfer-encoding: chunked\r\n") && !seen.contains("content-length"), "{seen}");
    assert_eq!((application.seen("/outer"), application.seen("/smuggled")), (2, 0));
}
