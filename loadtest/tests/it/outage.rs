//! Redis goes away, hangs, comes back, forgets its scripts: nobody hangs with it and nobody needs a restart.

use std::time::Duration;

use portcullis_loadtest::client::{Answer, Client, Submission};
use serde_json::json;

use crate::fixture::{
    Fixture, SLACK_MS, accepted_at_last, ended, impatient_cluster, record, redis_now_ms, start, until,
};

/// How long Redis stays away; the longer it does, the longer clients that back off exponentially sleep on afterwards.
fn outage() -> Duration {
    let seconds = std::env::var("PORTCULLIS_TEST_OUTAGE_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(20))
}

/// Twenty answers of a gateway whose Redis is away: all the same, and at the median at once.
async fn refused_at_once(client: &Client, submission: &Submission) {
    until("the gateway has noticed", || async {
        (client.submit(submission).await.ok()?.code() == "store_unavailable").then_some(())
    })
    .await;
    let mut times = Vec::new();
    for _ in 0..21 {
        let answer: Answer = client.submit(submission).await.expect("an answer, not a hang");
        assert_eq!((answer.status, answer.code(), answer.step()), (503, "store_unavailable", "circuit_breaker"));
        assert!(answer.retry_after().is_some_and(|wait| !wait.is_zero()));
        times.push(answer.elapsed);
    }
    times.sort_unstable();
    assert!(times[10] <= Duration::from_millis(50), "the median refusal took {:?}", times[10]);
    assert_eq!(client.get("/readyz").await.expect("an answer").status, 200, "an outage takes no replica out");
}

#[tokio::test]
async fn an_outage_is_refused_at_once_survived_and_loses_no_accepted_task() {
    let mut cluster = start(impatient_cluster().gateways(2).processors(1).slots(2).append_only(true)).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    let work = Submission::new("slow", json!({ "ms": 200 }));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(accepted_at_last(&client, &work).await);
    }
    cluster.redis().expect("its own").kill().await.expect("killed");
    for index in 0..2 {
        refused_at_once(&cluster.gateway(index).caller("privileged", "ada"), &work).await;
    }
    cluster.redis().expect("its own").start_again().await.expect("started again");
    for index in 0..2 {
        let client = cluster.gateway(index).caller("privileged", "ada");
        tasks.push(accepted_at_last(&client, &work).await);
    }
    for task_id in &tasks {
        assert_eq!(ended(&client, task_id).await.task_status(), "succeeded", "{task_id}");
    }
}

#[tokio::test]
async fn a_redis_that_hangs_is_refused_at_once_too() {
    let mut cluster = start(impatient_cluster().processors(1)).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    let work = Submission::new("demo", json!(1));
    let before = accepted_at_last(&client, &work).await;
    cluster.redis().expect("its own").pause().expect("frozen");
    refused_at_once(&client, &work).await;
    cluster.redis().expect("its own").resume().expect("awake again");
    let after = accepted_at_last(&client, &work).await;
    for task_id in [before, after] {
        assert_eq!(ended(&client, &task_id).await.task_status(), "succeeded");
    }
}

/// Both processors, of one slot each, take work within a second of `since_ms`.
async fn both_take_work(cluster: &Fixture, since_ms: u64) {
    let client = cluster.gateway(0).caller("privileged", "ada");
    let work = Submission::new("slow", json!({ "ms": 3000 }));
    let tasks = [accepted_at_last(&client, &work).await, accepted_at_last(&client, &work).await];
    let store = cluster.store().await.expect("a store");
    until("both run at once", || async {
        let queues = store.queues(&cluster.compiled_policy()).await.ok()?;
        (queues.running == 2).then_some(())
    })
    .await;
    for task_id in &tasks {
        let started_ms = record(&store, task_id).await.attempts[0].started_ms;
        assert!(started_ms <= since_ms + 1000 + SLACK_MS, "{} ms after redis answered", started_ms - since_ms);
    }
    for task_id in &tasks {
        client.cancel(task_id).await.expect("an answer");
        ended(&client, task_id).await;
    }
}

#[tokio::test]
async fn every_processor_takes_work_again_after_an_outage_and_after_losing_every_connection() {
    let mut cluster = start(impatient_cluster().processors(2).slots(1).append_only(true)).await;
    let now_ms = redis_now_ms(&cluster).await;
    both_take_work(&cluster, now_ms).await;

    cluster.redis().expect("its own").stop().await.expect("stopped");
    // The outage itself: nothing happens that could be waited for.
    tokio::time::sleep(outage()).await;
    cluster.redis().expect("its own").start_again().await.expect("started again");
    let back_ms = redis_now_ms(&cluster).await;
    both_take_work(&cluster, back_ms).await;

    let probe = cluster.probe().await.expect("a connection");
    for kind in ["normal", "pubsub"] {
        probe.command("CLIENT", ["KILL", "TYPE", kind, "SKIPME", "yes"]).await.expect("killed");
    }
    probe.command("SCRIPT", ["FLUSH", "SYNC"]).await.expect("flushed");
    let now_ms = redis_now_ms(&cluster).await;
    both_take_work(&cluster, now_ms).await;
    for process in cluster.processors() {
        assert!(process.is_running(), "{} had to be restarted", process.name());
    }
}

#[tokio::test]
async fn a_gateway_that_starts_before_redis_serves_once_redis_is_there() {
    let mut cluster = start(impatient_cluster().processors(1)).await;
    cluster.redis().expect("its own").stop().await.expect("stopped");
    let late = cluster.add_gateway().await.expect("it starts without redis");
    assert_eq!(late.get("/readyz").await.expect("an answer").status, 200);
    let work = Submission::new("demo", json!(1)).header("prefer", "wait=30");
    assert_eq!(late.submit(&work).await.expect("an answer").code(), "store_unavailable");
    cluster.redis().expect("its own").start_again().await.expect("started again");
    let late = late.caller("paid", "early-bird");
    let task_id = accepted_at_last(&late, &work).await;
    assert_eq!(ended(&late, &task_id).await.task_status(), "succeeded");
}
