//! What a gateway does for its clients on its way out.

use futures_util::StreamExt;
use portcullis_loadtest::client::{Submission, http_client};
use serde_json::json;

use super::wire::{answers, header, status};
use crate::fixture::{accepted, cluster, start, until, until_running};

#[tokio::test]
async fn an_event_stream_ends_with_where_it_was_and_when_to_come_back() {
    let mut cluster = start(cluster().processors(1).env("PORTCULLIS_DRAIN_SECONDS", "0")).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 60_000 }))).await;
    until_running(&client, &task_id).await;
    let url = format!("{}/v1/tasks/{task_id}/events", client.base());
    let stream = http_client().expect("a client").get(url).bearer_auth("dev:paid:ada").send().await.expect("an answer");
    let (mut pieces, mut text) = (stream.bytes_stream(), String::new());
    while !text.contains("event: status\ndata: {\"task_id\"") || !text.contains("running") {
        text += &String::from_utf8_lossy(&pieces.next().await.expect("more").expect("a piece"));
    }
    cluster.gateways()[0].terminate().expect("asked to drain");
    while let Some(piece) = pieces.next().await {
        text += &String::from_utf8_lossy(&piece.expect("an end, not a break"));
    }
    let last = text.trim_end().rsplit("\n\n").next().expect("a block");
    let lines: Vec<&str> = last.lines().collect();
    assert_eq!((lines[0], lines[2], lines.len()), (": draining", "id: 1-0", 3), "{text}");
    let retry_ms: u64 = lines[1].strip_prefix("retry: ").expect("a time").parse().expect("a number");
    assert!((1..=5000).contains(&retry_ms), "{retry_ms}");
    assert!(cluster.gateways()[0].wait().await.expect("it ends").success());
}

#[tokio::test]
async fn answers_of_a_draining_gateway_tell_clients_to_go_elsewhere() {
    let mut cluster = start(cluster().env("PORTCULLIS_DRAIN_SECONDS", "600")).await;
    let (address, client) = (cluster.public_address(0), cluster.gateway(0));
    cluster.gateways()[0].terminate().expect("asked to drain");
    until("it is not ready any more", || async { (client.get("/readyz").await.ok()?.status == 503).then_some(()) })
        .await;
    for (path, expected) in [("/v1/limits", 200), ("/healthz", 200), ("/readyz", 503), ("/nothing", 404)] {
        // No `Connection: close` in the request: the answer has it, and ends the connection.
        let answer = answers(address, format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.remove(0);
        assert_eq!((status(&answer), header(&answer, "connection")), (expected, "close"), "{path}");
    }
    cluster.gateways()[0].terminate().expect("told to end");
    cluster.gateways()[0].wait().await.expect("it ends long before its drain time");
}
