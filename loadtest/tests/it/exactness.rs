//! Limits hold exactly, whoever decides and however many decide at once.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Answer, Submission};
use portcullis_lua::{AdmitRequest, Provenance, TaskId};
use serde_json::{Value, json};

use crate::fixture::{Fixture, PATIENCE, cluster, record, redis_now_ms, start, until};

/// Everyone at once; the answers.
async fn all_at_once(callers: &[Client], submission: &Submission) -> Vec<Answer> {
    let answers = join_all(callers.iter().map(|caller| caller.submit(submission))).await;
    answers.into_iter().map(|answer| answer.expect("an answer")).collect()
}

/// Answers by code; accepted ones under `admitted`.
fn by_code(answers: &[Answer]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        let code = if answer.is_accepted() { "admitted" } else { answer.code() };
        *counts.entry(code.to_owned()).or_default() += 1;
    }
    counts
}

/// What would be asked in the name of a task's caller, to look at its limits and budgets without using any.
async fn peek(cluster: &Fixture, task_id: &str) -> portcullis_lua::Decision {
    let store = cluster.store().await.expect("a store");
    let envelope = record(&store, task_id).await.envelope;
    let request = AdmitRequest {
        task_id: TaskId::generate(),
        user_type: envelope.user_type,
        session_id: envelope.session_id,
        principal: envelope.principal,
        actor: None,
        client_address: None,
        kind: envelope.kind,
        pass: None,
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 1,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance::default(),
        request_id: "peek".to_owned(),
        traceparent: None,
        tracestate: None,
        content_type: "application/json".to_owned(),
        payload: "null".into(),
    };
    let mut decisions = store.peek(&cluster.compiled_policy(), &[request]).await.expect("an answer");
    decisions.remove(0)
}

#[tokio::test]
async fn a_burst_over_three_gateways_is_admitted_exactly_to_its_limit() {
    let budget =
        json!({ "unit": "requests", "amount": 1000, "period": "month", "per": "principal", "default_estimate": 1 });
    let mut cluster = start(cluster().gateways(3).policy(json!({ "budgets": { "monthly": budget } }))).await;
    cluster.stand_in(1000).await.expect("capacity");
    let callers: Vec<Client> = (0..64).map(|index| cluster.gateway(index)).collect();

    let answers = all_at_once(&callers, &Submission::new("demo", json!(1))).await;

    let expected = BTreeMap::from([("admitted".to_owned(), 10), ("burst_limit".to_owned(), 54)]);
    assert_eq!(by_code(&answers), expected);
    for refused in answers.iter().filter(|answer| !answer.is_accepted()) {
        assert_eq!((refused.status, refused.step()), (429, "rate_limit"));
        let wait = refused.retry_after().expect("a Retry-After").as_secs();
        assert!((1..=60).contains(&wait), "Retry-After {wait}");
    }
    let admitted = answers.iter().find(|answer| answer.is_accepted()).expect("one of ten");
    let left = peek(&cluster, admitted.task_id()).await;
    let remaining: Vec<(&str, u64)> = left.limits.iter().map(|one| (one.name.as_str(), one.remaining)).collect();
    assert_eq!(remaining, [("burst", 0), ("hourly", 110)]);
    assert_eq!((left.budgets[0].spent, left.budgets[0].held), (0, 10));
    let store = cluster.store().await.expect("a store");
    let queues = store.queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!((queues.queued, queues.running, queues.queued_by_type["anonymous"]), (10, 0, 10));
    let decisions = store.decisions(1000).await.expect("an answer");
    assert_eq!(decisions.iter().filter(|decision| decision.outcome == "admitted").count(), 10);
}

#[tokio::test]
async fn each_user_type_fills_the_queue_exactly_to_its_threshold() {
    let mut cluster = start(cluster().gateways(3)).await;
    cluster.stand_in(100).await.expect("capacity");
    // floor(100 × 0.8) + floor(100 × 2.0), as shipped.
    let capacity = 280.0_f64;
    let mut depth = 0;
    for (user_type, threshold, code) in [
        ("registered", 0.8, "pressure_threshold"),
        ("paid", 0.9, "pressure_threshold"),
        ("privileged", 0.95, "hard_limit"),
    ] {
        let of_one = |index: usize| cluster.gateway(index).caller(user_type, &format!("{user_type}-{index}"));
        let callers: Vec<Client> = (0..500).map(of_one).collect();
        let answers = all_at_once(&callers, &Submission::new("demo", json!(1))).await;
        let limit = (capacity * threshold).floor() as usize;
        let expected =
            BTreeMap::from([("admitted".to_owned(), limit - depth), (code.to_owned(), 500 - (limit - depth))]);
        assert_eq!(by_code(&answers), expected, "{user_type}");
        let refused = answers.iter().find(|answer| !answer.is_accepted()).expect("some");
        assert_eq!((refused.status, refused.step()), (503, "backpressure"));
        assert!(refused.retry_after().is_some_and(|wait| !wait.is_zero()));
        depth = limit;
    }
    let queues = cluster.store().await.expect("a store").queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!(queues.queued, depth as u64);
}

#[tokio::test]
async fn one_idempotency_key_a_hundred_times_at_once_is_one_task() {
    let mut cluster = start(cluster().gateways(3)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let callers: Vec<Client> = (0..100).map(|index| cluster.gateway(index).caller("paid", "impatient")).collect();
    let order = Submission::new("demo", json!({ "order": 1 })).header("idempotency-key", "order-1");

    let answers = all_at_once(&callers, &order).await;

    let mut tasks: Vec<&str> = answers.iter().map(Answer::task_id).collect();
    tasks.sort_unstable();
    tasks.dedup();
    assert_eq!(by_code(&answers), BTreeMap::from([("admitted".to_owned(), 100)]));
    assert_eq!(tasks.len(), 1, "one key, but {tasks:?}");
    let replayed = answers.iter().filter(|answer| answer.header("idempotent-replayed") == Some("true")).count();
    assert_eq!(replayed, 99, "all but the first say so");
    let left = peek(&cluster, tasks[0]).await;
    assert_eq!(left.limits[0].remaining, left.limits[0].limit - 1, "repetitions cost nothing");
    let queues = cluster.store().await.expect("a store").queues(&cluster.compiled_policy()).await.expect("an answer");
    assert_eq!(queues.queued, 1);

    let other = Submission::new("demo", json!({ "order": 2 })).header("idempotency-key", "order-1");
    let mismatch = callers[0].submit(&other).await.expect("an answer");
    assert_eq!((mismatch.status, mismatch.code()), (422, "idempotency_mismatch"));
    let stranger = cluster.gateway(0).caller("paid", "somebody-else");
    let unrelated = stranger.submit(&order).await.expect("an answer");
    assert!(unrelated.is_accepted() && unrelated.task_id() != tasks[0], "keys belong to their principal");
}

#[tokio::test]
async fn whoever_waits_as_long_as_told_gets_in() {
    let roles = json!({ "anonymous": { "burst": 3, "burst_window": 2 } });
    let mut cluster = start(cluster().gateways(2).policy(json!({ "rate_limits": { "roles": roles } }))).await;
    cluster.stand_in(1000).await.expect("capacity");
    let task = Submission::new("demo", json!(1));
    for round in 0..2 {
        let refused = until("the burst is used up", || async {
            let answer = cluster.gateway(round).submit(&task).await.expect("an answer");
            (!answer.is_accepted()).then_some(answer)
        })
        .await;
        assert_eq!(refused.code(), "burst_limit");
        // Not a wait for something to happen: keeping the promise is what is under test.
        tokio::time::sleep(refused.retry_after().expect("a Retry-After")).await;
        // The other gateway, too, must not remember longer than it was true.
        let admitted = cluster.gateway(round + 1).submit(&task).await.expect("an answer");
        assert!(admitted.is_accepted(), "waited as told, yet {}", admitted.text);
    }
}

#[tokio::test]
async fn no_window_ever_holds_more_than_its_limit_however_it_is_hammered() {
    const LIMIT: usize = 5;
    const WINDOW_MS: u64 = 1000;
    let roles = json!({ "anonymous": { "burst": LIMIT, "burst_window": WINDOW_MS / 1000 } });
    let mut cluster = start(cluster().gateways(3).policy(json!({ "rate_limits": { "roles": roles } }))).await;
    cluster.stand_in(1000).await.expect("capacity");
    let callers: Vec<Client> = (0..6).map(|index| cluster.gateway(index)).collect();
    let mut admitted = Vec::new();
    let hammering = async {
        while admitted.len() < 4 * LIMIT {
            let answers = all_at_once(&callers, &Submission::new("demo", 1)).await;
            admitted.extend(answers.iter().filter(|answer| answer.is_accepted()).map(|one| one.task_id().to_owned()));
        }
    };
    tokio::time::timeout(PATIENCE, hammering).await.expect("four windows are filled in time");
    let store = cluster.store().await.expect("a store");
    let mut times = Vec::new();
    for task_id in &admitted {
        times.push(record(&store, task_id).await.created_ms);
    }
    times.sort_unstable();
    for window in times.windows(LIMIT + 1) {
        assert!(window[LIMIT] - window[0] >= WINDOW_MS, "{LIMIT} + 1 within {} ms", window[LIMIT] - window[0]);
    }
}

#[tokio::test]
async fn a_delayed_task_starts_after_its_delay_and_not_before() {
    let cluster = start(cluster().processors(1)).await;
    let client = cluster.gateway(0);
    let delayed = Submission::new("demo", Value::Null).field("delay_ms", 700);
    let task_id = crate::fixture::accepted(&client, &delayed).await;
    let end = crate::fixture::ended(&client, &task_id).await;
    assert_eq!(end.task_status(), "succeeded");
    let record = record(&cluster.store().await.expect("a store"), &task_id).await;
    assert!(record.attempts[0].started_ms >= record.created_ms + 700, "{:?}", record.attempts);
    assert!(redis_now_ms(&cluster).await >= record.created_ms + 700);
}
