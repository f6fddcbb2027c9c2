//! From the answer to an update on, nobody decides under an older policy: not a replica that heard nothing of it, not
//! under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Answer, Submission};
use portcullis_loadtest::probe::Probe;
use portcullis_lua::DecisionEvent;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::deaf::{channels, cut_pubsub};
use super::operator::{decided_under, number, updated};
use crate::fixture::{Fixture, cluster, redis_now_ms, start, until};

const GATEWAYS: usize = 3;

/// Three gateways that hear no message and, as seldom as they report, find nothing out by themselves.
struct Deaf {
    cluster: Fixture,
    probe: Probe,
}

impl Deaf {
    async fn start() -> Self {
        let policy = json!({
            "monitoring": { "heartbeat_timeout_seconds": 3600 },
            "rate_limits": { "roles": { "paid": { "burst": 100, "burst_window": 600 } } },
        });
        let mut cluster = start(cluster().gateways(GATEWAYS).policy(policy)).await;
        cluster.stand_in(100_000).await.expect("capacity");
        let probe = cluster.probe().await.expect("a connection");
        cut_pubsub(&probe).await;
        Self { cluster, probe }
    }

    /// An update through gateway `index` that nobody hears of; its revision.
    async fn updated(&self, index: usize, patch: Value) -> u64 {
        assert_eq!(channels(&self.probe).await, [""; 0], "somebody listens");
        let answer = updated(&self.cluster.admin(index), &patch).await;
        assert_eq!(channels(&self.probe).await, [""; 0], "somebody listens");
        number(&answer)
    }

    /// The first request each gateway gets from now on, by this caller.
    async fn next_on_each(&self, user_type: &str, principal: &str) -> Vec<Answer> {
        let mut answers = Vec::new();
        for index in 0..GATEWAYS {
            let caller = self.cluster.gateway(index).caller(user_type, principal);
            answers.push(caller.submit(&Submission::new("demo", index)).await.expect("an answer"));
        }
        answers
    }
}

fn burst(burst: u64) -> Value {
    json!({ "rate_limits": { "roles": { "paid": { "burst": burst } } } })
}

/// What became of each: its code, or nothing, and the revision it was decided under.
fn outcomes(answers: &[Answer]) -> Vec<(u16, &str, u64)> {
    answers.iter().map(|answer| (answer.status, answer.code(), decided_under(answer))).collect()
}

#[tokio::test]
async fn with_pubsub_cut_the_very_next_request_on_each_gateway_is_decided_under_the_new_policy() {
    let deaf = Deaf::start().await;
    for updater in 0..GATEWAYS {
        let principal = format!("ada-{updater}");
        let before = deaf.next_on_each("paid", &principal).await;
        assert!(before.iter().all(Answer::is_accepted), "{:?}", outcomes(&before));

        // Three are in the window: a limit of three leaves no room on any gateway.
        let narrow = deaf.updated(updater, burst(3)).await;
        let answers = deaf.next_on_each("paid", &principal).await;
        assert_eq!(outcomes(&answers), [(429, "burst_limit", narrow); GATEWAYS], "updated by {updater}");

        // And that refusal, which a gateway may otherwise repeat from memory, does not outlive its policy.
        let wide = deaf.updated(updater, burst(100)).await;
        assert_eq!(wide, narrow + 1);
        let answers = deaf.next_on_each("paid", &principal).await;
        assert_eq!(outcomes(&answers), [(202, "", wide); GATEWAYS], "updated by {updater}");

        // What a caller is told about its limits without asking for anything.
        let narrow = deaf.updated(updater, burst(50)).await;
        for index in 0..GATEWAYS {
            let limits = deaf.cluster.gateway(index).caller("paid", &principal).limits().await.expect("an answer");
            assert_eq!(decided_under(&limits), narrow, "{}", limits.text);
            assert_eq!(limits.body["limits"][0]["limit"], json!(50), "{}", limits.text);
        }
    }
}

#[tokio::test]
async fn with_pubsub_cut_a_user_type_is_known_from_its_declaration_to_its_removal() {
    let deaf = Deaf::start().await;
    let unknown = deaf.next_on_each("gold", "ada").await;
    assert_eq!(outcomes(&unknown), [(401, "unauthenticated", 0); GATEWAYS]);
    for updater in 0..GATEWAYS {
        let gold = json!({ "user_types": { "gold": { "falls_back_to": "paid", "weight": 6 } } });
        let declared = deaf.updated(updater, gold).await;
        let known = deaf.next_on_each("gold", "ada").await;
        assert_eq!(outcomes(&known), [(202, "", declared); GATEWAYS], "declared through {updater}");
        let removed = deaf.updated(updater, json!({ "user_types": { "gold": null } })).await;
        let unknown = deaf.next_on_each("gold", "ada").await;
        assert_eq!(outcomes(&unknown), [(401, "unauthenticated", removed); GATEWAYS], "removed through {updater}");
    }
}

/// What the load shares with the one who updates: the newest revision that was answered, and how much was decided.
#[derive(Default)]
struct Load {
    answered: AtomicU64,
    decided: AtomicU64,
    over: AtomicBool,
}

/// One caller that asks again as soon as it has its answer. An answer to a request that was sent after an update was
/// answered is decided under that update or a later one.
async fn ask_on(client: Client, load: Arc<Load>) {
    while !load.over.load(Ordering::SeqCst) {
        let answered = load.answered.load(Ordering::SeqCst);
        let answer = client.submit(&Submission::new("demo", 1)).await.expect("an answer");
        assert!(answer.is_accepted(), "{}", answer.text);
        let revision = decided_under(&answer);
        assert!(revision >= answered, "asked after revision {answered} was answered, decided under {revision}");
        load.decided.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn under_load_no_decision_after_the_answer_to_an_update_is_made_under_an_older_policy() {
    const UPDATES: u64 = 8;
    const BETWEEN: u64 = 150;
    let roles = json!({ "privileged": { "burst": 1_000_000 } });
    let mut cluster = start(cluster().gateways(GATEWAYS).policy(json!({ "rate_limits": { "roles": roles } }))).await;
    cluster.stand_in(1_000_000).await.expect("capacity");
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for index in 0..4 * GATEWAYS {
        let client = cluster.gateway(index).caller("privileged", &format!("caller-{index}"));
        callers.spawn(ask_on(client, Arc::clone(&load)));
    }
    let some_more = async || {
        let goal = load.decided.load(Ordering::SeqCst) + BETWEEN;
        until("the load goes on", || async { (load.decided.load(Ordering::SeqCst) >= goal).then_some(()) }).await;
    };
    let mut answered = Vec::new();
    for update in 0..UPDATES {
        some_more().await;
        let admin = cluster.admin(update as usize);
        let revision = number(&updated(&admin, &json!({ "limits": { "max_queue_size": 1_000_000 + update } })).await);
        answered.push((revision, redis_now_ms(&cluster).await));
        load.answered.store(revision, Ordering::SeqCst);
    }
    some_more().await;
    load.over.store(true, Ordering::SeqCst);
    while let Some(caller) = callers.join_next().await {
        caller.expect("no panic");
    }
    let mut events = cluster.store().await.expect("a store").decisions(1_000_000).await.expect("an answer");
    events.reverse();
    assert!(events.len() as u64 >= load.decided.load(Ordering::SeqCst), "events are missing");
    never_under_an_older_one(&events, &answered, BETWEEN as usize / 2);
}

/// Events in the order in which they were decided; revisions with the time, ms, at which each was answered.
fn never_under_an_older_one(events: &[DecisionEvent], answered: &[(u64, u64)], many: usize) {
    let revisions: Vec<u64> = events.iter().map(|event| event.policy_revision).collect();
    assert!(revisions.is_sorted(), "an older policy came back");
    for &(revision, at_ms) in answered {
        let late = events.iter().find(|event| event.at_ms > at_ms && event.policy_revision < revision);
        assert_eq!(late, None, "revision {revision} was answered at {at_ms}");
        let before = events.iter().filter(|event| event.policy_revision == revision - 1).count();
        let after = events.iter().filter(|event| event.policy_revision == revision).count();
        assert!(before.min(after) >= many, "no overlap to speak of: {before} before, {after} after {revision}");
    }
}
