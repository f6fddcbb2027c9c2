//! The breaker of a route class: fed by what the application does, and by nothing else.

use serde_json::json;

use super::{guarded, head, send, until_in_flight};
use crate::fixture::until;

#[tokio::test]
async fn failures_open_it_and_while_it_is_open_the_application_is_left_alone() {
    let breaker = json!({ "minimum_calls": 4, "failure_rate": 0.5, "window_seconds": 60, "open_seconds": 3,
        "half_open_probes": 1, "slow_call_ms": 60000 });
    let policy = json!({ "kinds": { "work": { "circuit_breaker": breaker } } });
    let (cluster, mut application) = guarded(9, &policy).await;
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
    let mut open = false;
    for _ in 0..40 {
        let answer = get("/guarded/status-500").await;
        open = answer.code() == "circuit_open";
        if open {
            assert_eq!((answer.status, answer.step()), (503, "circuit_breaker"));
            break;
        }
        assert_eq!(answer.status, 500);
        until_in_flight(&cluster, 0).await;
    }
    assert!(open, "it opens when half have failed");
    assert!(application.seen("/guarded/status-500") >= 8, "not before half have failed");
    let seen = application.seen("");
    for _ in 0..5 {
        let answer = get("/guarded/ok").await;
        if answer.code() == "circuit_open" {
            assert!(answer.retry_after().is_some());
            assert_eq!(application.seen(""), seen, "it is left alone");
        }
    }
    assert_eq!(get("/other/ok").await.status, 200, "other paths have nothing to do with it");
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
