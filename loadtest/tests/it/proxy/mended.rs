//! Faults that were the client's or the gateway's own and must not be told of the application, and what a client could
//! hold or hand on that is not its own.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::application::Application;
use super::{before, guarded, head, read_to_end, read_until, send, until_in_flight};
use crate::fixture::{Fixture, start, until};

/// Small, but larger than what a busy machine takes for anything that is to succeed here.
const SHORT_MS: u64 = 1500;

/// A breaker that opens at the first failure.
fn brittle() -> Value {
    json!({ "circuit_breakers": { "tasks": { "minimum_calls": 1, "failure_rate": 0.01, "slow_call_rate": 1.0,
        "slow_call_ms": 600_000 } } })
}

fn with(mut policy: Value, more: &Value) -> Value {
    super::merge(&mut policy, more);
    policy
}

async fn no_breaker_is_open(cluster: &Fixture) {
    let breakers = cluster.admin(0).get("/admin/circuit-breakers").await.expect("an answer");
    assert!(!breakers.text.contains("\"open\""), "{}", breakers.text);
}

#[tokio::test]
async fn a_client_whose_body_breaks_an_answer_that_has_begun_is_not_the_applications_failure() {
    let bounds = json!({ "proxy": { "max_request_bytes": 1000, "idle_timeout_ms": SHORT_MS } });
    let (cluster, application) = guarded(9, &with(brittle(), &bounds)).await;
    let chunked = head("POST", "/guarded/echo") + "Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";
    let too_much = format!("3e9\r\n{}\r\n", "x".repeat(0x3e9));
    for rest in [too_much.as_str(), "nonsense\r\n", ""] {
        let mut stream = send(&cluster, &chunked).await;
        read_until(&mut stream, "first").await;
        stream.write_all(rest.as_bytes()).await.expect("sent");
        assert!(!read_to_end(&mut stream).await.ends_with("0\r\n\r\n"), "{rest:?}: it does not look complete");
        until_in_flight(&cluster, 0).await;
    }
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
    no_breaker_is_open(&cluster).await;
    // The same answer, broken off by the application.
    let client = cluster.gateway(0).caller("paid", "ada");
    assert!(client.get("/guarded/reset-in-body").await.is_err());
    until("its own failure opens the breaker", || async {
        let answer = client.get("/guarded/reset-in-body").await.ok()?;
        (answer.code() == "circuit_open").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_stream_that_has_nothing_to_tell_ends_and_has_not_failed() {
    let quiet = json!({ "proxy": { "idle_timeout_ms": SHORT_MS } });
    let (cluster, application) = guarded(3, &with(brittle(), &quiet)).await;
    let mut events = send(&cluster, &(head("GET", "/guarded/events") + "Connection: close\r\n\r\n")).await;
    application.release(1);
    let text = read_to_end(&mut events).await;
    assert!(text.contains("data: 1\n\n") && text.ends_with("0\r\n\r\n"), "its client comes again: {text}");
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
    no_breaker_is_open(&cluster).await;
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whatever_the_method() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({}))).await;
    for method in ["GET", "DELETE", "POST", "QUERY"] {
        let mut stream = send(&cluster, &(head(method, "/echo") + "Transfer-Encoding: chunked\r\n\r\n")).await;
        stream.write_all(b"7\r\ncontent\r\n0\r\n\r\n").await.expect("sent");
        let answer = read_until(&mut stream, "0\r\n\r\n").await;
        assert!(answer.contains("7\r\ncontent\r\n"), "{method}: {answer}");
    }
    let mut stream = send(&cluster, &(head("GET", "/ok") + "\r\n")).await;
    read_until(&mut stream, "ok").await;
    assert!(!application.head("/ok").to_ascii_lowercase().contains("transfer-encoding"), "nothing has no length");
}

#[tokio::test]
async fn a_client_that_sends_drop_by_drop_does_not_hold_its_place() {
    let bounds = json!({ "proxy": { "idle_timeout_ms": SHORT_MS } });
    let (cluster, application) = guarded(9, &bounds).await;
    let (mut answer, mut sending) =
        send(&cluster, &(head("POST", "/guarded/hang") + "Content-Length: 100000\r\n\r\n")).await.into_split();
    let mut dripping = tokio::task::JoinSet::new();
    dripping.spawn(async move {
        while sending.write_all(b"x").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(SHORT_MS / 10)).await;
        }
    });
    let mut text = Vec::new();
    _ = tokio::io::AsyncReadExt::read_to_end(&mut answer, &mut text).await;
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 408") || text.is_empty(), "{text}");
    until_in_flight(&cluster, 0).await;
    until("the application is told", || async { (application.running() == 0).then_some(()) }).await;
    dripping.shutdown().await;
}

#[tokio::test]
async fn one_caller_has_so_many_tunnels_and_another_its_own() {
    let application = Application::start().await;
    let cluster = start(before(&application, json!({ "proxy": { "max_tunnels_per_caller": 2 } }))).await;
    let ask = |path: &str, caller: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer dev:paid:{caller}\r\n");
        head + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    };
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = send(&cluster, &ask("/socket", "ada")).await;
        assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
        open.push(stream);
    }
    let refused = read_until(&mut send(&cluster, &ask("/refused/socket", "ada")).await, "stream_limit").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.to_ascii_lowercase().contains("retry-after:"), "{refused}");
    assert_eq!(application.seen("/refused/socket"), 0);
    let mut other = send(&cluster, &ask("/socket", "bob")).await;
    assert!(read_until(&mut other, "\r\n\r\n").await.starts_with("HTTP/1.1 101"));
    drop(open);
    until("her places are free again", || async {
        let mut stream = send(&cluster, &ask("/socket", "ada")).await;
        read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 101").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_page_that_is_not_listed_opens_no_websocket() {
    let application = Application::start().await;
    let policy = json!({ "cors": { "allowed_origins": ["https://app.example"] } });
    let cluster = start(before(&application, policy)).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (origin, status) in
        [("https://evil.example", 403), ("null", 403), ("https://app.example", 101), ("https://shop.example", 101)]
    {
        let asked = format!("{}{upgrade}Origin: {origin}\r\n\r\n", head("GET", "/socket"));
        let answer = read_until(&mut send(&cluster, &asked).await, "\r\n\r\n").await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{origin}: {answer}");
    }
    assert_eq!(application.seen("/socket"), 2);
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_an_answer_pays_what_was_estimated() {
    let policy = json!({
        "budgets": { "daily": { "per": "tenant", "unit": "tokens", "amount": 1000, "period": "day",
            "default_estimate": 1 } },
        "route_classes": { "work": { "estimate": { "tokens": 100 } } },
    });
    let (cluster, _application) = guarded(9, &policy).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let mut leaving = send(&cluster, &(head("GET", "/guarded/hang-in-body") + "\r\n")).await;
    read_until(&mut leaving, "half").await;
    drop(leaving);
    until("the estimate is spent", || async {
        let budget = client.limits().await.ok()?.body["budgets"][0].clone();
        (budget["held"] == 0 && budget["spent"] == 100).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_slow_answer_says_how_long_the_limits_last_from_now() {
    let application = Application::start().await;
    let burst = json!({ "hourly": -1, "burst": 10, "burst_window": 30 });
    let policy = json!({ "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": 9 } },
        "rate_limits": { "roles": { "paid": burst } } });
    let cluster = start(before(&application, policy)).await;
    let mut held = send(&cluster, &(head("GET", "/guarded/held") + "\r\n")).await;
    until_in_flight(&cluster, 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    application.release(1);
    let answer = read_until(&mut held, "ok").await.to_ascii_lowercase();
    let reset = answer.split("ratelimit: ").nth(1).and_then(|field| field.split(";t=").nth(1)).expect("a reset");
    let seconds: u64 = reset.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("seconds");
    assert!(seconds <= 28, "the window is over sooner by what the answer took: {answer}");
}
