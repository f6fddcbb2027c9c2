//! Refusals repeated from memory: in which order, under which policy, and when not.

use std::cell::Cell;

use portcullis_config::UserType;
use portcullis_lua::{PolicyStamp, Reason};
use serde_json::json;

use super::*;
use crate::admission::session::identity_for_tests;
use crate::policy_in_force::tests::policy_for_tests;
use crate::state::tests::options_without_redis;

/// What a call sent now has come to.
fn decided(verdict: Verdict) -> Decided {
    let (limits, budgets) = (Vec::new(), Vec::new());
    let decision = Decision { verdict, depth: 1, capacity: 1, limits, budgets };
    let policy = policy_for_tests(&json!({}), 7);
    Decided { policy, cost: 1, asked_at: tokio::time::Instant::now(), place: None, outcome: Ok(decision) }
}

fn remember(memory: &RefusalMemory, identity: &Identity, reason: Reason, stamp: PolicyStamp) {
    let pressure_ms = if reason.is_shared_pressure() { 30_000 } else { 0 };
    let refusal = Refusal { reason, name: None, retry_after_ms: 30_000, pressure_ms, backlog_ms: 0, assumed: false };
    memory.remember(subject(identity, ""), 1, &refusal, &Arc::default(), stamp, tokio::time::Instant::now());
}

#[tokio::test]
async fn the_first_step_that_refuses_names_the_refusal() {
    let gateway = Gateway::new(options_without_redis());
    let (identity, memory) = (identity_for_tests(&gateway, "paid", "s"), gateway.refusal_memory());
    let policy = policy_for_tests(&json!({}), 7);
    let recalled = || recall(memory, &identity, &policy, || true).map_err(|refused| refused.cause);
    assert_eq!(recalled(), Ok(()));
    remember(memory, &identity, Reason::PressureThreshold, policy.stamp());
    assert_eq!(recalled(), Err(Cause::Decided(Reason::PressureThreshold)));
    remember(memory, &identity, Reason::HourlyLimit, policy.stamp());
    assert_eq!(recalled(), Err(Cause::Decided(Reason::HourlyLimit)));
}

#[tokio::test]
async fn a_refusal_is_repeated_only_under_its_policy_and_only_by_who_cannot_have_missed_another() {
    let gateway = Gateway::new(options_without_redis());
    let (identity, memory) = (identity_for_tests(&gateway, "paid", "s"), gateway.refusal_memory());
    let (policy, next) = (policy_for_tests(&json!({}), 7), policy_for_tests(&json!({}), 8));
    let asked = Cell::new(0);
    let abreast = |answer: bool| {
        let asked = &asked;
        move || {
            asked.set(asked.get() + 1);
            answer
        }
    };
    assert!(recall(memory, &identity, &policy, abreast(true)).is_ok());
    assert_eq!(asked.get(), 0, "who is not remembered costs no look at the subscription");
    remember(memory, &identity, Reason::BurstLimit, policy.stamp());
    let refused = recall(memory, &identity, &policy, abreast(true)).unwrap_err();
    assert_eq!(refused.policy.map(|policy| policy.revision()), Some(7));
    assert!(recall(memory, &identity, &policy, abreast(false)).is_ok());
    assert!(recall(memory, &identity, &next, abreast(true)).is_ok());
    let other_type = identity_for_tests(&gateway, UserType::ANONYMOUS, "t");
    assert!(recall(memory, &other_type, &policy, abreast(true)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_under_pressure_is_told_as_it_is_remembered_until_somebody_is_admitted() {
    let gateway = Gateway::new(options_without_redis());
    let identity = identity_for_tests(&gateway, "paid", "s");
    let policy = policy_for_tests(&json!({}), 7);
    let recalled = || recall(gateway.refusal_memory(), &identity, &policy, || true);
    let reason = Reason::HardLimit;
    let refusal = Refusal { reason, name: None, retry_after_ms: 5, pressure_ms: 5, backlog_ms: 150, assumed: false };
    let refused = conclude(&gateway, &identity, decided(Verdict::Refused(refusal))).unwrap_err();
    assert_eq!(refused.retry_after_ms, 50, "a third of the backlog");
    assert_eq!(recalled().unwrap_err().retry_after_ms, 50);
    tokio::time::advance(std::time::Duration::from_millis(1)).await;
    let replayed = Verdict::Replayed { task_id: TaskId::generate() };
    conclude(&gateway, &identity, decided(replayed)).unwrap();
    assert_eq!(recalled().unwrap_err().retry_after_ms, 49, "a repetition passes no gate");
    let admitted = Verdict::Admitted { task_id: TaskId::generate(), estimated_wait_ms: 0, assumed: false };
    conclude(&gateway, &identity, decided(admitted)).unwrap();
    assert!(recalled().is_ok());
}
