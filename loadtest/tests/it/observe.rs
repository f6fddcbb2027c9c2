//! A run observed from outside: what the harness sees of a real cluster satisfies every invariant, and survives a file.
//!
//! Responsible for one short run with limits that refuse, a policy update and a killed processor, and for what the
//! observer must notice of Redis. Must never test an invariant by itself: those have records made by hand, which break
//! them.

mod degraded;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::invariant::{self, Finding};
use portcullis_loadtest::observe::{Backend, Observer, ObserverOptions, ServiceTime, Work};
use portcullis_loadtest::record::{Answered, Call, Caller, Fault, Outcome, PolicyChange, Record, RunClock, UnitUse};
use serde_json::json;

use crate::fixture::{Fixture, PATIENCE, cluster, start, until};

const PAID: u32 = 6;
const TASKS: u32 = 40;

/// Submits, as caller `number` of the record.
async fn call(clock: RunClock, client: &Client, number: u32, request: u64) -> Call {
    let sent_us = clock.now_us();
    let outcome = match client.submit(&Submission::new("chat", "hello")).await {
        Ok(answer) => Outcome::Answered(answered(&answer)),
        Err(error) => Outcome::Failed { why: error.to_string(), sent: true },
    };
    let (kind, ended_us) = ("chat".to_owned(), clock.now_us());
    let (caller, repetition, gateway, intended_us) = (number, 0, number % 2, sent_us);
    Call { caller, request, repetition, gateway, kind, intended_us, sent_us, ended_us, outcome }
}

fn answered(answer: &Answer) -> Answered {
    let text = |field: &str| answer.body[field].as_str().map(str::to_owned);
    let header = |name: &str| answer.header(name).map(str::to_owned);
    Answered {
        status: answer.status,
        code: text("code"),
        step: text("step"),
        retry_after_seconds: header("retry-after").and_then(|seconds| seconds.parse().ok()),
        task_id: text("task_id"),
        policy_revision: header("x-policy-revision").and_then(|revision| revision.parse().ok()),
        request_id: header("x-request-id"),
    }
}

/// Every caller sends its requests one after another, all callers at once.
async fn load(clock: RunClock, clients: &[Client], first_request: u64) -> Vec<Call> {
    let callers = (0..).zip(clients).map(|(number, client)| async move {
        let mut calls = Vec::new();
        for n in 0..TASKS {
            let request = first_request + u64::from(number * TASKS + n);
            calls.push(call(clock, client, number, request).await);
        }
        calls
    });
    join_all(callers).await.into_iter().flatten().collect()
}

async fn observer_of(clock: RunClock, cluster: &Fixture) -> Observer {
    let prepared = Observer::prepare(ObserverOptions {
        redis_url: cluster.redis_url().to_owned(),
        scope: cluster.scope().clone(),
        policy: cluster.policy().clone(),
    });
    prepared.await.expect("an observer").start(clock).await
}

#[tokio::test]
async fn every_invariant_holds_of_a_run_with_a_killed_processor_and_a_policy_update() {
    let clock = RunClock::start();
    let usage = BTreeMap::from([("tokens".to_owned(), 7)]);
    let work = Work { service: ServiceTime::Uniform { from_ms: 5.0, to_ms: 40.0 }, usage, ..Work::default() };
    let backend = Backend::start(clock, BTreeMap::from([("chat".to_owned(), work)])).await.expect("a port");
    let policy = json!({
        "queue": { "lease_ms": 500, "retry": { "initial_ms": 50 } },
        "backpressure": { "queue_depth_multiplier": 30.0 },
        "rate_limits": { "roles": { "anonymous": { "burst": 3, "burst_window": 1 } } },
        "budgets": {
            "daily": { "unit": "requests", "amount": 30, "period": "day", "per": "principal", "default_estimate": 1,
                "user_types": ["registered"] },
            "tokens": { "unit": "tokens", "amount": 100_000, "period": "day", "per": "tenant", "default_estimate": 5 },
        },
    });
    let builder = cluster().gateways(2).processors(2).slots(8).policy(policy).handler("chat", &backend.target("chat"));
    let mut cluster = start(builder).await;
    let observer = observer_of(clock, &cluster).await;
    let pid = cluster.gateways()[0].id().expect("it runs");
    observer.watch_processes(BTreeMap::from([("gateway-0".to_owned(), pid)]));

    let types: Vec<&str> = ["paid"; PAID as usize].into_iter().chain(["registered", "anonymous"]).collect();
    let principal = |number: usize| format!("caller-{number}");
    let callers = types.iter().enumerate().map(|(number, user_type)| Caller {
        number: number as u32,
        load: "load".to_owned(),
        user_type: (*user_type).to_owned(),
        principal: Some(format!("dev:{}", principal(number))),
    });
    let mut record = Record { name: "observe".to_owned(), callers: callers.collect(), ..Record::default() };
    let effective = serde_json::to_value(cluster.policy()).expect("a policy");
    record.policies.push(PolicyChange { revision: 0, sent_us: 0, accepted_us: 0, effective });
    let clients: Vec<Client> = (types.iter().enumerate())
        .map(|(number, user_type)| cluster.gateway(number % 2).caller(user_type, &principal(number)))
        .collect();

    let first = tokio::spawn({
        let clients = clients.clone();
        async move { load(clock, &clients, 0).await }
    });
    until("work is under way", || async { (backend.begun() > 40).then_some(()) }).await;
    // So long that no attempt of the processor ends by itself while it is being killed.
    let usual = backend.set("chat", Work::constant(1000.0)).expect("it serves this kind");
    let before = backend.begun();
    until("every slot has such work", || async { (backend.begun() >= before + 16).then_some(()) }).await;
    let at_us = clock.now_us();
    cluster.processors()[0].kill().await.expect("it ran");
    backend.set("chat", usual);
    let (name, detail) = ("kill_processor".to_owned(), "processor-0".to_owned());
    record.faults.push(Fault { name, detail, at_us, until_us: None });
    record.calls = first.await.expect("the load ends");

    let sent_us = clock.now_us();
    let update = json!({ "queue": { "max_attempts": 4 }, "reason": "a test" });
    let answer = cluster.admin(0).post("/admin/gateway/update-config", &update).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut policy = cluster.policy().clone();
    policy.queue.max_attempts = 4;
    record.policies.push(PolicyChange {
        revision: answer.body["revision"].as_u64().expect("a revision"),
        sent_us,
        accepted_us: clock.now_us(),
        effective: serde_json::to_value(policy).expect("a policy"),
    });
    record.calls.extend(load(clock, &clients, 1_000_000).await);

    let seen = observer.finish(&record.calls, PATIENCE).await;
    let (kind, unit) = ("chat".to_owned(), "tokens".to_owned());
    record.uses.push(UnitUse { kind, unit, estimate: None, used: 7 });
    record.attempts = backend.finish().await;
    (record.samples, record.decisions) = (seen.samples, seen.decisions);
    (record.redis_start_ms, record.decisions_incomplete) = (seen.redis_start_ms, seen.decisions_incomplete);
    (record.ending, record.took_us) = (seen.ending, clock.now_us());

    assert!(!record.decisions_incomplete, "nothing was lost");
    let verdicts = invariant::check(&record);
    assert!(verdicts.hold(), "{verdicts}");
    for verdict in &verdicts.list {
        assert!(matches!(verdict.finding, Finding::Held { .. }), "{} is judged: {verdicts}", verdict.invariant);
    }
    seen_enough(&record);

    let text = serde_json::to_string(&record).expect("JSON");
    let again: Record = serde_json::from_str(&text).expect("a record");
    assert_eq!(serde_json::to_string(&again).expect("JSON"), text);
    assert_eq!(invariant::check(&again), verdicts);
}

/// The run showed what it was made to show.
fn seen_enough(record: &Record) {
    let answers = record.answers();
    for code in ["admitted", "burst_limit", "budget_exhausted"] {
        assert!(answers.get(code).is_some_and(|count| *count >= 10), "{code}: {answers:?}");
    }
    assert!(record.attempts.len() as u64 > answers["admitted"], "the killed processor's tasks ran again");
    let abandoned = portcullis_loadtest::record::attempt::AttemptEnd::Abandoned;
    assert!(record.attempts.iter().any(|attempt| attempt.end == abandoned));
    let sample = record.samples.last().expect("samples");
    assert!(sample.redis.contains_key("evalsha") && sample.redis_memory_bytes.is_some());
    assert!(sample.processes["gateway-0"].resident_bytes > 0);
    let ending = record.ending.as_ref().expect("an end");
    assert!(ending.budgets.iter().any(|account| account.name == "tokens" && account.spent >= 7));
    assert!(ending.rested_us.is_some_and(|rested_us| Duration::from_micros(rested_us) < PATIENCE));
}

/// Submits this many tasks, whatever comes of them.
async fn submit(client: &Client, count: u32) {
    for _ in 0..count {
        client.submit(&Submission::new("demo", "hello")).await.expect("an answer");
    }
}

#[tokio::test]
async fn an_observer_outlives_an_outage_of_redis_and_misses_nothing() {
    let mut cluster = start(cluster().append_only(true)).await;
    cluster.stand_in(100).await.expect("capacity");
    let observer = observer_of(RunClock::start(), &cluster).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    submit(&client, 20).await;
    until("the tasks are seen", || async { (observer.latest().queued == Some(20)).then_some(()) }).await;
    cluster.redis().expect("its own").kill().await.expect("it ran");
    until("the outage is seen", || async { observer.latest().queued.is_none().then_some(()) }).await;
    cluster.redis().expect("its own").start_again().await.expect("it starts again");
    until("requests are decided again", || async {
        let answer = client.submit(&Submission::new("demo", "hello")).await.ok()?;
        (answer.code() != "store_unavailable").then_some(())
    })
    .await;
    until("the end of the outage is seen", || async { observer.latest().queued.map(drop) }).await;
    let seen = observer.finish(&[], Duration::ZERO).await;
    assert!(!seen.decisions_incomplete, "{} decisions", seen.decisions.len());
    assert!(seen.decisions.len() > 20);
    assert!(seen.samples.iter().any(|sample| sample.queued.is_none()), "the outage is seen");
    assert!(seen.samples.last().is_some_and(|sample| sample.queued >= Some(20)), "and its end");
    let ending = seen.ending.expect("redis is back");
    assert_eq!((ending.rested_us, ending.tasks.len() as u64), (None, ending.queued), "tasks that nobody runs wait");
}

#[tokio::test]
async fn missing_decisions_are_noticed() {
    let mut cluster = start(cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let (client, probe) = (cluster.gateway(0).caller("paid", "ada"), cluster.probe().await.expect("a connection"));
    let stream = format!("{}:decision", cluster.key_prefix());
    let length = async || probe.command("XLEN", [&stream]).await.expect("an answer").as_u64().unwrap_or(0);
    submit(&client, 3).await;
    let whole = observer_of(RunClock::start(), &cluster).await.finish(&[], Duration::ZERO).await;
    assert_eq!((whole.decisions.len(), whole.decisions_incomplete), (0, false), "none since the start");
    assert_eq!((whole.earlier.len(), whole.earlier_incomplete), (3, false), "from the beginning");

    let observer = observer_of(RunClock::start(), &cluster).await;
    probe.command("FLUSHALL", []).await.expect("an answer");
    until("decisions are recorded again", || async {
        submit(&client, 1).await;
        (length().await >= 5).then_some(())
    })
    .await;
    let lost = observer.finish(&[], Duration::ZERO).await;
    assert!(lost.decisions_incomplete && lost.decisions.len() >= 5, "{}", lost.decisions.len());

    probe.command("XTRIM", [&stream, "MAXLEN", "1"]).await.expect("an answer");
    let cut = observer_of(RunClock::start(), &cluster).await.finish(&[], Duration::ZERO).await;
    assert_eq!((cut.decisions.len(), cut.decisions_incomplete), (0, false), "nothing is missing since the start");
    assert_eq!((cut.earlier.len(), cut.earlier_incomplete), (1, true), "the stream was cut before");
}
