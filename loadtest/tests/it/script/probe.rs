//! A half-open breaker: exactly so many probes, and only its own decide.
//!
//! Responsible for what random histories meet too rarely. Must never be satisfied with "at most".

use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Lease, Outcome, PolicyStamp, Reason, Settlement, TaskError, TaskResult, Verdict,
};

use super::stage::{Act, START_MS, Stage, request, roomy};

const OPEN_MS: u64 = 10_000;

/// Two failures open it, two probes close it.
fn policy() -> CompiledPolicy {
    let mut policy = roomy();
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.open_seconds) = (2, 2, OPEN_MS / 1000);
    CompiledPolicy::new(&policy, PolicyStamp::NONE)
}

/// Sends this many requests at once; leases of those that were let through.
async fn run(act: &Act, policy: &CompiledPolicy, now_ms: u64, number: usize) -> Vec<Lease> {
    let requests: Vec<AdmitRequest> = (0..number).map(|_| request("paid", "s")).collect();
    let decisions = act.store.at(now_ms).admit(policy, &requests).await.expect("decisions");
    let mut admitted = 0;
    for decision in decisions {
        match decision.verdict {
            Verdict::Refused(refusal) => assert_eq!(refusal.reason, Reason::CircuitOpen),
            _ => admitted += 1,
        }
    }
    let leases = act.store.at(now_ms).claim(policy, 64).await.expect("leases").leases;
    assert_eq!(leases.len(), admitted);
    leases
}

async fn end(act: &Act, policy: &CompiledPolicy, now_ms: u64, lease: &Lease, well: bool) {
    let outcome = if well {
        let result = TaskResult { content_type: "text/plain".to_owned(), body: "done".into() };
        Outcome::Succeeded { result, usage: Vec::new() }
    } else {
        Outcome::Dead { error: TaskError { code: "handler_status".to_owned(), detail: String::new() } }
    };
    let settlement = Settlement { lease: lease.clone(), outcome };
    act.store.at(now_ms).settle(policy, &[settlement]).await.expect("an answer");
}

async fn state(act: &Act, policy: &CompiledPolicy, now_ms: u64) -> (String, Option<u64>) {
    let view = act.store.at(now_ms).breakers(policy).await.expect("an answer").remove(0);
    (view.state, view.probes_left)
}

#[tokio::test]
async fn exactly_two_probes_go_through_and_those_of_an_earlier_phase_decide_nothing() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1_000).await;
    for lease in run(&act, &policy, START_MS, 2).await {
        end(&act, &policy, START_MS, &lease, false).await;
    }
    assert_eq!(run(&act, &policy, START_MS + OPEN_MS - 1, 3).await.len(), 0, "open to the last millisecond");

    let first = START_MS + OPEN_MS;
    let probes = run(&act, &policy, first, 5).await;
    assert_eq!(probes.len(), 2);
    end(&act, &policy, first, &probes[0], false).await;
    assert_eq!(state(&act, &policy, first).await, ("open".to_owned(), None));

    let second = first + OPEN_MS;
    let later = run(&act, &policy, second, 5).await;
    assert_eq!(later.len(), 2, "a probe that is still out belongs to the phase before");
    end(&act, &policy, second, &probes[1], true).await;
    end(&act, &policy, second, &later[0], true).await;
    assert_eq!(state(&act, &policy, second).await, ("half_open".to_owned(), Some(0)));
    assert_eq!(run(&act, &policy, second, 3).await.len(), 0);
    end(&act, &policy, second, &later[1], true).await;
    assert_eq!(state(&act, &policy, second).await, ("closed".to_owned(), None));
    assert_eq!(run(&act, &policy, second, 5).await.len(), 5);
}

#[tokio::test]
async fn a_probe_that_is_handed_back_is_still_out() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1_000).await;
    for lease in run(&act, &policy, START_MS, 2).await {
        end(&act, &policy, START_MS, &lease, false).await;
    }
    let now_ms = START_MS + OPEN_MS;
    let probes = run(&act, &policy, now_ms, 5).await;
    let settlement = Settlement { lease: probes[0].clone(), outcome: Outcome::HandedBack };
    act.store.at(now_ms).settle(&policy, &[settlement]).await.expect("an answer");
    let decisions = act.store.at(now_ms).admit(&policy, &[request("paid", "s")]).await.expect("a decision");
    assert!(matches!(decisions[0].verdict, Verdict::Refused(_)), "a third probe: {decisions:?}");
    let again = act.store.at(now_ms).claim(&policy, 64).await.expect("leases").leases.remove(0);
    assert_eq!((&again.task_id, again.probe_epoch), (&probes[0].task_id, probes[0].probe_epoch));
}
