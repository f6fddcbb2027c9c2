//! How what agents were let do ended: one event for each task, whatever ended it, and none for anybody else's.
//!
//! Responsible for the whole cluster, a processor that is killed included, and for an export that shows what was done
//! to it. Must never take the word of one that ended a task: what its record says is what the event has to say.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_delegation::Chain;
use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::credentials::{Credentials, Granted, handed_on, principal_of, secret_key};
use portcullis_lua::{AuditEvent, Grounds, Member, Revocation, ScopeStore, TaskStatus};
use serde_json::{Value, json};

use super::export::{export, verdict};
use crate::fixture::{Fixture, accepted, cluster, ended, record, start, until, until_running};

/// Long enough for a processor on a stalled machine to renew: a task with one attempt is lost with its lease.
const LEASE_MS: u64 = 4000;
const EACH: usize = 4;
/// Of each of two processors.
const SLOTS: u32 = 2 * EACH as u32;
/// No task of this test waits so long.
const FAR_MS: u64 = 600_000;

/// Ada lets a planner act for her, and the planner a searcher.
const AGENTS: [&str; 2] = ["planner", "searcher"];

struct Crowd {
    /// Who publishes the keys that she is believed by.
    _credentials: Credentials,
    cluster: Fixture,
    searcher: Chain,
    /// Whose credential is going to be revoked.
    indexer: Chain,
    /// Herself.
    ada: String,
}

async fn crowd() -> Crowd {
    let credentials = Credentials::new(&json!({})).await.expect("credentials");
    let roles = ["paid", "registered"].map(|role| (role.to_owned(), json!({ "burst": 100_000, "hourly": -1 })));
    let policy = json!({
        "queue": { "lease_ms": LEASE_MS, "retry": { "initial_ms": 10, "max_ms": 50 } },
        "circuit_breakers": { "tasks": { "minimum_calls": 10_000 } },
        "rate_limits": { "roles": serde_json::Map::from_iter(roles) },
    });
    let builder = cluster().gateways(2).processors(2).slots(SLOTS).policy(policy);
    let cluster = start(credentials.believed_by(builder)).await;
    let (planner, principal) = (secret_key().expect("a key"), principal_of("ada"));
    let granted = |agent, holder, reason| {
        let granted = Granted { scope: cluster.scope(), principal: &principal, agent, holder, reason };
        credentials.mint(&granted).expect("a root")
    };
    let root = granted(AGENTS[0], Some(&planner), "plan the week");
    let searcher = handed_on(&root, &planner, AGENTS[1], None, "find a venue").expect("a chain");
    let indexer = granted("indexer", None, "keeps the index");
    let ada = credentials.jwt("ada", &["paid"]).expect("a token");
    Crowd { _credentials: credentials, cluster, searcher, indexer, ada }
}

impl Crowd {
    fn client(&self, number: usize, token: &str) -> Client {
        self.cluster.gateway(number).bearer(token)
    }

    /// So many tasks through either gateway.
    async fn submit(&self, token: &str, submission: &Submission) -> Vec<String> {
        let mut tasks = Vec::new();
        for number in 0..EACH {
            tasks.push(accepted(&self.client(number, token), submission).await);
        }
        tasks
    }
}

fn slow(order: Value) -> Submission {
    Submission::new("slow", order)
}

/// The events of all that has ended, by task.
async fn told(store: &ScopeStore) -> BTreeMap<String, Vec<AuditEvent>> {
    let mut told = BTreeMap::<String, Vec<AuditEvent>>::new();
    for event in store.ended(10_000).await.expect("events") {
        told.entry(event.about["task"].as_str().expect("a task").to_owned()).or_default().push(event);
    }
    told
}

/// Tasks that wait when they end: cancelled, twice, and those of their principal with them; and revoked, the second.
async fn end_waiting(crowd: &Crowd, store: &ScopeStore) -> (Vec<String>, Vec<String>) {
    let agent = crowd.searcher.presented();
    let later = slow(json!({})).field("delay_ms", FAR_MS);
    let cancelled = crowd.submit(agent, &later).await;
    let own = crowd.submit(&crowd.ada, &later).await;
    for (token, tasks) in [(agent, &cancelled), (&crowd.ada, &own)] {
        for task_id in tasks {
            for number in 0..2 {
                let answer = crowd.client(number, token).cancel(task_id).await.expect("an answer");
                assert_eq!(answer.task_status(), "cancelled", "{}", answer.text);
            }
        }
    }
    let revoked = crowd.submit(crowd.indexer.presented(), &slow(json!({})).field("delay_ms", 5000)).await;
    let revocation = Revocation { member: Member::Agent("indexer").to_string(), lasts_ms: FAR_MS, spares_later: false };
    let grounds = Grounds { by: "operator", reason: "stolen", max_audit_events: 1000 };
    store.revoke(&[revocation], grounds).await.expect("revoked");
    (cancelled, revoked)
}

/// Tasks that run until they have ended, or that the policy, their handler or their deadline ends.
async fn end_running(crowd: &Crowd) -> Vec<String> {
    let (agent, mut tasks) = (crowd.searcher.presented(), Vec::new());
    for order in [json!({}), json!({ "status": 404 }), json!({ "status": 503 }), json!({ "fail_times": 1 })] {
        let order = slow(order).field("max_attempts", 2);
        tasks.extend(crowd.submit(agent, &order).await);
        crowd.submit(&crowd.ada, &order).await;
    }
    tasks.extend(crowd.submit(agent, &slow(json!({ "ms": FAR_MS })).field("deadline_ms", 400)).await);
    let reader = crowd.client(0, agent);
    for task_id in &tasks {
        ended(&reader, task_id).await;
    }
    for task_id in crowd.submit(agent, &slow(json!({ "ms": FAR_MS }))).await {
        until_running(&reader, &task_id).await;
        reader.cancel(&task_id).await.expect("an answer");
        assert_eq!(ended(&reader, &task_id).await.task_status(), "cancelled");
        tasks.push(task_id);
    }
    tasks
}

/// Tasks that run when a processor is killed: dead, or taken over and cancelled. All slots are taken, so that among
/// those of either processor some have no other attempt.
async fn end_with_a_processor(crowd: &mut Crowd, store: &ScopeStore) -> Vec<String> {
    let (agent, mut tasks) = (crowd.searcher.presented(), Vec::new());
    for attempts in [1, 1, 2, 1] {
        let stuck = slow(json!({ "ms": FAR_MS })).field("max_attempts", attempts);
        tasks.extend(crowd.submit(agent, &stuck).await);
    }
    let reader = crowd.client(0, agent);
    for task_id in &tasks {
        until_running(&reader, task_id).await;
    }
    crowd.cluster.processors()[0].kill().await.expect("killed");
    until("some are dead", || async {
        let mut dead = 0;
        for task_id in &tasks {
            dead += usize::from(record(store, task_id).await.status == TaskStatus::Dead);
        }
        (dead >= EACH).then_some(())
    })
    .await;
    for task_id in &tasks {
        reader.cancel(task_id).await.expect("an answer");
    }
    for task_id in &tasks {
        ended(&reader, task_id).await;
    }
    tasks
}

/// Of the event of a task what its record says as well; and how the task ended.
async fn is_told_of(store: &ScopeStore, task_id: &str, agents: &[&str], events: &[AuditEvent]) -> (String, String) {
    let record = record(store, task_id).await;
    let [event] = events else { panic!("{task_id}: {events:?}") };
    let (status, code) = (record.status.as_str(), record.error.map(|error| error.code));
    let mut expected = json!({
        "status": status, "task": task_id, "kind": "slow", "principal": principal_of("ada"), "agents": agents,
    });
    if let Some(code) = &code {
        expected["code"] = json!(code);
    }
    assert_eq!((event.event.as_str(), &event.about), ("task.ended", &expected));
    assert_eq!(Some(event.at_ms), record.finished_ms, "{task_id}");
    (status.to_owned(), code.unwrap_or_default())
}

#[tokio::test]
async fn each_task_of_an_agent_ends_in_one_event_whatever_ends_it() {
    let mut crowd = crowd().await;
    let store = crowd.cluster.store().await.expect("a store");
    let (mut tasks, revoked) = end_waiting(&crowd, &store).await;
    tasks.extend(end_running(&crowd).await);
    tasks.extend(end_with_a_processor(&mut crowd, &store).await);
    for task_id in &revoked {
        let has_ended = || async { record(&store, task_id).await.status.is_terminal().then_some(()) };
        until("the revoked ones have ended", has_ended).await;
    }

    let (told, mut endings) = (told(&store).await, BTreeSet::new());
    for (tasks, agents) in [(&tasks, &AGENTS[..]), (&revoked, &["indexer"])] {
        for task_id in tasks {
            let events = told.get(task_id).map(Vec::as_slice).unwrap_or_default();
            endings.insert(is_told_of(&store, task_id, agents, events).await);
        }
    }
    tasks.extend(revoked);
    assert_eq!(told.len(), tasks.len(), "nobody else's end is told of");
    let expected = [
        ("cancelled", ""),
        ("cancelled", "revoked"),
        ("dead", "handler_status"),
        ("dead", "lease_lapsed"),
        ("expired", ""),
        ("failed", "handler_status"),
        ("succeeded", ""),
    ];
    assert_eq!(endings, expected.map(|(status, code)| (status.to_owned(), code.to_owned())).into());
    // Each was decided, and the decision names it.
    let decisions = store.decisions(10_000).await.expect("decisions");
    let of_agents = decisions.iter().filter(|event| !event.origin.hops.is_empty());
    let admitted: BTreeSet<&str> = of_agents.filter_map(|event| event.task_id.as_deref()).collect();
    assert_eq!(admitted, tasks.iter().map(String::as_str).collect());

    let whole = export(&crowd.cluster, "ended").await;
    let (content, said) = verdict(&whole).await;
    assert!(content && whole.len() == tasks.len() + 1, "{said}");
    for place in [1, whole.len() - 2] {
        let mut without = whole.clone();
        without.remove(place);
        let (content, said) = verdict(&without).await;
        assert!(!content, "{place}: {said}");
    }
}
