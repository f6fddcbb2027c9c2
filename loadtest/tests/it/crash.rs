//! Processes that die without a word, and one that comes back too late.

use bytes::Bytes;
use portcullis_loadtest::client::Submission;
use portcullis_lua::{Outcome, Renewal, Settled, Settlement, TaskResult, TaskStatus};
use serde_json::{Value, json};

use crate::fixture::{SLACK_MS, accepted, cluster, ended, record, redis_now_ms, start, until, until_running};

const LEASE_MS: u64 = 1000;

fn short_leases() -> Value {
    json!({ "queue": { "lease_ms": LEASE_MS } })
}

#[tokio::test]
async fn tasks_of_a_killed_processor_are_run_by_another_and_end_once() {
    let mut cluster = start(cluster().processors(1).slots(4).policy(short_leases())).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    let long = Submission::new("slow", json!({ "ms": 400, "output": 1 }));
    let stuck = Submission::new("slow", json!({ "ms": 3000 }));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(accepted(&client, &stuck).await);
    }
    for task_id in &tasks {
        until_running(&client, task_id).await;
    }
    cluster.add_processor().await.expect("another processor");
    let killed_ms = redis_now_ms(&cluster).await;
    cluster.processors()[0].kill().await.expect("killed");
    for _ in 0..4 {
        tasks.push(accepted(&client, &long).await);
    }

    for task_id in &tasks {
        assert_eq!(ended(&client, task_id).await.task_status(), "succeeded");
    }
    let store = cluster.store().await.expect("a store");
    for task_id in &tasks[..4] {
        let record = record(&store, task_id).await;
        assert_eq!(record.attempts.len(), 2, "one lost, one done: {:?}", record.attempts);
        // Taken back within lease + 1 s of the kill, on Redis's own clock.
        let taken_back_ms = record.attempts[0].ended_ms.expect("the lost attempt has ended");
        assert!(taken_back_ms <= killed_ms + LEASE_MS + 1000 + SLACK_MS, "{} ms", taken_back_ms - killed_ms);
    }
    let queues = store.queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!((queues.queued, queues.running, queues.dead), (0, 0, 0));
}

#[tokio::test]
async fn a_gateway_killed_with_requests_under_way_neither_loses_nor_doubles_any() {
    const REQUESTS: usize = 60;
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let [doomed, other] = [0, 1].map(|index| cluster.gateway(index).caller("privileged", "ada"));
    let keyed = |number: usize| Submission::new("demo", number).header("idempotency-key", format!("order-{number}"));
    let under_way: Vec<_> = (0..REQUESTS)
        .map(|number| {
            let (client, submission) = (doomed.clone(), keyed(number));
            tokio::spawn(async move { client.submit(&submission).await })
        })
        .collect();
    let store = cluster.store().await.expect("a store");
    let policy = cluster.compiled_policy();
    until("the first of them are in the queue", || async {
        (store.queues(&policy).await.ok()?.queued > 0).then_some(())
    })
    .await;
    cluster.gateways()[0].kill().await.expect("killed");
    let mut promised = Vec::new();
    for (number, request) in under_way.into_iter().enumerate() {
        // A broken connection is what its client gets; it cannot know what became of the request.
        if let Ok(answer) = request.await.expect("no panic") {
            promised.push((number, answer.task_id().to_owned()));
        }
    }
    let mut tasks = Vec::new();
    for number in 0..REQUESTS {
        tasks.push(accepted(&other, &keyed(number)).await);
    }
    for (number, task_id) in promised {
        assert_eq!(tasks[number], task_id, "what was promised is what is found");
    }
    tasks.sort_unstable();
    tasks.dedup();
    assert_eq!(tasks.len(), REQUESTS);
    assert_eq!(store.queues(&policy).await.expect("an answer").queued, REQUESTS as u64, "each of them once");
}

#[tokio::test]
async fn a_stale_fencing_token_changes_nothing() {
    let mut cluster = start(cluster().policy(short_leases())).await;
    cluster.stand_in(10).await.expect("capacity");
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("demo", json!(1))).await;
    // From here on nothing but this test touches the scope.
    cluster.dismiss_stand_ins().await;
    let (store, probe) = (cluster.store().await.expect("a store"), cluster.probe().await.expect("a connection"));
    let (policy, prefix) = (cluster.compiled_policy(), cluster.key_prefix());
    let zombie = store.claim(&policy, 1).await.expect("an answer").leases.remove(0);
    until("the lease lapses", || async {
        let reclaimed = store.reclaim(&policy).await.expect("an answer");
        (reclaimed.requeued == 1).then_some(())
    })
    .await;
    let heir = store.claim(&policy, 1).await.expect("an answer").leases.remove(0);
    assert!(heir.token > zombie.token, "tokens grow");

    let finished = |lease: &portcullis_lua::Lease, body: &'static str| {
        let result =
            TaskResult { content_type: "application/json".to_owned(), body: Bytes::from_static(body.as_bytes()) };
        vec![Settlement { lease: lease.clone(), outcome: Outcome::Succeeded { result, usage: Vec::new() } }]
    };
    let before = probe.dump(&prefix).await.expect("a dump");
    let settled = store.settle(&policy, &finished(&zombie, "\"late\"")).await.expect("an answer");
    assert_eq!(settled, [Settled::Stale]);
    let renewed = store.renew(&policy, &[(zombie.task_id.clone(), zombie.token)]).await.expect("an answer");
    assert_eq!(renewed, [Renewal::Lost]);
    assert!(!store.append_output(&policy, &zombie, 0, vec!["late".into()]).await.expect("an answer"));
    assert_eq!(probe.dump(&prefix).await.expect("a dump"), before, "a stale token changed something");

    let settled = store.settle(&policy, &finished(&heir, "\"in time\"")).await.expect("an answer");
    assert_eq!(settled, [Settled::Done(TaskStatus::Succeeded)]);
    let after = probe.dump(&prefix).await.expect("a dump");
    assert_eq!(store.settle(&policy, &finished(&zombie, "\"later\"")).await.expect("an answer"), [Settled::Stale]);
    assert_eq!(store.settle(&policy, &finished(&heir, "\"twice\"")).await.expect("an answer"), [Settled::Stale]);
    assert_eq!(probe.dump(&prefix).await.expect("a dump"), after, "a task ended twice");
    assert_eq!(client.task(&task_id).await.expect("an answer").body["result"], json!("in time"));
}

#[tokio::test]
async fn a_processor_that_was_frozen_past_its_lease_runs_nothing_twice_to_its_end() {
    let mut cluster = start(cluster().processors(1).slots(1).policy(short_leases())).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 1500, "output": 3 }))).await;
    until_running(&client, &task_id).await;
    cluster.processors()[0].pause().expect("frozen");
    cluster.add_processor().await.expect("another processor");
    let store = cluster.store().await.expect("a store");
    until("another has taken it over", || async { (record(&store, &task_id).await.attempts.len() == 2).then_some(()) })
        .await;
    cluster.processors()[0].resume().expect("awake again");
    let end = ended(&client, &task_id).await;
    assert_eq!((end.task_status(), &end.body["attempt"]), ("succeeded", &json!(2)), "{}", end.text);
    assert_eq!(end.body["result"]["attempt"], json!(2), "the result is the second attempt's");
    // The zombie has found out and works on.
    let both = Submission::new("slow", json!({ "ms": 1500 }));
    let tasks = [accepted(&client, &both).await, accepted(&client, &both).await];
    until("both processors work", || async {
        let queues = store.queues(&cluster.compiled_policy()).await.ok()?;
        (queues.running == 2).then_some(())
    })
    .await;
    for task_id in &tasks {
        assert_eq!(ended(&client, task_id).await.task_status(), "succeeded");
    }
}
