//! Bodies go through piece by piece, in both directions, and nothing fills up on the way.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::application::{Application, SETTLE};
use super::{before, guarded, head, read_to_end, read_until, send, until_in_flight};
use crate::fixture::{Fixture, start, until};

/// What a gateway may hold of an answer, bytes: a few pieces, on their way in and on their way out.
const MOST_HELD: u64 = 2 << 20;
/// What a kernel may hold of it, bytes, where it does not say how much that is.
const MOST_IN_KERNEL: u64 = 64 << 20;

/// Bytes that wait in the kernel, in connections to these ports of this machine.
fn in_kernel(ports: [u16; 2]) -> u64 {
    let Ok(table) = std::fs::read_to_string("/proc/net/tcp") else { return MOST_IN_KERNEL };
    let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
    let queued = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |field: &str| number(field.split_once(':').expect("a port").1);
        let (sending, receiving) = fields[4].split_once(':').expect("two queues");
        let ours = ports.iter().any(|ours| [fields[1], fields[2]].map(port).contains(&u64::from(*ours)));
        // Of a listener it is the number of connections that wait.
        if ours && fields[3] != "0A" { number(sending) + number(receiving) } else { 0 }
    };
    table.lines().skip(1).map(queued).sum()
}

async fn proxied(policy: serde_json::Value) -> (Fixture, Application) {
    let application = Application::start().await;
    (start(before(&application, policy)).await, application)
}

#[tokio::test]
async fn the_application_has_the_first_piece_before_the_last_is_sent() {
    let (cluster, _application) = proxied(json!({})).await;
    let mut stream = send(&cluster, &(head("POST", "/echo") + "Transfer-Encoding: chunked\r\n\r\n")).await;
    for piece in ["5\r\nfirst\r\n", "6\r\nsecond\r\n"] {
        stream.write_all(piece.as_bytes()).await.expect("sent");
        let word = piece.split("\r\n").nth(1).expect("a piece");
        read_until(&mut stream, word).await;
    }
    stream.write_all(b"0\r\n\r\n").await.expect("sent");
    read_until(&mut stream, "0\r\n\r\n").await;
    // The same connection serves the next request.
    stream.write_all((head("GET", "/ok") + "\r\n").as_bytes()).await.expect("sent");
    read_until(&mut stream, "ok").await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_to_go_on_is_told_and_only_if_it_was_let_through() {
    let (cluster, application) = guarded(2, &json!({})).await;
    let expects = "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = send(&cluster, &(head("POST", "/guarded/body") + expects)).await;
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    stream.write_all(b"body").await.expect("sent");
    read_until(&mut stream, "ok").await;
    until_in_flight(&cluster, 0).await;
    let _held = send(&cluster, &(head("GET", "/guarded/held") + "\r\n")).await;
    until_in_flight(&cluster, 1).await;
    let mut stream = send(&cluster, &(head("POST", "/guarded/refused") + expects)).await;
    assert!(read_until(&mut stream, "hard_limit").await.starts_with("HTTP/1.1 503"), "without a 100 before it");
    assert_eq!(application.seen("/refused"), 0);
}

#[tokio::test]
async fn events_arrive_as_they_are_sent_and_the_stream_ends_with_its_client() {
    let (cluster, application) = guarded(3, &json!({})).await;
    let mut stream = send(&cluster, &(head("GET", "/guarded/events") + "\r\n")).await;
    read_until(&mut stream, "text/event-stream").await;
    for number in 1..=3 {
        application.release(1);
        read_until(&mut stream, &format!("data: {number}\n\n")).await;
    }
    until_in_flight(&cluster, 1).await;
    drop(stream);
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_websocket_goes_through_and_counts_as_long_as_it_lasts() {
    let (cluster, application) = guarded(3, &json!({ "proxy": { "lease_ms": 500 } })).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
    let mut stream = send(&cluster, &(head("GET", "/guarded/socket") + upgrade)).await;
    let answer = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 101") && answer.contains("upgrade: websocket"), "{answer}");
    let mut echoed = [0; 4];
    for _ in 0..3 {
        stream.write_all(b"\x81\x02hi").await.expect("sent");
        stream.read_exact(&mut echoed).await.expect("an echo");
        assert_eq!(&echoed, b"\x81\x02hi");
        // Longer than a lease: it is extended.
        tokio::time::sleep(Duration::from_millis(600)).await;
        until_in_flight(&cluster, 1).await;
    }
    drop(stream);
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_no_answer_and_h2c_is_not_asked_for() {
    let (cluster, application) = proxied(json!({})).await;
    let client = cluster.gateway(0);
    let answer = client.get("/unasked-switch").await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (502, "upstream_invalid"));
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
    let mut stream = send(&cluster, &(head("GET", "/ok") + h2c)).await;
    assert!(read_until(&mut stream, "ok").await.starts_with("HTTP/1.1 200"));
    assert!(!application.head("/ok").to_ascii_lowercase().contains("upgrade"));
}

#[tokio::test]
async fn hints_bodiless_answers_and_trailers_are_understood() {
    let (cluster, _application) = proxied(json!({})).await;
    let client = cluster.gateway(0);
    assert_eq!(client.get("/hints").await.expect("an answer").status, 200);
    assert_eq!(client.get("/nothing").await.expect("an answer").status, 204);
    let mut stream = send(&cluster, &(head("HEAD", "/head-only") + "\r\n")).await;
    let answer = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(answer.contains("content-length: 1234"), "{answer}");
    stream.write_all((head("GET", "/usage-in-trailers") + "TE: trailers\r\n\r\n").as_bytes()).await.expect("sent");
    let answer = read_until(&mut stream, "\r\n0\r\n").await;
    let trailers = if answer.contains("abc") { answer } else { read_until(&mut stream, "abc").await };
    assert!(trailers.to_ascii_lowercase().contains("x-checksum: abc"), "{trailers}");
    let answer = client.get("/length-and-chunks").await.expect("an answer");
    assert_eq!((answer.text.as_str(), answer.header("content-length")), ("ok", None));
}

#[tokio::test]
async fn a_slow_client_slows_the_application_down() {
    let (cluster, application) = guarded(3, &json!({})).await;
    let mut stream = send(&cluster, &(head("GET", "/guarded/flood") + "\r\n")).await;
    read_until(&mut stream, "xxxx").await;
    // What the sockets' buffers hold is taken; then it must come to a stop.
    let mut taken = 0;
    until("the flood has come to a stop", || {
        let (before, now) = (taken, application.written());
        taken = now;
        async move {
            tokio::time::sleep(SETTLE).await;
            (now > 0 && now == before).then_some(())
        }
    })
    .await;
    let held = taken.saturating_sub(in_kernel([application.port(), cluster.public_address(0).port()]));
    assert!(held < MOST_HELD, "{held} of {taken} bytes wait in the gateway for a client that does not read");
    drop(stream);
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_flood_is_cut_at_its_bound() {
    let (cluster, application) = guarded(3, &json!({ "proxy": { "max_response_bytes": 1_000_000 } })).await;
    let mut stream = send(&cluster, &(head("GET", "/guarded/flood") + "\r\n")).await;
    let text = read_to_end(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 200") && !text.ends_with("0\r\n\r\n"), "it does not look complete");
    assert!(text.len() > 500_000 && text.len() < 1_100_000, "{}", text.len());
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
    let answer = cluster.gateway(0).get("/guarded/huge").await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (502, "upstream_invalid"), "what is announced is not begun");
}

#[tokio::test]
async fn connections_to_the_application_are_kept() {
    let (cluster, application) = proxied(json!({})).await;
    let client = cluster.gateway(0);
    for _ in 0..20 {
        assert_eq!(client.get("/ok").await.expect("an answer").status, 200);
    }
    assert!(application.connections() < 5, "{}", application.connections());
}
