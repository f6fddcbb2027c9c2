//! A request that two hops could read differently is refused, or read in the one way that leaves nothing over.
//!
//! What is hidden in each attempt is a second request, so that two answers would give it away. None of it may ever
//! become a task.

use std::net::SocketAddr;

use super::wire::{answers, status, statuses};
use crate::fixture::{cluster, start};

const BODY: &str = r#"{"kind":"demo","payload":1}"#;

/// A submission with these lines in its head, and a hidden one behind its body.
async fn submitted(address: SocketAddr, lines: &str, body: &str) -> Vec<u16> {
    let hidden = format!("POST /v1/tasks HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    statuses(address, format!("POST /v1/tasks HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}{hidden}").as_bytes()).await
}

#[tokio::test]
async fn a_body_has_one_length_or_none() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let address = cluster.public_address(0);
    let length = BODY.len();
    let chunked = format!("{length:x}\r\n{BODY}\r\n0\r\n\r\n");
    let refused = [
        (format!("Content-Length: {length}\r\nContent-Length: {}\r\n", length + 9), BODY),
        (format!("Content-Length: {length}, {}\r\n", length + 9), BODY),
        (format!("Content-Length: +{length}\r\n"), BODY),
        ("Content-Length: -1\r\n".to_owned(), BODY),
        ("Content-Length: 99999999999999999999999\r\n".to_owned(), BODY),
        ("Transfer-Encoding: gzip\r\n".to_owned(), BODY),
        ("Transfer-Encoding: chunked, gzip\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: xchunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding : chunked\r\n".to_owned(), &chunked),
        ("Transfer-Encoding: chunked\r\n".to_owned(), "0x1b\r\nzz"),
        ("Transfer-Encoding: chunked\r\n".to_owned(), "ffffffffffffffff1\r\nzz"),
    ];
    for (lines, body) in &refused {
        let found = submitted(address, lines, body).await;
        assert_eq!(found, [400], "{lines:?}");
    }
    // Two readings that RFC 9112 §6.3 settles: the chunks count, and the connection ends.
    let both = submitted(address, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", &chunked).await;
    assert_eq!(both, [202]);
    let both = submitted(address, "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", &chunked).await;
    assert_eq!(both, [202]);
    let queues = cluster.store().await.expect("a store").queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!(queues.queued, 2, "nothing hidden became a task");
}

#[tokio::test]
async fn a_head_is_lines_of_names_and_values_and_nothing_else() {
    let cluster = start(cluster()).await;
    let address = cluster.public_address(0);
    let head = |lines: &str| format!("GET /v1/limits HTTP/1.1\r\nHost: h\r\n{lines}Connection: close\r\n\r\n");
    for lines in [
        "X-Folded: one\r\n two\r\n",
        "X-Nul: a\0b\r\n",
        "X-Return: a\rb\r\n",
        "X Space: a\r\n",
        "X-Before : a\r\n",
        ": a\r\n",
        "nothing\r\n",
        "X-\u{e9}: a\r\n",
    ] {
        assert_eq!(statuses(address, head(lines).as_bytes()).await, [400], "{lines:?}");
    }
    for request_line in
        ["GET /v1/limits\0 HTTP/1.1", "GET /v1/li mits HTTP/1.1", "GE(T /v1/limits HTTP/1.1", "GET /v1/limits HTTP/3.1"]
    {
        let bytes = format!("{request_line}\r\nHost: h\r\nConnection: close\r\n\r\n");
        assert_eq!(statuses(address, bytes.as_bytes()).await, [400], "{request_line:?}");
    }
    assert_eq!(statuses(address, head("").as_bytes()).await, [200]);
}

#[tokio::test]
async fn a_bare_line_feed_ends_a_line_and_hides_nothing() {
    let cluster = start(cluster()).await;
    // RFC 9112 §2.2 lets a recipient take it for the end of a line. What comes after is a header then, and seen.
    let hidden = b"GET /v1/limits HTTP/1.1\r\nHost: h\r\nX-One: a\nContent-Length: 1\nContent-Length: 2\r\n\r\n";
    assert_eq!(statuses(cluster.public_address(0), hidden).await, [400]);
}

#[tokio::test]
async fn a_request_is_for_one_host() {
    let cluster = start(cluster()).await;
    let address = cluster.public_address(0);
    let ask = async |target: &str, hosts: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n");
        let mut found = answers(address, bytes.as_bytes()).await;
        assert_eq!(found.len(), 1, "{target} {hosts:?}");
        found.remove(0)
    };
    for (target, hosts) in [
        ("/v1/limits", ""),
        ("/v1/limits", "Host: a\r\nHost: a\r\n"),
        ("/v1/limits", "Host: a\r\nhost: b\r\n"),
        ("/v1/limits", "Host: a, b\r\n"),
        ("/v1/limits", "Host: user@a\r\n"),
        ("/v1/limits", "Host: a/b\r\n"),
        ("http://inner/v1/limits", "Host: outer\r\n"),
    ] {
        let answer = ask(target, hosts).await;
        assert!(status(&answer) == 400 && answer.contains(r#""path":"Host""#), "{target} {hosts:?}: {answer}");
    }
    assert_eq!(status(&ask("http://h/v1/limits", "Host: h\r\n").await), 200);
    assert_eq!(status(&ask("/v1/limits", "Host: h\r\n").await), 200);
}
