//! What a submission answers and what an answer promises.

use portcullis_loadtest::client::{Answer, Submission};
use serde_json::{Value, json};

use crate::fixture::{accepted, cluster, ended, start};

#[tokio::test]
async fn a_task_is_accepted_run_and_answered() {
    let cluster = start(cluster().gateways(2).processors(1)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let answer = client.submit(&Submission::new("demo", json!({ "hello": ["world", 1] }))).await.expect("an answer");
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("location"), Some(format!("/v1/tasks/{}", answer.task_id()).as_str()));
    assert_eq!((&answer.body["status"], &answer.body["user_type"]), (&json!("queued"), &json!("paid")));
    for field in ["session_id", "depth", "capacity", "estimated_wait_ms"] {
        assert!(!answer.body[field].is_null(), "no {field} in {}", answer.text);
    }
    for header in ["x-request-id", "x-session-id", "x-user-type", "ratelimit", "ratelimit-policy", "x-policy-revision"]
    {
        assert!(answer.header(header).is_some(), "no {header}");
    }
    // The gateway that did not take it in knows it as well.
    let elsewhere = cluster.gateway(1).caller("paid", "ada");
    let end = ended(&elsewhere, answer.task_id()).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("succeeded", &json!(1)));
    assert_eq!(end.body["result"], json!({ "hello": ["world", 1] }));
}

#[tokio::test]
async fn prefer_wait_answers_with_the_finished_task() {
    let cluster = start(cluster().processors(1)).await;
    let client = cluster.gateway(0).caller("paid", "patient");
    let quick = Submission::new("slow", json!({ "ms": 100 })).header("prefer", "wait=30");
    let answer = client.submit(&quick).await.expect("an answer");
    assert_eq!((answer.status, answer.task_status()), (200, "succeeded"), "{}", answer.text);
    assert!(answer.header("preference-applied").is_some());
    let slow = Submission::new("slow", json!({ "ms": 20_000 })).header("prefer", "wait=1");
    let answer = client.submit(&slow).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[tokio::test]
async fn every_fault_of_a_body_is_named_at_once() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(10).await.expect("capacity");
    let client = cluster.gateway(0);
    let faulty = Submission::new("Not A Kind", Value::Null).field("deadline_ms", 0).field("colour", "red");
    let answer = client.submit(&faulty).await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{}", answer.text);
    for path in ["kind", "deadline_ms", "colour"] {
        assert!(answer.text.contains(path), "{path} is not named: {}", answer.text);
    }
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let huge = Submission::new("demo", json!("x".repeat(300_000)));
    let answer = client.submit(&huge).await.expect("an answer");
    assert_eq!((answer.status, answer.code()), (413, "payload_too_large"), "{}", answer.text);
}

/// Everything an attacker could tell two answers apart by.
fn shape(answer: &Answer) -> (u16, Vec<String>, Value) {
    let mut headers: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
    headers.sort_unstable();
    let mut body = answer.body.clone();
    body["request_id"] = Value::Null;
    (answer.status, headers, body)
}

#[tokio::test]
async fn what_is_missing_foreign_or_malformed_looks_the_same() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(10).await.expect("capacity");
    let theirs = accepted(&cluster.gateway(0).caller("paid", "owner"), &Submission::new("demo", json!(1))).await;
    let stranger = cluster.gateway(1).caller("paid", "stranger");
    let missing = stranger.task("01ARZ3NDEKTSV4RRFFQ69G5FAV").await.expect("an answer");
    assert_eq!((missing.status, missing.code()), (404, "not_found"));
    for id in [theirs.as_str(), "not-an-id", "..", "%00"] {
        assert_eq!(shape(&stranger.task(id).await.expect("an answer")), shape(&missing), "GET {id}");
        assert_eq!(shape(&stranger.cancel(id).await.expect("an answer")), shape(&missing), "DELETE {id}");
        let events = stranger.get(&format!("/v1/tasks/{id}/events")).await.expect("an answer");
        assert_eq!(shape(&events), shape(&missing), "events of {id}");
    }
    let owner = cluster.gateway(1).caller("paid", "owner");
    assert_eq!(owner.task(&theirs).await.expect("an answer").task_status(), "queued", "the stranger cancelled nothing");
}
