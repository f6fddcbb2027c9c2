//! Tasks whose caller's credential is revoked while they wait.
//!
//! Responsible for a whole processor on a real Redis: none of them runs, all of them end, and what they held is free.
//! Must never wait for time to pass.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portcullis_config::{Component, Policy};
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_lua::{AdmitRequest, CompiledPolicy, Grounds, Member, PolicyStamp, Revocation, TaskStatus, Verdict};
use portcullis_processor::{AttemptContext, HandlerOutcome, Handlers, Processor, ProcessorOptions, Shutdown};
use serde_json::{Value, json};

use super::stage::{Act, Stage, request};
use crate::fixture::until;

const TASKS: usize = 60;

/// The policy of the act's scope: room for everybody, and a budget of tokens for all of them together.
fn policy(act: &Act) -> (portcullis_config::Loaded, Policy) {
    let scope = act.store.scope();
    let roles = ["anonymous", "registered", "paid", "privileged"];
    let roles: serde_json::Map<String, Value> =
        roles.iter().map(|role| ((*role).to_owned(), json!({"burst": 100_000, "hourly": -1}))).collect();
    let budget = json!({
        "unit": "tokens", "amount": 1_000_000, "period": "month", "per": "tenant", "default_estimate": 10,
    });
    let document = json!({
        "tenant": scope.tenant(), "project": scope.project(),
        "rate_limits": { "roles": roles }, "budgets": { "tokens": budget },
    });
    let loaded = portcullis_config::parse_value(document, Component::Proc, &|_| None).expect("a policy");
    let policy = loaded.policy.clone();
    (loaded, policy)
}

#[tokio::test]
async fn revoked_tasks_of_a_queue_end_cancelled_and_release_their_budgets() {
    let stage = Stage::set().await;
    let act = stage.act();
    let (boot, policy) = policy(&act);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.store.heartbeat(&policy, &stand_in_beat("stand-in".to_owned(), 1_000)).await.expect("a heartbeat");
    // A third of them through an agent; of another third half was issued before and half after the revocation.
    let revoked_at_ms = act.probe.time_ms().await.expect("the time");
    let mut dead = BTreeSet::new();
    let mut all = Vec::new();
    for number in 0..TASKS {
        let mut asked = AdmitRequest { ..request("paid", &format!("s{number}")) };
        let (members, issued_at_ms) = match number % 3 {
            0 => (vec![Member::Principal("bob")], 0),
            1 => (vec![Member::Principal("eve"), Member::Agent("crawler")], revoked_at_ms + 60_000),
            _ => (vec![Member::Principal("ada")], if number % 2 == 0 { revoked_at_ms - 1 } else { u64::MAX >> 12 }),
        };
        asked.provenance.members = members.iter().map(ToString::to_string).collect();
        asked.provenance.issued_at_ms = Some(issued_at_ms);
        if number % 3 == 1 || (number % 3 == 2 && number % 2 == 0) {
            dead.insert(asked.task_id.to_string());
        }
        all.push(asked.task_id.clone());
        let decisions = act.store.admit(&policy, &[asked]).await.expect("a decision");
        assert!(matches!(decisions[0].verdict, Verdict::Admitted { .. }), "{decisions:?}");
    }
    assert_eq!(held(&act, &policy).await, (0, 10 * TASKS as u64));
    let grounds = Grounds { by: "operator", reason: "stolen", max_audit_events: 100 };
    let revocations = [(Member::Agent("crawler"), false), (Member::Principal("ada"), true)]
        .map(|(member, later)| Revocation { member: member.to_string(), lasts_ms: 3_600_000, spares_later: later });
    act.store.revoke(&revocations, grounds).await.expect("an answer");

    let ran = run(&stage, &act, boot, &policy).await;
    let mut ended = BTreeSet::new();
    for id in &all {
        let record = act.store.task(id).await.expect("an answer").expect("it is known");
        if dead.contains(id.as_str()) {
            assert_eq!((record.status, record.attempts.len()), (TaskStatus::Cancelled, 0));
            assert_eq!(record.error.expect("a reason").code, "revoked");
            ended.insert(id.to_string());
        } else {
            assert_eq!(record.status, TaskStatus::Succeeded);
            assert!(ran.contains(id.as_str()), "{id} succeeded unrun");
        }
    }
    assert_eq!((ended.len(), ended.intersection(&ran).count()), (30, 0), "of those that are dead none has run");
    assert_eq!(held(&act, &policy).await, (10 * 30, 0), "only what ran has spent");
    let events = act.store.audit(100).await.expect("events").into_iter().filter(|event| event.event == "tasks.revoked");
    let told: Vec<Value> = events.flat_map(|event| event.about["tasks"].as_array().expect("tasks").clone()).collect();
    let told_once: BTreeSet<String> = told.iter().map(|id| id.as_str().expect("an id").to_owned()).collect();
    assert_eq!((told.len(), told_once), (dead.len(), dead), "each once in the audit stream");
}

/// Spent and held of the budget.
async fn held(act: &Act, policy: &CompiledPolicy) -> (u64, u64) {
    let number = act.store.revocations().await.expect("an answer").number;
    let left = act.store.knowing(number).peek(policy, &[request("paid", "nobody")]).await.expect("a decision");
    (left[0].budgets[0].spent, left[0].budgets[0].held)
}

/// Runs a processor until nothing is left; the tasks that its handler was given.
async fn run(stage: &Stage, act: &Act, boot: portcullis_config::Loaded, policy: &CompiledPolicy) -> BTreeSet<String> {
    let ran = Arc::new(Mutex::new(BTreeSet::new()));
    let noting = Arc::clone(&ran);
    let handlers = Handlers::new().with("*", move |attempt: AttemptContext| {
        noting.lock().expect("no panic").insert(attempt.task_id.to_string());
        async { HandlerOutcome::json(&Value::Null) }
    });
    let (instance, drain_limit) = ("test".to_owned(), Duration::from_secs(60));
    let options = ProcessorOptions { instance, slots: Some(8), drain_limit, force_boot: false };
    let shutdown = Shutdown::new();
    let processor = Processor::new(&stage.store, act.store.scope().clone(), boot, handlers, options);
    let running = tokio::spawn(processor.run(shutdown.clone()));
    until("the queue is empty", || async {
        let queues = act.store.queues(policy).await.ok()?;
        (queues.queued + queues.running == 0).then_some(())
    })
    .await;
    shutdown.drain.cancel();
    running.await.expect("it ends");
    ran.lock().expect("no panic").clone()
}
