//! Redis loses the policy or comes back with an older one: the replicas give it back, once, and nobody decides under
//! another one meanwhile.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Answer, Submission};
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_lua::{Convergence, ScopeStore};
use serde_json::json;

use super::deaf::cut_pubsub;
use super::operator::{audit, config, decided_under, number, updated};
use crate::fixture::{Fixture, cluster, start, until};

const GATEWAYS: usize = 3;
const PROCESSORS: usize = 2;

/// Revisions up to `last`, each allowing a paid caller another burst: 10 and the revision.
async fn write(admin: &Client, revisions: std::ops::RangeInclusive<u64>) {
    for revision in revisions {
        let burst = json!({ "rate_limits": { "roles": { "paid": { "burst": 10 + revision } } } });
        assert_eq!(number(&updated(admin, &burst).await), revision);
    }
}

/// Every replica of the cluster is live and holds what is stored, which is this revision.
async fn all_hold(cluster: &Fixture, store: &ScopeStore, revision: u64) -> Convergence {
    until("all replicas hold it", || async {
        let seen = store.convergence(&cluster.compiled_policy()).await.ok()?;
        let live = seen.replicas.iter().filter(|replica| replica.live).count();
        let in_step = seen.behind().next().is_none() && live == GATEWAYS + PROCESSORS;
        assert!(seen.stored.revision() <= revision, "renumbered without need: {seen:?}");
        (in_step && seen.stored.revision() == revision).then_some(seen)
    })
    .await
}

/// The next request of this caller on each gateway.
async fn next_on_each(cluster: &Fixture, principal: &str) -> Vec<Answer> {
    let mut answers = Vec::new();
    for index in 0..GATEWAYS {
        let caller = cluster.gateway(index).caller("paid", principal);
        answers.push(caller.submit(&Submission::new("demo", 1)).await.expect("an answer"));
    }
    answers
}

fn outcomes(answers: &[Answer]) -> Vec<(u16, &str, u64)> {
    answers.iter().map(|answer| (answer.status, answer.code(), decided_under(answer))).collect()
}

#[tokio::test]
async fn after_a_loss_of_everything_the_newest_policy_is_back_without_a_request_or_an_operator() {
    let cluster = start(cluster().gateways(GATEWAYS).processors(PROCESSORS)).await;
    let store = cluster.store().await.expect("a store");
    write(&cluster.admin(0), 1..=3).await;
    let before = all_hold(&cluster, &store, 3).await;
    let stored = store.stored_policy().await.expect("an answer").expect("a policy");
    let probe = cluster.probe().await.expect("a connection");
    for _ in 0..2 {
        probe.command("FLUSHALL", []).await.expect("flushed");
        let after = all_hold(&cluster, &store, 3).await;
        assert_eq!(after.stored, before.stored, "the same document under the same number");
        assert_eq!(store.stored_policy().await.expect("an answer"), Some(stored.clone()));
        let events = audit(&cluster.admin(1)).await;
        let restored = events.iter().filter(|event| event["event"] == "policy_restored").count();
        assert_eq!((restored, events.len()), (1, 1), "given back once: {events:?}");
    }
    // And it goes on from there.
    write(&cluster.admin(2), 4..=4).await;
    all_hold(&cluster, &store, 4).await;
}

#[tokio::test]
async fn the_request_that_notices_the_loss_gives_the_policy_back_and_is_decided_under_it() {
    // Nobody reports within the test, and nobody hears a message: what is noticed, a request notices.
    let policy = json!({ "monitoring": { "heartbeat_timeout_seconds": 3600 } });
    let cluster = start(cluster().gateways(GATEWAYS).policy(policy)).await;
    let (store, probe) = (cluster.store().await.expect("a store"), cluster.probe().await.expect("a connection"));
    let beat = async || {
        let beat = stand_in_beat("by-hand".to_owned(), 1000);
        store.heartbeat(&cluster.compiled_policy(), &beat).await.expect("a heartbeat");
    };
    cut_pubsub(&probe).await;
    beat().await;
    write(&cluster.admin(0), 1..=3).await;
    let known = next_on_each(&cluster, "ada").await;
    assert_eq!(outcomes(&known), [(202, "", 3); GATEWAYS]);

    for first in 0..GATEWAYS {
        probe.command("FLUSHALL", []).await.expect("flushed");
        beat().await;
        let principal = format!("eve-{first}");
        let caller = |index: usize| cluster.gateway(first + index).caller("paid", &principal);
        // 13 is the burst of revision 3, 150 the shipped one.
        for request in 0..13 {
            let answer = caller(request).submit(&Submission::new("demo", 1)).await.expect("an answer");
            assert_eq!(outcomes(&[answer]), [(202, "", 3)], "request {request}, first to gateway {first}");
        }
        for index in 0..GATEWAYS {
            let answer = caller(index).submit(&Submission::new("demo", 1)).await.expect("an answer");
            assert_eq!(outcomes(&[answer]), [(429, "burst_limit", 3)], "gateway {first} and {index} more");
        }
        let restored = store.audit(100).await.expect("an answer");
        assert_eq!(restored.len(), 1, "given back once: {restored:?}");
    }
}

#[tokio::test]
async fn a_redis_that_comes_back_from_an_older_copy_gets_the_newest_policy_and_nobody_decides_under_the_older() {
    let mut cluster = start(cluster().gateways(GATEWAYS).processors(PROCESSORS)).await;
    let store = cluster.store().await.expect("a store");
    write(&cluster.admin(0), 1..=1).await;
    all_hold(&cluster, &store, 1).await;
    let probe = cluster.probe().await.expect("a connection");
    probe.command("SAVE", []).await.expect("saved");
    probe.close().await;
    write(&cluster.admin(1), 2..=4).await;
    let lost = all_hold(&cluster, &store, 4).await;

    cluster.redis().expect("its own").kill().await.expect("killed");
    cluster.redis().expect("its own").start_again().await.expect("started again");
    let store = cluster.store().await.expect("a store");
    for index in 0..GATEWAYS {
        let caller = cluster.gateway(index).caller("paid", "ada");
        until("the gateway decides again", || async {
            let answer = caller.submit(&Submission::new("demo", 1)).await.expect("an answer");
            // While Redis is away, and before the first processor has reported to the one that is back.
            let decided = !["store_unavailable", "no_live_processors"].contains(&answer.code());
            assert!(!decided || outcomes(std::slice::from_ref(&answer)) == [(202, "", 4)], "{}", answer.text);
            decided.then_some(())
        })
        .await;
    }
    let after = all_hold(&cluster, &store, 4).await;
    assert_eq!(after.stored, lost.stored);
    let decisions = store.decisions(10_000).await.expect("an answer");
    assert!(decisions.len() >= GATEWAYS && decisions.iter().all(|event| event.policy_revision == 4), "{decisions:?}");
    let restored = store.audit(100).await.expect("an answer");
    let restored: Vec<_> = restored.iter().filter(|event| event.event == "policy_restored").collect();
    assert_eq!(restored.len(), 1, "given back once: {restored:?}");
    for index in 0..GATEWAYS {
        let config = config(&cluster.admin(index)).await;
        assert_eq!(config["effective"]["rate_limits"]["roles"]["paid"]["burst"], json!(14));
    }
}
