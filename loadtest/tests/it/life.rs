//! The life of a task: attempts, retries, cancellation, deadline.

use portcullis_loadtest::client::Submission;
use portcullis_lua::TaskStatus;
use serde_json::{Value, json};

use crate::fixture::{
    SLACK_MS, accepted, accepted_at_last, cluster, ended, record, redis_now_ms, start, until_running,
};

/// Backoff short enough for a test; everything else as shipped.
fn quick_retries() -> Value {
    json!({ "queue": { "retry": { "initial_ms": 20, "max_ms": 50 } } })
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again() {
    let cluster = start(cluster().processors(1).policy(quick_retries())).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 1, "fail_times": 2 }))).await;
    let end = ended(&client, &task_id).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("succeeded", &json!(3)), "{}", end.text);
    let attempts = record(&cluster.store().await.expect("a store"), &task_id).await.attempts;
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    for pair in attempts.windows(2) {
        let ended_ms = pair[0].ended_ms.expect("an attempt before another has ended");
        assert!(pair[1].started_ms >= ended_ms + 10, "at least half of the backoff: {attempts:?}");
    }
}

#[tokio::test]
async fn a_task_that_fails_every_attempt_is_a_dead_letter() {
    let cluster = start(cluster().processors(1).policy(quick_retries())).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let hopeless = Submission::new("slow", json!({ "ms": 1, "status": 503 })).field("max_attempts", 2);
    let task_id = accepted(&client, &hopeless).await;
    let end = ended(&client, &task_id).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("dead", &json!(2)), "{}", end.text);
    assert!(!end.body["error"].is_null());
    let queues = cluster.store().await.expect("a store").queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!((queues.dead, queues.queued, queues.running), (1, 0, 0));
}

#[tokio::test]
async fn a_task_its_handler_refuses_fails_at_once() {
    let cluster = start(cluster().processors(1)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 1, "status": 422 }))).await;
    let end = ended(&client, &task_id).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("failed", &json!(1)), "{}", end.text);
}

#[tokio::test]
async fn cancelling_reaches_a_running_task_within_a_second() {
    let cluster = start(cluster().gateways(2).processors(1)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 120_000 }))).await;
    until_running(&client, &task_id).await;
    let cancelled_ms = redis_now_ms(&cluster).await;
    let elsewhere = cluster.gateway(1).caller("paid", "ada");
    assert_eq!(elsewhere.cancel(&task_id).await.expect("an answer").status, 200);
    let end = ended(&client, &task_id).await;
    assert_eq!(end.task_status(), "cancelled");
    let finished_ms = record(&cluster.store().await.expect("a store"), &task_id).await.finished_ms.expect("an end");
    assert!(finished_ms <= cancelled_ms + 1000 + SLACK_MS, "{} ms", finished_ms - cancelled_ms);
    // Again: the same answer, and nothing left to change.
    let again = elsewhere.cancel(&task_id).await.expect("an answer");
    assert_eq!((again.status, again.task_status()), (200, "cancelled"));
}

#[tokio::test]
async fn a_waiting_task_is_cancelled_without_ever_running() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(10).await.expect("capacity");
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("demo", json!(1))).await;
    let answer = client.cancel(&task_id).await.expect("an answer");
    assert_eq!((answer.status, answer.task_status()), (200, "cancelled"), "{}", answer.text);
    let store = cluster.store().await.expect("a store");
    assert!(store.claim(&cluster.compiled_policy(), 10).await.expect("an answer").leases.is_empty());
    let queues = store.queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!((queues.queued, queues.running), (0, 0));
}

#[tokio::test]
async fn a_task_past_its_deadline_is_dropped_unrun() {
    let roomy = json!({ "backpressure": { "queue_depth_multiplier": 20.0 } });
    let cluster = start(cluster().processors(1).slots(1).policy(roomy)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let first = accepted(&client, &Submission::new("slow", json!({ "ms": 1500 }))).await;
    until_running(&client, &first).await;
    let second = accepted(&client, &Submission::new("demo", json!(1)).field("deadline_ms", 300)).await;
    let end = ended(&client, &second).await;
    assert_eq!(end.task_status(), "expired", "{}", end.text);
    let record = record(&cluster.store().await.expect("a store"), &second).await;
    assert_eq!((record.status, record.attempts.len()), (TaskStatus::Expired, 0), "{:?}", record.attempts);
    assert_eq!(ended(&client, &first).await.task_status(), "succeeded");
}

#[tokio::test]
async fn every_accepted_task_ends_exactly_once_under_load() {
    let cluster = start(cluster().gateways(2).processors(2).slots(8).policy(quick_retries())).await;
    let mut tasks = Vec::new();
    for number in 0..120_usize {
        let user_type = ["registered", "paid", "privileged"][number % 3];
        let client = cluster.gateway(number).caller(user_type, &format!("caller-{}", number % 7));
        let payload = match number % 4 {
            0 => json!({ "ms": 5, "fail_times": 1 }),
            1 => json!({ "ms": 5, "status": 400 }),
            _ => json!({ "ms": 5, "output": 2 }),
        };
        let submission = Submission::new("slow", payload);
        // Refused for pressure at times, which is not what this test is about.
        let task_id = accepted_at_last(&client, &submission).await;
        tasks.push((client, task_id, if number % 4 == 1 { "failed" } else { "succeeded" }));
    }
    for (client, task_id, expected) in &tasks {
        assert_eq!(ended(client, task_id).await.task_status(), *expected);
    }
    let queues = cluster.store().await.expect("a store").queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!((queues.queued, queues.running, queues.delayed, queues.dead), (0, 0, 0, 0));
}
