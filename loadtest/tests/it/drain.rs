//! SIGTERM: finish or hand back, count for nothing meanwhile, and go.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use crate::fixture::{accepted, cluster, ended, record, start, until, until_running};

#[tokio::test]
async fn a_draining_processor_finishes_its_work_and_counts_for_no_capacity() {
    let mut cluster = start(cluster().processors(1).slots(2).env("PORTCULLIS_DRAIN_SECONDS", "30")).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 4000 }))).await;
    until_running(&client, &task_id).await;
    cluster.processors()[0].terminate().expect("asked to drain");
    let store = cluster.store().await.expect("a store");
    until("it counts for nothing", || async {
        (store.queues(&cluster.compiled_policy()).await.ok()?.slots == 0).then_some(())
    })
    .await;
    let still = client.task(&task_id).await.expect("an answer");
    assert_eq!(still.task_status(), "running", "it counts for nothing while it still works");
    let refused = until("admission knows", || async {
        let answer = client.submit(&Submission::new("demo", json!(1))).await.ok()?;
        (!answer.is_accepted()).then_some(answer)
    })
    .await;
    assert_eq!((refused.status, refused.code()), (503, "no_live_processors"));
    let end = ended(&client, &task_id).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("succeeded", &json!(1)));
    let status = cluster.processors()[0].wait().await.expect("it ends");
    assert!(status.success(), "{status}: {}", cluster.processors()[0].stderr());
    assert!(store.processors(&cluster.compiled_policy()).await.expect("an answer").is_empty(), "it has left");
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_handed_back_and_does_not_count_as_an_attempt() {
    let mut cluster = start(cluster().processors(1).slots(1).env("PORTCULLIS_DRAIN_SECONDS", "1")).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let long = Submission::new("slow", json!({ "ms": 30_000 })).field("max_attempts", 1);
    let task_id = accepted(&client, &long).await;
    until_running(&client, &task_id).await;
    cluster.processors()[0].terminate().expect("asked to drain");
    let status = cluster.processors()[0].wait().await.expect("it ends");
    assert!(status.success(), "{status}: {}", cluster.processors()[0].stderr());
    assert_eq!(client.task(&task_id).await.expect("an answer").task_status(), "queued");
    // With one attempt allowed it runs again only because the one handed back does not count.
    cluster.add_processor().await.expect("another processor");
    until_running(&client, &task_id).await;
    assert_eq!(client.cancel(&task_id).await.expect("an answer").status, 200);
    assert_eq!(ended(&client, &task_id).await.task_status(), "cancelled");
    assert!(!record(&cluster.store().await.expect("a store"), &task_id).await.attempts.is_empty());
}

#[tokio::test]
async fn a_draining_gateway_stops_being_ready_finishes_its_requests_and_goes() {
    let mut cluster = start(cluster().gateways(2).processors(1).env("PORTCULLIS_DRAIN_SECONDS", "2")).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let waiting = {
        let client = client.clone();
        let work = Submission::new("slow", json!({ "ms": 3500 })).header("prefer", "wait=30");
        tokio::spawn(async move { client.submit(&work).await })
    };
    let store = cluster.store().await.expect("a store");
    until("the request is under way", || async {
        (store.queues(&cluster.compiled_policy()).await.ok()?.running == 1).then_some(())
    })
    .await;
    cluster.gateways()[0].terminate().expect("asked to drain");
    until("it is not ready any more", || async { (client.get("/readyz").await.ok()?.status == 503).then_some(()) })
        .await;
    assert_eq!(client.get("/healthz").await.expect("an answer").status, 200);
    let answer = waiting.await.expect("no panic").expect("an answer, not a broken connection");
    assert!(answer.is_accepted(), "{}", answer.text);
    let status = cluster.gateways()[0].wait().await.expect("it ends");
    assert!(status.success(), "{status}: {}", cluster.gateways()[0].stderr());
    let elsewhere = cluster.gateway(1).caller("paid", "ada");
    assert_eq!(ended(&elsewhere, answer.task_id()).await.task_status(), "succeeded");
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let mut cluster = start(cluster().processors(1).slots(1).env("PORTCULLIS_DRAIN_SECONDS", "600")).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 120_000 }))).await;
    until_running(&client, &task_id).await;
    let store = cluster.store().await.expect("a store");
    cluster.processors()[0].terminate().expect("asked to drain");
    cluster.gateways()[0].terminate().expect("asked to drain");
    until("both drain", || async {
        let drained = store.queues(&cluster.compiled_policy()).await.ok()?.slots == 0;
        let unready = client.get("/readyz").await.ok()?.status == 503;
        (drained && unready).then_some(())
    })
    .await;
    let processor = &mut cluster.processors()[0];
    processor.terminate().expect("told to end");
    processor.wait().await.expect("it ends long before its drain time");
    let gateway = &mut cluster.gateways()[0];
    gateway.terminate().expect("told to end");
    gateway.wait().await.expect("it ends long before its drain time");
}
