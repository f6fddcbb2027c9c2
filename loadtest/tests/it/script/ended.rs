//! The events of ends on a real Redis: of passes, of records that cannot be read, and how many of them are kept.
//!
//! Responsible for what no task of a whole cluster shows. Must never let a decision without a place end.

use std::sync::Arc;

use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Hop, Outcome, PassEnd, PassEnded, PassLease, PassOutcome, PassTerms, PolicyStamp,
    Provenance, Settlement, TaskError, TaskId, Verdict,
};
use serde_json::{Value, json};

use super::stage::{Act, START_MS, Stage, request, roomy};

const LEASE_MS: u64 = 1_000;

/// The same request, through these agents.
pub(crate) fn through(agents: &[&str], asked: AdmitRequest) -> AdmitRequest {
    let hop = |name: &&str| Hop { client_id: (*name).to_owned(), hash: format!("hash of {name}"), ..Hop::default() };
    let hops: Arc<[Hop]> = agents.iter().map(hop).collect();
    AdmitRequest { provenance: Provenance { hops, ..Provenance::default() }, ..asked }
}

fn pass(lease_ms: u64) -> AdmitRequest {
    let pass = Some(PassTerms { lease_ms, throttled: true, hits: 1 });
    AdmitRequest { kind: "guarded".to_owned(), pass, ..request("paid", "ada") }
}

async fn given(act: &Act, policy: &CompiledPolicy, asked: AdmitRequest) -> Option<PassLease> {
    let mut decisions = act.store.at(START_MS).admit(policy, &[asked]).await.expect("a decision");
    let Some(Verdict::Passed { lease }) = decisions.pop().map(|decision| decision.verdict) else { panic!("no pass") };
    lease
}

/// What the events say, oldest first.
async fn told(act: &Act) -> Vec<Value> {
    let events = act.store.ended(100).await.expect("events");
    events.into_iter().rev().map(|event| json!([event.event, event.about])).collect()
}

#[tokio::test]
async fn each_pass_of_an_agent_ends_in_one_event_and_one_that_lapsed_too() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100).await;
    let agents = ["planner", "searcher"];
    let mut expected = Vec::new();
    let event = |status: &str, pass_id: &TaskId| {
        json!(["pass.ended", {
            "status": status, "pass": pass_id.as_str(), "kind": "guarded", "principal": "ada", "agents": agents,
        }])
    };
    for (outcome, status) in
        [(PassOutcome::Succeeded, "succeeded"), (PassOutcome::Failed, "failed"), (PassOutcome::Abandoned, "abandoned")]
    {
        let lease = given(&act, &policy, through(&agents, pass(LEASE_MS))).await.expect("a place");
        let own = given(&act, &policy, pass(LEASE_MS)).await.expect("a place");
        expected.push(event(status, &lease.pass_id));
        let ends = [lease, own].map(|lease| PassEnd { lease, outcome, usage: Vec::new(), answered_ms: None });
        for first in [PassEnded::Now, PassEnded::Before] {
            assert_eq!(act.store.at(START_MS).finish(&policy, &ends).await.expect("an answer"), [first; 2]);
        }
    }
    assert_eq!(given(&act, &policy, through(&agents, pass(0))).await, None, "a decision, which has no end");
    let lost = given(&act, &policy, through(&agents, pass(LEASE_MS))).await.expect("a place");
    let damaged = given(&act, &policy, pass(LEASE_MS)).await.expect("a place");
    act.probe.command("HSET", [&act.key("pass-record"), damaged.pass_id.as_str(), "?"]).await.expect("damaged");
    for taken_back in [2, 0] {
        let lapsed = act.store.at(START_MS + LEASE_MS).lapse(&policy, 0).await.expect("an answer");
        assert_eq!(lapsed.taken_back, taken_back);
    }
    let unknown = json!(["pass.ended", {
        "status": "lapsed", "pass": damaged.pass_id.as_str(), "kind": "", "principal": "", "agents": [],
    }]);
    let mut told = told(&act).await;
    let mut lapsed = told.split_off(3);
    lapsed.sort_by_key(|event| event[1]["kind"] == "");
    assert_eq!(lapsed, [event("lapsed", &lost.pass_id), unknown]);
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_task_whose_record_cannot_be_read_is_told_of_because_it_may_be_an_agents() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100).await;
    let asked = through(&["planner"], request("paid", "ada"));
    let id = asked.task_id.clone();
    act.store.at(START_MS).admit(&policy, &[asked]).await.expect("a decision");
    act.probe.command("HSET", [&act.key("task"), id.as_str(), "?"]).await.expect("damaged");
    let lease = act.store.at(START_MS).claim(&policy, 1).await.expect("leases").leases.remove(0);
    let error = TaskError { code: "record_unreadable".to_owned(), detail: String::new() };
    let settlement = Settlement { lease, outcome: Outcome::Dead { error } };
    for _ in 0..2 {
        act.store.at(START_MS).settle(&policy, std::slice::from_ref(&settlement)).await.expect("an answer");
    }
    let expected = json!(["task.ended", {
        "status": "dead", "task": id.as_str(), "kind": "", "code": "record_unreadable", "principal": "", "agents": [],
    }]);
    assert_eq!(told(&act).await, [expected]);
}

#[tokio::test]
async fn only_so_many_ends_are_kept_and_none_of_them_among_the_audit_events() {
    const KEPT: usize = 100;
    let stage = Stage::set().await;
    let mut policy = roomy();
    policy.queue.max_decision_events = KEPT as u64;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&policy, PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100_000).await;
    let store = act.store.at(START_MS);
    for _ in 0..20 {
        let batch: Vec<AdmitRequest> = (0..32).map(|_| through(&["planner"], request("paid", "ada"))).collect();
        store.admit(&policy, &batch).await.expect("decisions");
        let leases = store.claim(&policy, 32).await.expect("leases").leases;
        let settle = |lease| Settlement { lease, outcome: Outcome::Cancelled };
        let settlements: Vec<Settlement> = leases.into_iter().map(settle).collect();
        store.settle(&policy, &settlements).await.expect("an answer");
    }
    let length = async |name: &str| {
        let length = act.probe.command("XLEN", [&act.key(name)]).await.expect("a length");
        length.convert::<usize>().expect("a number")
    };
    // Redis cuts whole nodes of a hundred entries.
    assert!((KEPT..KEPT + 101).contains(&length("ended").await), "{}", length("ended").await);
    assert_eq!(length("audit").await, 0);
}
