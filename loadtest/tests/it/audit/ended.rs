//! How what agents were let do ended: one event for each task, whatever ended it, and none for anybody else's.
//!
//! Responsible for the whole cluster, a processor that is killed included, and for an export that shows what was done to
//! it. Must never take the word of one that ended a task: what its record says is what the event has to say.

use std::collections::BTreeMap;

use portcullis_delegation::Chain;
use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::credentials::{Credentials, Granted, handed_on, principal_of, secret_key};
use portcullis_lua::{AuditEvent, Grounds, Member, Revocation, ScopeStore, TaskId, TaskStatus};
use serde_json::{Value, json};

use super::export::{export, verdict};
use crate::fixture::{Fixture, accepted, cluster, ended, record, start, until, until_running};

const LEASE_MS: u64 = 1000;
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

#[tokio::test]
async fn each_task_of_an_agent_ends_in_one_event_whatever_ends_it() {
    let mut crowd = crowd().await;
    let store = crowd.cluster.store().await.expect("a store");
    let (agent, indexer) = (crowd.searcher.presented().to_owned(), crowd.indexer.presented().to_owned());
    let ada = crowd.ada.clone();
    let mut through_agents = Vec::new();
    for order in [json!({}), json!({ "status": 404 }), json!({ "status": 503 }), json!({ "fail_times": 1 })] {
        through_agents.extend(crowd.submit(&agent, &slow(order.clone()).field("max_attempts", 2)).await);
        crowd.submit(&ada, &slow(order).field("max_attempts", 2)).await;
    }
    // Cut off at its deadline.
    through_agents.extend(crowd.submit(&agent, &slow(json!({ "ms": FAR_MS })).field("deadline_ms", 400)).await);
    // Cancelled while it waits, twice; and with it those of a principal.
    let later = slow(json!({})).field("delay_ms", FAR_MS);
    for (token, is_agents) in [(&agent, true), (&ada, false)] {
        for task_id in crowd.submit(token, &later).await {
            for number in 0..2 {
                let answer = crowd.client(number, token).cancel(&task_id).await.expect("an answer");
                assert_eq!(answer.task_status(), "cancelled", "{}", answer.text);
            }
            through_agents.extend(is_agents.then_some(task_id));
        }
    }
    // Revoked while it waits.
    let revoked = crowd.submit(&indexer, &slow(json!({})).field("delay_ms", 1500)).await;
    let revocation = Revocation { member: Member::Agent("indexer").to_string(), lasts_ms: FAR_MS, spares_later: false };
    let grounds = Grounds { by: "operator", reason: "stolen", max_audit_events: 1000 };
    store.revoke(&[revocation], grounds).await.expect("revoked");
    through_agents.extend(revoked.clone());
    let reader = crowd.client(0, &agent);
    for task_id in through_agents.iter().filter(|task_id| !revoked.contains(task_id)) {
        ended(&reader, task_id).await;
    }
    // Cancelled while it runs.
    for task_id in crowd.submit(&agent, &slow(json!({ "ms": FAR_MS }))).await {
        until_running(&reader, &task_id).await;
        reader.cancel(&task_id).await.expect("an answer");
        assert_eq!(ended(&reader, &task_id).await.task_status(), "cancelled");
        through_agents.push(task_id);
    }
    // Running at a processor that is killed: dead, or run again elsewhere. All slots are taken, so that among those of
    // either processor some have no other attempt.
    let mut lost = Vec::new();
    for attempts in [1, 1, 2, 1] {
        let stuck = slow(json!({ "ms": FAR_MS })).field("max_attempts", attempts);
        lost.extend(crowd.submit(&agent, &stuck).await);
    }
    for task_id in &lost {
        until_running(&reader, task_id).await;
    }
    crowd.cluster.processors()[0].kill().await.expect("killed");
    until("some are dead", || async {
        let mut dead = 0;
        for task_id in &lost {
            dead += usize::from(record(&store, task_id).await.status == TaskStatus::Dead);
        }
        (dead >= EACH).then_some(())
    })
    .await;
    for task_id in &lost {
        reader.cancel(task_id).await.expect("an answer");
    }
    for task_id in &lost {
        ended(&reader, task_id).await;
    }
    through_agents.extend(lost);
    for task_id in &revoked {
        let ended = || async { record(&store, task_id).await.status.is_terminal().then_some(()) };
        until("the revoked ones have ended", ended).await;
    }

    let told = told(&store).await;
    let mut statuses = BTreeMap::<(String, String), usize>::new();
    for task_id in &through_agents {
        let record = record(&store, task_id).await;
        let Some([event]) = told.get(task_id).map(Vec::as_slice) else { panic!("{task_id}: {:?}", told.get(task_id)) };
        let code = record.error.as_ref().map(|error| error.code.as_str());
        let agents = if revoked.contains(task_id) { json!(["indexer"]) } else { json!(AGENTS) };
        let mut expected = json!({
            "status": record.status.as_str(), "task": task_id, "kind": "slow", "principal": principal_of("ada"),
            "agents": agents,
        });
        if let Some(code) = code {
            expected["code"] = json!(code);
        }
        assert_eq!((event.event.as_str(), &event.about), ("task.ended", &expected));
        assert_eq!(Some(event.at_ms), record.finished_ms, "{task_id}");
        let cause = (record.status.as_str().to_owned(), code.unwrap_or_default().to_owned());
        *statuses.entry(cause).or_default() += 1;
    }
    assert_eq!(told.len(), through_agents.len(), "nobody else's end is told of");
    for (status, code) in [
        ("succeeded", ""),
        ("failed", "handler_status"),
        ("dead", "handler_status"),
        ("dead", "lease_lapsed"),
        ("cancelled", ""),
        ("cancelled", "revoked"),
        ("expired", ""),
    ] {
        assert!(statuses.contains_key(&(status.to_owned(), code.to_owned())), "{status} {code}: {statuses:?}");
    }

    // Each was decided, and the decision names it.
    let decisions = store.decisions(10_000).await.expect("decisions");
    let admitted: Vec<&str> = decisions
        .iter()
        .filter(|event| !event.origin.hops.is_empty())
        .filter_map(|event| event.task_id.as_deref())
        .collect();
    assert_eq!(admitted.len(), through_agents.len());
    assert!(admitted.iter().all(|task_id| TaskId::parse(task_id).is_some() && told.contains_key(*task_id)));
    let whole = export(&crowd.cluster, "ended").await;
    let (content, said) = verdict(&whole).await;
    assert!(content && whole.len() == through_agents.len() + 1, "{said}");
    for place in [1, whole.len() - 2] {
        let mut without = whole.clone();
        without.remove(place);
        let (content, said) = verdict(&without).await;
        assert!(!content, "{place}: {said}");
    }
}
