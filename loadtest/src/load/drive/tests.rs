//! Whole loads against servers that misbehave.
//!
//! Responsible for what only a running load shows: that the loop is open, that clients come back as they should, and
//! that no call is lost. Must never assert how long anything took, only what came before what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::stub::{Reply, Seen, Stub};
use super::*;
use crate::eventually;
use crate::load::latency;
use crate::load::meter::Reading;
use crate::record::{Call, Outcome};

const LIMIT: Duration = Duration::from_secs(30);

/// A plan of one stream: arrivals and callers, and what else is given.
fn plan(fields: &Value) -> Plan {
    let mut stream = json!({
        "duration_seconds": 1,
        "callers": [{ "user_type": "paid", "count": 10 }, { "user_type": "anonymous", "count": 1 }],
        "kinds": [{ "kind": "chat" }],
    });
    for (name, value) in fields.as_object().expect("fields") {
        stream[name] = value.clone();
    }
    serde_json::from_value(json!({ "day": stream })).expect("a plan")
}

fn constant(per_second: u32) -> Value {
    json!({ "pattern": "constant", "per_second": per_second })
}

fn burst(size: u32) -> Value {
    json!({ "pattern": "burst", "size": size, "every_seconds": 10 })
}

/// A load that runs while the test does something to it.
struct Running {
    meter: Meter,
    stop: CancellationToken,
    clock: RunClock,
    driving: tokio::task::JoinHandle<Result<Journal, HarnessError>>,
}

impl Running {
    fn start(plan: Plan, targets: &Targets) -> Self {
        let (meter, stop, clock) = (Meter::default(), CancellationToken::new(), RunClock::start());
        let (watch, stopped, targets) = (meter.clone(), stop.clone(), targets.clone());
        let driving = tokio::spawn(async move { drive(&plan, targets, clock, 1, watch, stopped).await });
        Self { meter, stop, clock, driving }
    }

    async fn until(&self, what: &str, mut condition: impl FnMut(&Reading) -> bool) {
        eventually(LIMIT, what, || {
            let met = condition(&self.meter.read());
            async move { met.then_some(()) }
        })
        .await
        .expect(what);
    }

    async fn journal(self) -> Journal {
        let journal =
            tokio::time::timeout(LIMIT, self.driving).await.expect("it ends").expect("no panic").expect("run");
        let read = self.meter.read();
        let counted = read.admitted + read.refused + read.failed;
        assert_eq!((read.offered, counted), (journal.calls.len() as u64, read.offered), "{read:?}");
        assert_eq!((read.in_flight, read.waiting), (0, 0));
        let names: BTreeSet<(u64, u32)> = journal.calls.iter().map(|call| (call.request, call.repetition)).collect();
        assert_eq!(names.len(), journal.calls.len(), "a call is written down twice");
        journal
    }
}

async fn run(plan: Plan, targets: &Targets) -> Journal {
    Running::start(plan, targets).journal().await
}

fn why(call: &Call) -> Option<(&str, bool)> {
    match &call.outcome {
        Outcome::Answered(_) => None,
        Outcome::Failed { why, sent } => Some((why, *sent)),
    }
}

fn by_request(journal: &Journal) -> BTreeMap<u64, Vec<&Call>> {
    let mut requests: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in &journal.calls {
        requests.entry(call.request).or_default().push(call);
    }
    for calls in requests.values_mut() {
        calls.sort_by_key(|call| call.repetition);
    }
    requests
}

#[tokio::test]
async fn a_stalled_server_does_not_slow_the_schedule_and_shows_in_the_latency() {
    let (open, gate) = watch::channel(false);
    let stub = Stub::start(move |_| Reply::AdmitWhen(gate.clone()));
    let running = Running::start(plan(&json!({ "arrivals": constant(200) })), &Targets::new([stub.url()]));
    running.until("fifty calls wait at once", |read| read.in_flight >= 50).await;
    open.send(true).expect("the server waits");
    let journal = running.journal().await;
    assert_eq!(journal.calls.len(), 200);
    assert!(journal.calls.iter().all(Call::is_accepted));
    let mut intended: Vec<u64> = journal.calls.iter().map(|call| call.intended_us).collect();
    intended.sort_unstable();
    let expected: Vec<u64> = (0..200).map(|k| k * 5000).collect();
    assert_eq!(intended, expected, "the schedule, whatever the answers did");
    let first = journal.calls.iter().find(|call| call.intended_us == 0).expect("the first");
    assert!(first.latency_us() >= 49 * 5000, "the fiftieth was sent before the first was answered");
    assert!(latency::answered(&journal.calls).max_us >= 49 * 5000);
}

#[tokio::test]
async fn obedient_clients_do_not_come_back_before_they_were_told_to() {
    let stub = Stub::start(|seen| if seen.request_id.ends_with("-0") { Reply::Refuse(429, 1) } else { Reply::Admit });
    let retry = json!({ "retry_after": "obey", "max_tries": 5 });
    let plan = plan(&json!({ "arrivals": burst(20), "duration_seconds": 3, "retry": retry }));
    let journal = run(plan, &Targets::new([stub.url()])).await;
    let requests = by_request(&journal);
    assert_eq!((requests.len(), journal.calls.len()), (20, 40));
    for calls in requests.values() {
        assert!(calls[1].sent_us >= calls[1].intended_us && calls[1].intended_us >= calls[0].ended_us + 1_000_000);
        assert!(!calls[0].is_accepted() && calls[1].is_accepted());
        assert_eq!(calls[0].answered().and_then(|answered| answered.retry_after_seconds), Some(1));
    }
}

#[tokio::test]
async fn clients_that_ignore_what_they_are_told_come_back_and_add_to_the_load() {
    let stub = Stub::start(|_| Reply::Refuse(503, 3600));
    let retry = json!({ "retry_after": "ignore", "max_tries": 4, "backoff": { "initial_ms": 1 } });
    let plan = plan(&json!({ "arrivals": burst(20), "retry": retry }));
    let journal = run(plan, &Targets::new([stub.url()])).await;
    assert_eq!((by_request(&journal).len(), journal.calls.len(), stub.seen().len()), (20, 80, 80));
}

#[tokio::test]
async fn nobody_comes_back_after_the_end_of_the_stream() {
    let stub = Stub::start(|_| Reply::Refuse(503, 3600));
    let retry = json!({ "retry_after": "obey", "max_tries": 4, "patience_seconds": 86400 });
    let plan = plan(&json!({ "arrivals": burst(20), "retry": retry }));
    assert_eq!(run(plan, &Targets::new([stub.url()])).await.calls.len(), 20);
}

#[tokio::test]
async fn every_call_that_reached_the_server_is_written_down_whatever_came_of_it() {
    let stub = Stub::start(|seen| match seen.request_id.bytes().nth_back(2) {
        Some(b'0'..=b'3') => Reply::Admit,
        Some(b'4'..=b'6') => Reply::Refuse(429, 1),
        Some(b'7') => Reply::Refuse(500, 1),
        _ => Reply::Hang,
    });
    let plan = plan(&json!({ "arrivals": { "pattern": "poisson", "per_second": 300 }, "timeout_ms": 200 }));
    let journal = run(plan, &Targets::new([stub.url()])).await;
    let seen: Vec<String> = stub.seen().into_iter().map(|seen| seen.request_id).collect();
    let run = seen[0].split('-').next().expect("the run's name").to_owned();
    let written: BTreeSet<String> =
        journal.calls.iter().map(|call| format!("{run}-{}-{}", call.request, call.repetition)).collect();
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (written.len(), written));
    for call in &journal.calls {
        match call.request % 10 {
            0..=3 => {
                let task_id = format!("task-{run}-{}-0", call.request);
                assert_eq!((call.is_accepted(), call.task_id()), (true, Some(task_id.as_str())));
            }
            4..=7 => assert_eq!(call.answered().and_then(|answered| answered.code.as_deref()), Some("stub")),
            _ => assert_eq!(why(call), Some(("timeout", true))),
        }
    }
}

#[tokio::test]
async fn answers_that_are_none_are_failures_of_their_own_kind() {
    let answers = [
        ("", "connection closed"),
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 50\r\n\r\n{", "connection closed"),
        ("SSH-2.0-OpenSSH_9.6\r\n", "malformed answer"),
    ];
    for (answer, expected) in answers {
        let stub = Stub::rude(answer);
        let journal = run(plan(&json!({ "arrivals": burst(3) })), &Targets::new([stub.url()])).await;
        let found: Vec<_> = journal.calls.iter().map(why).collect();
        assert_eq!(found, [Some((expected, true)); 3], "{answer}");
    }
    let closing = Stub::rude("HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\n\r\n{\"code\":\"burst_limit\"}");
    let journal = run(plan(&json!({ "arrivals": constant(20) })), &Targets::new([closing.url()])).await;
    assert_eq!(journal.calls.len(), 20);
    let named = |call: &Call| call.outcome.name() == "burst_limit";
    assert!(journal.calls.iter().all(named), "a body that ends with the connection: {:?}", journal.calls[0]);
}

#[tokio::test]
async fn no_call_is_lost_when_the_server_is_killed() {
    let mut stub = Stub::start(|_| Reply::Admit);
    let running = Running::start(plan(&json!({ "arrivals": constant(500) })), &Targets::new([stub.url()]));
    running.until("a hundred are admitted", |read| read.admitted >= 100).await;
    stub.kill();
    let journal = running.journal().await;
    assert_eq!(journal.calls.len(), 500);
    let refused = journal.calls.iter().filter(|call| why(call) == Some(("connection refused", false))).count();
    assert!(refused > 0, "{:?}", journal.calls.last());
    for call in journal.calls.iter().filter(|call| !call.is_accepted()) {
        assert!(why(call).is_some());
    }
}

#[tokio::test]
async fn calls_follow_the_target_group() {
    let [first, second, third] = [(); 3].map(|()| Stub::start(|_| Reply::Admit));
    let targets = Targets::new([first.url(), second.url()]);
    let running = Running::start(plan(&json!({ "arrivals": constant(300), "duration_seconds": 2 })), &targets);
    running.until("both have been called", |read| read.sent >= 100).await;
    targets.remove(0);
    let removed_us = running.clock.now_us();
    let sent = running.meter.read().sent;
    running.until("a hundred more are sent", |read| read.sent >= sent + 100).await;
    let put_us = running.clock.now_us();
    targets.put(0, third.url());
    let journal = running.journal().await;
    assert!(journal.calls.iter().all(Call::is_accepted));
    let of = |from_us: u64, to_us: u64| {
        let then = journal.calls.iter().filter(move |call| (from_us..to_us).contains(&call.sent_us));
        then.map(|call| call.gateway).collect::<BTreeSet<_>>()
    };
    assert_eq!(of(0, removed_us), BTreeSet::from([0, 1]));
    // One may have been taken from the list just before it changed.
    assert_eq!(of(removed_us + 1000, put_us), BTreeSet::from([1]));
    assert!(of(put_us, u64::MAX).contains(&0) && !third.seen().is_empty());
    assert_eq!(first.seen().len() + second.seen().len() + third.seen().len(), 600);
}

#[tokio::test]
async fn calls_that_find_no_room_or_no_gateway_fail_unsent() {
    let stub = Stub::start(|_| Reply::Hang);
    let crowd = json!({ "arrivals": burst(20), "max_in_flight": 5, "timeout_ms": 300 });
    let journal = run(plan(&crowd), &Targets::new([stub.url()])).await;
    let count = |expected| journal.calls.iter().filter(|call| why(call) == Some(expected)).count();
    assert_eq!((count(("timeout", true)), count(("too many in flight", false))), (5, 15));
    let journal = run(plan(&json!({ "arrivals": burst(3) })), &Targets::default()).await;
    assert!(journal.calls.iter().all(|call| why(call) == Some(("no gateway", false))));
}

#[tokio::test]
async fn a_load_that_is_stopped_writes_down_what_is_in_flight() {
    let stub = Stub::start(|_| Reply::Hang);
    let running = Running::start(
        plan(&json!({ "arrivals": constant(50), "duration_seconds": 3600 })),
        &Targets::new([stub.url()]),
    );
    running.until("ten calls hang", |read| read.in_flight >= 10).await;
    running.stop.cancel();
    let journal = running.journal().await;
    assert!(journal.calls.len() >= 10);
    assert!(journal.calls.iter().all(|call| why(call) == Some(("cut off at the end", true))));
}

#[tokio::test]
async fn a_session_waits_for_its_answer_before_it_calls_again() {
    let stub = Stub::start(|_| Reply::Admit);
    let mut closed = plan(&json!({ "sessions": { "think_ms": 20, "thinking": "constant" } }));
    closed.0.get_mut("day").expect("there").callers.truncate(1);
    let journal = run(closed, &Targets::new([stub.url()])).await;
    let callers: BTreeSet<u32> = journal.calls.iter().map(|call| call.caller).collect();
    assert_eq!(callers, (0..10).collect());
    for caller in callers {
        let calls: Vec<&Call> = journal.calls.iter().filter(|call| call.caller == caller).collect();
        assert!(calls.len() > 1);
        assert!(calls.windows(2).all(|two| two[1].intended_us >= two[0].ended_us + 20_000), "caller {caller}");
    }
}

#[tokio::test]
async fn credentials_and_idempotency_keys_go_along() {
    let stub = Stub::start(|_| Reply::Refuse(429, 0));
    let retry = json!({ "retry_after": "obey", "max_tries": 2 });
    let kinds = json!([{ "kind": "chat", "idempotent": true }]);
    let plan = plan(&json!({ "arrivals": burst(40), "retry": retry, "kinds": kinds }));
    let journal = run(plan, &Targets::new([stub.url()])).await;
    let seen: BTreeMap<String, Seen> = stub.seen().into_iter().map(|seen| (seen.request_id.clone(), seen)).collect();
    let run = seen.keys().next().and_then(|id| id.split('-').next()).expect("a call").to_owned();
    assert_eq!((journal.calls.len(), seen.len()), (80, 80));
    for call in &journal.calls {
        let seen = &seen[&format!("{run}-{}-{}", call.request, call.repetition)];
        assert_eq!(seen.idempotency_key.as_deref(), Some(format!("{run}-{}", call.request).as_str()));
        let principal = journal.callers[call.caller as usize].principal.as_deref();
        let expected = principal.map(|name| name.replacen("dev:", "Bearer dev:paid:", 1));
        assert_eq!(seen.authorization, expected);
    }
    assert!(seen.values().any(|seen| seen.authorization.is_none()), "the anonymous one calls too");
}

#[tokio::test]
async fn the_same_seed_asks_for_the_same_again() {
    let stub = Stub::start(|_| Reply::Admit);
    let plan = plan(&json!({ "arrivals": { "pattern": "poisson", "per_second": 200 } }));
    let mut asked = Vec::new();
    for _ in 0..2 {
        let mut calls = run(plan.clone(), &Targets::new([stub.url()])).await.calls;
        calls.sort_by_key(|call| call.request);
        asked.push(calls.into_iter().map(|call| (call.intended_us, call.caller, call.kind)).collect::<Vec<_>>());
    }
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn a_plan_with_faults_is_not_driven() {
    let nothing = Plan::default();
    let driven = drive(&nothing, Targets::default(), RunClock::start(), 0, Meter::default(), CancellationToken::new());
    assert!(driven.await.is_err());
}
