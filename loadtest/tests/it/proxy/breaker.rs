//! The breaker of a route class: fed by what the application does, and by nothing else.

use portcullis_loadtest::client::Client;
use serde_json::{Value, json};

use super::{guarded, head, send, until_in_flight};
use crate::fixture::{Fixture, until};

/// Opens when half of at least four calls have failed, for so long.
fn policy(open_seconds: u64) -> Value {
    let breaker = json!({ "minimum_calls": 4, "failure_rate": 0.5, "window_seconds": 60, "open_seconds": open_seconds,
        "half_open_probes": 1, "slow_call_ms": 60000 });
    json!({ "kinds": { "work": { "circuit_breaker": breaker } } })
}

/// Has the application fail until the breaker opens.
async fn open(cluster: &Fixture, client: &Client) {
    for _ in 0..40 {
        let answer = client.get("/guarded/status-500").await.expect("an answer");
        if answer.code() == "circuit_open" {
            assert_eq!((answer.status, answer.step()), (503, "circuit_breaker"));
            return;
        }
        assert_eq!(answer.status, 500);
        until_in_flight(cluster, 0).await;
    }
    panic!("it opens when half have failed");
}

#[tokio::test]
async fn failures_open_it_and_while_it_is_open_the_application_is_left_alone() {
    let (cluster, application) = guarded(9, &policy(600)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let get = async |path: &str| client.get(path).await.expect("an answer");
    // A client's fault is no failure, however often.
    for _ in 0..8 {
        assert_eq!(get("/guarded/status-404").await.status, 404);
    }
    let gone = send(&cluster, &(head("GET", "/guarded/hang") + "\r\n")).await;
    until_in_flight(&cluster, 1).await;
    drop(gone);
    until_in_flight(&cluster, 0).await;
    open(&cluster, &client).await;
    assert!(application.seen("/guarded/status-500") >= 8, "not before half have failed");
    let seen = application.seen("");
    for _ in 0..5 {
        let answer = get("/guarded/ok").await;
        assert_eq!((answer.status, answer.code()), (503, "circuit_open"));
        assert!(answer.retry_after().is_some_and(|wait| (500..=600).contains(&wait.as_secs())));
    }
    assert_eq!(application.seen(""), seen, "it is left alone");
    assert_eq!(get("/other/ok").await.status, 200, "other paths have nothing to do with it");
}

#[tokio::test]
async fn a_probe_that_fails_opens_it_again_and_one_that_succeeds_closes_it() {
    let (cluster, mut application) = guarded(9, &policy(3)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let get = async |path: &str| client.get(path).await.expect("an answer");
    open(&cluster, &client).await;
    application.vanish().await;
    until("a probe has failed", || async {
        let answer = client.get("/guarded/ok").await.ok()?;
        (answer.code() == "upstream_unreachable").then_some(())
    })
    .await;
    until_in_flight(&cluster, 0).await;
    assert_eq!(get("/guarded/ok").await.code(), "circuit_open", "it opens again");
    application.come_back().await;
    until("a probe succeeds and closes it", || async {
        (client.get("/guarded/ok").await.ok()?.status == 200).then_some(())
    })
    .await;
    until_in_flight(&cluster, 0).await;
    for _ in 0..3 {
        assert_eq!(get("/guarded/ok").await.status, 200);
    }
}
