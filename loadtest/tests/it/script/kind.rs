//! A breaker per task kind, and breakers and budgets that change while they are in use.
//!
//! Responsible for each kind going by its own rules, in one batch with others. Must never need a second kind to show
//! what a single one does: that is in `probe.rs`.

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, KindBreaker, KindSettings, Period, Subject};
use portcullis_lua::{
    AdmitRequest, BreakerView, CompiledPolicy, Lease, Outcome, PolicyStamp, Settlement, TaskError, TaskResult, Verdict,
};

use super::stage::{Act, START_MS, Stage, request, roomy};

/// Opens for two seconds after two failures of two; one probe closes it.
const HASTY: KindBreaker = KindBreaker {
    minimum_calls: Some(2),
    failure_rate: Some(1.0),
    open_seconds: Some(2),
    half_open_probes: Some(1),
    window_seconds: Some(10),
    slow_call_ms: Some(1_000),
    slow_call_rate: Some(1.0),
};

/// Every kind opens for thirty seconds after four failures, but for `hasty`.
fn policy() -> Policy {
    let mut policy = roomy();
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.failure_rate, breaker.open_seconds) = (4, 1.0, 30);
    (breaker.half_open_probes, breaker.window_seconds) = (3, 60);
    (breaker.slow_call_ms, breaker.slow_call_rate) = (60_000, 1.0);
    own_breaker(&mut policy, HASTY);
    policy
}

fn own_breaker(policy: &mut Policy, breaker: KindBreaker) {
    let settings = KindSettings { circuit_breaker: Some(breaker), ..KindSettings::default() };
    policy.kinds.insert("hasty".to_owned(), settings);
}

fn of_kind(kind: &str) -> AdmitRequest {
    AdmitRequest { kind: kind.to_owned(), ..request("paid", "s") }
}

/// A scope in which processors are alive, under the policy.
async fn open(stage: &Stage, policy: &Policy) -> Act {
    let act = stage.act();
    act.beat(&CompiledPolicy::new(policy, PolicyStamp::NONE), START_MS, 1_000).await;
    act
}

/// Sends a batch of these kinds; leases of those that were let through.
async fn run(act: &Act, policy: &Policy, now_ms: u64, kinds: &[&str]) -> Vec<Lease> {
    let (store, policy) = (act.store.at(now_ms), CompiledPolicy::new(policy, PolicyStamp::NONE));
    let requests: Vec<AdmitRequest> = kinds.iter().map(|kind| of_kind(kind)).collect();
    let decisions = store.admit(&policy, &requests).await.expect("decisions");
    let admitted = decisions.iter().filter(|decision| matches!(decision.verdict, Verdict::Admitted { .. })).count();
    let leases = store.claim(&policy, 64).await.expect("leases").leases;
    assert_eq!(leases.len(), admitted);
    leases
}

/// Ends all of them in one batch.
async fn end(act: &Act, policy: &Policy, now_ms: u64, leases: &[Lease], well: bool) {
    let settlements: Vec<Settlement> = leases
        .iter()
        .map(|lease| {
            let error = TaskError { code: "handler_status".to_owned(), detail: String::new() };
            let result = TaskResult { content_type: "text/plain".to_owned(), body: "done".into() };
            let well = well.then_some(Outcome::Succeeded { result, usage: Vec::new() });
            Settlement { lease: lease.clone(), outcome: well.unwrap_or(Outcome::Dead { error }) }
        })
        .collect();
    let policy = CompiledPolicy::new(policy, PolicyStamp::NONE);
    act.store.at(now_ms).settle(&policy, &settlements).await.expect("answers");
}

async fn views(act: &Act, policy: &Policy, now_ms: u64) -> Vec<BreakerView> {
    let policy = CompiledPolicy::new(policy, PolicyStamp::NONE);
    act.store.at(now_ms).breakers(&policy).await.expect("an answer")
}

async fn states(act: &Act, policy: &Policy, now_ms: u64) -> Vec<(String, String)> {
    views(act, policy, now_ms).await.into_iter().map(|view| (view.name, view.state)).collect()
}

fn pairs(states: &[(&str, &str)]) -> Vec<(String, String)> {
    states.iter().map(|(name, state)| ((*name).to_owned(), (*state).to_owned())).collect()
}

#[tokio::test]
async fn kinds_of_one_batch_open_and_close_by_their_own_rules() {
    let (stage, policy) = (Stage::set().await, policy());
    let act = open(&stage, &policy).await;
    let leases = run(&act, &policy, START_MS, &["hasty", "other", "hasty", "other", "other"]).await;
    end(&act, &policy, START_MS, &leases, false).await;
    assert_eq!(states(&act, &policy, START_MS).await, pairs(&[("hasty", "open"), ("other", "closed")]));
    assert_eq!(views(&act, &policy, START_MS).await[0].retry_after_ms, 2_000);

    let leases = run(&act, &policy, START_MS, &["hasty", "other", "other"]).await;
    assert_eq!(leases.len(), 2, "the open one lets nobody through");
    end(&act, &policy, START_MS, &leases[..1], false).await;
    assert_eq!(states(&act, &policy, START_MS).await, pairs(&[("hasty", "open"), ("other", "open")]));
    assert_eq!(views(&act, &policy, START_MS).await[1].retry_after_ms, 30_000);

    let later = START_MS + 30_000;
    let left = |views: Vec<BreakerView>| views.iter().map(|view| view.probes_left).collect::<Vec<_>>();
    assert_eq!(left(views(&act, &policy, later).await), [Some(1), Some(3)]);
    let probes = run(&act, &policy, later, &["hasty", "other", "hasty", "other", "other", "other"]).await;
    assert_eq!(probes.iter().filter(|lease| lease.envelope.kind == "hasty").count(), 1);
    assert_eq!(probes.iter().filter(|lease| lease.envelope.kind == "other").count(), 3);
    assert_eq!(left(views(&act, &policy, later).await), [Some(0), Some(0)]);
    let (hasty, other): (Vec<Lease>, Vec<Lease>) = probes.into_iter().partition(|lease| lease.envelope.kind == "hasty");
    end(&act, &policy, later, &[&hasty[..], &other[..2]].concat(), true).await;
    assert_eq!(states(&act, &policy, later).await, pairs(&[("hasty", "closed"), ("other", "half_open")]));
    end(&act, &policy, later, &other[2..], true).await;
    assert_eq!(states(&act, &policy, later).await, pairs(&[("hasty", "closed"), ("other", "closed")]));
}

#[tokio::test]
async fn what_is_slow_and_for_how_long_it_counts_is_a_kinds_own() {
    let (stage, policy) = (Stage::set().await, policy());
    let act = open(&stage, &policy).await;
    let leases = run(&act, &policy, START_MS, &["hasty", "other"]).await;
    end(&act, &policy, START_MS + 1_001, &leases, true).await;
    let slow = |views: Vec<BreakerView>| views.iter().map(|view| (view.calls, view.slow)).collect::<Vec<_>>();
    assert_eq!(slow(views(&act, &policy, START_MS + 10_999).await), [(1, 1), (1, 0)]);
    assert_eq!(slow(views(&act, &policy, START_MS + 11_000).await), [(0, 0), (1, 0)], "ten seconds are over");
}

#[tokio::test]
async fn an_attempt_counts_for_ten_tenths_of_the_window_and_no_longer() {
    let (stage, policy) = (Stage::set().await, policy());
    for (after_ms, state) in [(9_999, "open"), (10_000, "closed")] {
        let act = open(&stage, &policy).await;
        for now_ms in [START_MS, START_MS + after_ms] {
            let leases = run(&act, &policy, now_ms, &["hasty"]).await;
            end(&act, &policy, now_ms, &leases, false).await;
        }
        assert_eq!(states(&act, &policy, START_MS + after_ms).await, pairs(&[("hasty", state)]), "{after_ms} ms");
    }
}

#[tokio::test]
async fn a_window_stays_small_however_often_its_length_changes() {
    let (stage, mut policy) = (Stage::set().await, policy());
    let act = open(&stage, &policy).await;
    let mut now_ms = START_MS;
    for window_seconds in [1, 4, 16, 64] {
        let window_seconds = Some(window_seconds);
        own_breaker(&mut policy, KindBreaker { window_seconds, minimum_calls: Some(1_000), ..HASTY });
        for _ in 0..12 {
            let leases = run(&act, &policy, now_ms, &["hasty"]).await;
            end(&act, &policy, now_ms, &leases, false).await;
            now_ms += 100;
        }
        let bytes = act.probe.command("STRLEN", [act.key("breaker:hasty").as_str()]).await.expect("an answer");
        // A head of 21 bytes and ten tenths of 20.
        assert!(bytes.as_u64().expect("a number") <= 221, "{window_seconds:?} s: {bytes:?}");
    }
    assert_eq!(views(&act, &policy, now_ms).await[0].calls, 46, "all but the first two hundred milliseconds");
}

#[tokio::test]
async fn a_window_that_changes_its_length_keeps_what_is_inside_and_drops_the_rest() {
    let (stage, mut policy) = (Stage::set().await, policy());
    own_breaker(&mut policy, KindBreaker { minimum_calls: Some(100), ..HASTY });
    let act = open(&stage, &policy).await;
    for now_ms in [START_MS, START_MS + 8_000, START_MS + 9_000] {
        let leases = run(&act, &policy, now_ms, &["hasty"]).await;
        end(&act, &policy, now_ms, &leases, false).await;
    }
    let now_ms = START_MS + 9_900;
    for (window_seconds, calls) in [(10, 3), (5, 2), (2, 2), (1, 1), (3_600, 3), (86_400, 3)] {
        own_breaker(
            &mut policy,
            KindBreaker { window_seconds: Some(window_seconds), minimum_calls: Some(100), ..HASTY },
        );
        assert_eq!(views(&act, &policy, now_ms).await[0].calls, calls, "{window_seconds} s");
    }
    // What a longer window has counted, a shorter one forgets when its time has come.
    let leases = run(&act, &policy, now_ms, &["hasty"]).await;
    end(&act, &policy, now_ms, &leases, false).await;
    own_breaker(&mut policy, KindBreaker { window_seconds: Some(1), ..HASTY });
    for later_ms in [2_000, 5_000] {
        let leases = run(&act, &policy, now_ms + later_ms, &["hasty"]).await;
        end(&act, &policy, now_ms + later_ms, &leases, false).await;
        let view = views(&act, &policy, now_ms + later_ms).await.remove(0);
        assert_eq!((view.calls, view.state.as_str()), (1, "closed"), "after {later_ms} ms");
    }
}

#[tokio::test]
async fn a_breaker_that_waits_for_fewer_probes_than_have_passed_is_closed() {
    let (stage, mut policy) = (Stage::set().await, policy());
    own_breaker(&mut policy, KindBreaker { half_open_probes: Some(3), ..HASTY });
    let act = open(&stage, &policy).await;
    let leases = run(&act, &policy, START_MS, &["hasty", "hasty"]).await;
    end(&act, &policy, START_MS, &leases, false).await;
    let later = START_MS + 2_000;
    let probes = run(&act, &policy, later, &["hasty", "hasty"]).await;
    end(&act, &policy, later, &probes, true).await;
    assert_eq!(states(&act, &policy, later).await, pairs(&[("hasty", "half_open")]));
    own_breaker(&mut policy, KindBreaker { half_open_probes: Some(2), ..HASTY });
    assert_eq!(states(&act, &policy, later).await, pairs(&[("hasty", "closed")]));
    let leases = run(&act, &policy, later, &["hasty"; 5]).await;
    assert_eq!(leases.len(), 5);
    end(&act, &policy, later, &leases[..2], false).await;
    assert_eq!(states(&act, &policy, later).await, pairs(&[("hasty", "open")]), "it counts again");
}

#[tokio::test]
async fn a_budget_that_was_away_while_its_tasks_ended_holds_nothing_of_them() {
    let (stage, bare) = (Stage::set().await, policy());
    let mut policy = bare.clone();
    let (unit, per, period) = ("requests".to_owned(), Subject::Tenant, Period::Day);
    let budget = Budget { unit, amount: 100, period, per, default_estimate: 1, user_types: None };
    policy.budgets.insert("daily".to_owned(), budget);
    let act = open(&stage, &policy).await;
    let leases = run(&act, &policy, START_MS, &["other"; 4]).await;
    let waiting = of_kind("other");
    let compiled = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.store.at(START_MS).admit(&compiled, std::slice::from_ref(&waiting)).await.expect("a decision");

    end(&act, &bare, START_MS, &leases[..3], true).await;
    let without = CompiledPolicy::new(&bare, PolicyStamp::NONE);
    act.store.at(START_MS).cancel(&without, &waiting.task_id, "s").await.expect("an answer");

    let peeked = act.store.at(START_MS).peek(&compiled, &[of_kind("other")]).await.expect("a decision").remove(0);
    assert_eq!((peeked.budgets[0].spent, peeked.budgets[0].held), (3, 1), "one is still out");
}
