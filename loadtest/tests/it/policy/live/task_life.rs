//! `queue` and what `kinds` say of attempts: payloads, attempts, backoff, timeouts, leases and lifetimes.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Answer, Submission};
use serde_json::{Value, json};

use super::{everywhere, refused, task};
use crate::fixture::{accepted, cluster, ended, record, start, until, until_running};

fn slow(payload: Value) -> Submission {
    Submission::new("slow", payload)
}

async fn run(client: &Client, submission: &Submission) -> Answer {
    let task_id = accepted(client, submission).await;
    ended(client, &task_id).await
}

#[tokio::test]
async fn what_a_task_may_be_changes_at_every_gateway() {
    let mut cluster = start(cluster().gateways(2).processors(1)).await;
    let (admin, client) = (cluster.admin(0), cluster.gateway(1).caller("privileged", "ada"));
    let sized = |bytes: usize| Submission::new("demo", "x".repeat(bytes));
    accepted(&client, &sized(2000)).await;
    let queue = json!({
        "max_payload_bytes": 1024, "max_result_bytes": 1024, "max_attempts": 2, "max_attempts_limit": 4,
        "max_delay_ms": 60_000, "max_delayed": 1, "result_ttl_seconds": 1, "idempotency_ttl_seconds": 1,
    });
    everywhere(&admin, &json!({ "queue": queue })).await;
    refused(&client, &sized(2000), "payload_too_large").await;
    let keyed = sized(500).header("idempotency-key", "k");
    let first = accepted(&client, &keyed).await;
    for (field, value) in [("max_attempts", 5), ("delay_ms", 60_001)] {
        let refusal = refused(&client, &task().field(field, value), "invalid_request").await;
        assert!(refusal.text.contains(field), "{}", refusal.text);
    }
    accepted(&client, &task().field("delay_ms", 60_000)).await;
    refused(&client, &task().field("delay_ms", 60_000), "queue_full").await;

    until("the finished task is forgotten", || async {
        (client.task(&first).await.expect("an answer").status == 404).then_some(())
    })
    .await;
    until("so is its idempotency key", || async {
        let again = client.submit(&keyed).await.expect("an answer");
        (again.is_accepted() && again.task_id() != first).then_some(())
    })
    .await;

    everywhere(&admin, &json!({ "queue": { "max_payload_bytes": 4096, "result_ttl_seconds": 3600 } })).await;
    let end = run(&client, &sized(2000)).await;
    assert_eq!(end.task_status(), "failed", "its result is larger than a result may be: {}", end.text);
    everywhere(&admin, &json!({ "queue": null })).await;
    assert_eq!(run(&client, &sized(2000)).await.task_status(), "succeeded");
    // A gateway that is new knows no other document than the stored one.
    let late = cluster.add_gateway().await.expect("another gateway").caller("privileged", "ada");
    assert_eq!(run(&late, &sized(2000)).await.task_status(), "succeeded");
}

#[tokio::test]
async fn attempts_backoff_and_timeouts_follow_the_policy_of_the_moment() {
    let patient = json!({ "queue": { "retry": { "initial_ms": 3_600_000, "max_ms": 3_600_000 } } });
    let cluster = start(cluster().handler("picky", "builtin:sleep").processors(1).slots(8).policy(patient)).await;
    let (admin, client) = (cluster.admin(0), cluster.gateway(0).caller("privileged", "ada"));
    let store = cluster.store().await.expect("a store");
    let once = json!({ "fail_times": 1 });

    let waiting = accepted(&client, &slow(once.clone())).await;
    until("it waits for its second attempt", || async {
        (store.queues(&cluster.compiled_policy()).await.ok()?.delayed == 1).then_some(())
    })
    .await;
    let quick = json!({ "initial_ms": 1, "factor": 1, "max_ms": 1 });
    everywhere(&admin, &json!({ "queue": { "retry": quick, "max_attempts": 2 } })).await;
    let end = run(&client, &slow(once.clone())).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("succeeded", &json!(2)), "{}", end.text);
    assert_eq!(record(&store, &waiting).await.attempts.len(), 1, "its backoff was drawn before the update");
    let end = run(&client, &slow(json!({ "status": 500 }))).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("dead", &json!(2)), "{}", end.text);

    let own = json!({
        "max_attempts": 3, "attempt_timeout_ms": 50, "retry": { "initial_ms": 3_600_000, "max_ms": 3_600_000 },
    });
    everywhere(&admin, &json!({ "kinds": { "picky": own } })).await;
    let stuck = accepted(&client, &Submission::new("picky", json!({ "ms": 600_000 }))).await;
    until("its own timeout ends its first attempt and its own backoff delays the second", || async {
        let record = record(&store, &stuck).await;
        let queues = store.queues(&cluster.compiled_policy()).await.ok()?;
        (record.attempts.len() == 1 && record.attempts[0].ended_ms.is_some() && queues.delayed == 2).then_some(())
    })
    .await;
    everywhere(&admin, &json!({ "kinds": { "picky": { "retry": null, "max_attempts": 3 } } })).await;
    let end = run(&client, &Submission::new("picky", json!({ "ms": 600_000 }))).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("dead", &json!(3)), "{}", end.text);
    assert_eq!(run(&client, &slow(json!({ "ms": 100 }))).await.task_status(), "succeeded", "others have their time");

    assert_eq!(store.queues(&cluster.compiled_policy()).await.expect("an answer").dead, 2);
    let patch = json!({ "queue": { "attempt_timeout_ms": 50, "max_attempts": 1, "max_dead_letters": 1 } });
    everywhere(&admin, &patch).await;
    let end = run(&client, &slow(json!({ "ms": 600_000 }))).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("dead", &json!(1)), "{}", end.text);
    assert_eq!(store.queues(&cluster.compiled_policy()).await.expect("an answer").dead, 1, "the oldest go first");
}

#[tokio::test]
async fn a_shorter_lease_brings_back_the_tasks_of_a_dead_processor_sooner() {
    let hour = json!({ "queue": { "lease_ms": 3_600_000 }, "monitoring": { "heartbeat_timeout_seconds": 3600 } });
    let mut cluster = start(cluster().processors(1).slots(1).policy(hour)).await;
    let (admin, client) = (cluster.admin(0), cluster.gateway(0).caller("privileged", "ada"));
    let patch = json!({ "queue": { "lease_ms": 1000 }, "monitoring": { "heartbeat_timeout_seconds": 1 } });
    everywhere(&admin, &patch).await;
    let task_id = accepted(&client, &slow(json!({ "ms": 1500 }))).await;
    until_running(&client, &task_id).await;
    cluster.processors()[0].kill().await.expect("killed");
    until("the dead processor counts for nothing", || async {
        (client.submit(&task()).await.expect("an answer").code() == "no_live_processors").then_some(())
    })
    .await;
    cluster.add_processor().await.expect("another processor");
    let end = ended(&client, &task_id).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("succeeded", &json!(2)), "{}", end.text);
}
