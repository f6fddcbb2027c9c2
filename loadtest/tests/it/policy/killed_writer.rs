//! The gateway that writes is killed, again and again, between any two steps: revisions stay whole and contiguous.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use portcullis_loadtest::Client;
use portcullis_lua::ScopeStore;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::operator::{config, number};
use crate::fixture::{cluster, start, until};

const ROUNDS: usize = 6;

/// What writers share: the next unused number, how many updates were answered, and whether to go on.
#[derive(Default)]
struct Desk {
    next: AtomicU64,
    answered: AtomicUsize,
    closed: AtomicBool,
}

/// Writes one number after the other until the desk is closed or its gateway is gone; revision → number of those that
/// were answered, and every number that was tried.
fn write(admin: Client, desk: &Arc<Desk>) -> JoinHandle<(BTreeMap<u64, u64>, Vec<u64>)> {
    let desk = Arc::clone(desk);
    tokio::spawn(async move {
        let (mut stored, mut tried) = (BTreeMap::new(), Vec::new());
        while !desk.closed.load(Ordering::SeqCst) {
            let unique = 1 + desk.next.fetch_add(1, Ordering::SeqCst);
            tried.push(unique);
            let patch = json!({ "limits": { "max_queue_size": unique }, "reason": format!("number {unique}") });
            let Ok(answer) = admin.post("/admin/gateway/update-config", &patch).await else { break };
            match answer.status {
                200 => assert_eq!(stored.insert(number(&answer.body), unique), None, "a revision given twice"),
                // Others kept changing it: nothing was stored.
                409 => assert_eq!(answer.code(), "revision_conflict"),
                _ => panic!("{}", answer.text),
            }
            desk.answered.fetch_add(1, Ordering::SeqCst);
        }
        (stored, tried)
    })
}

#[tokio::test]
async fn every_update_is_one_whole_revision_or_none_whenever_its_writer_is_killed() {
    let policy = json!({ "monitoring": { "max_policy_revisions": 10_000 } });
    let mut cluster = start(cluster().gateways(1).policy(policy)).await;
    let steady = Arc::new(Desk::default());
    let steady_writer = write(cluster.admin(0), &steady);
    let mut answered: BTreeMap<u64, u64> = BTreeMap::new();
    let mut refused_or_unknown = Vec::new();
    for round in 1..=ROUNDS {
        cluster.add_gateway().await.expect("a gateway");
        let desk = Arc::new(Desk { next: AtomicU64::new(1_000_000 * round as u64), ..Desk::default() });
        let writers: Vec<_> = (0..3).map(|_| write(cluster.admin(round), &desk)).collect();
        let enough = rand::rng().random_range(5..25);
        until("it has written some", || async {
            (desk.answered.load(Ordering::SeqCst) >= enough && steady.answered.load(Ordering::SeqCst) > round)
                .then_some(())
        })
        .await;
        // Anywhere within an update.
        tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..5000))).await;
        cluster.gateways()[round].kill().await.expect("killed");
        for writer in writers {
            let (stored, tried) = writer.await.expect("no panic");
            refused_or_unknown.extend(tried.into_iter().filter(|number| !stored.values().any(|known| known == number)));
            answered.extend(stored);
        }
    }
    steady.closed.store(true, Ordering::SeqCst);
    let (stored, tried) = steady_writer.await.expect("no panic");
    refused_or_unknown.extend(tried.into_iter().filter(|number| !stored.values().any(|known| known == number)));
    for (revision, number) in stored {
        assert_eq!(answered.insert(revision, number), None, "revision {revision} was given twice");
    }
    let store = cluster.store().await.expect("a store");
    let (last, document) = whole_and_contiguous(&store, &answered, &refused_or_unknown).await;
    let now = config(&cluster.admin(0)).await;
    assert_eq!((number(&now), &now["document"]), (last, &document));
}

/// Every answered update is the revision it was told to be; every other revision is one of those whose answer was lost.
/// The last revision and its document.
async fn whole_and_contiguous(store: &ScopeStore, answered: &BTreeMap<u64, u64>, lost: &[u64]) -> (u64, Value) {
    let listed: Vec<u64> =
        store.revisions(10_000).await.expect("an answer").iter().map(|summary| summary.revision).collect();
    let last = listed.len() as u64;
    assert_eq!(listed, (1..=last).rev().collect::<Vec<_>>());
    assert!(answered.len() > 5 * ROUNDS, "too few updates to prove anything: {}", answered.len());
    assert!(answered.keys().all(|revision| *revision <= last), "answered, but not there");
    let (mut before, mut seen) = (None, Vec::new());
    for revision in 1..=last {
        let record = store.revision(revision).await.expect("an answer").expect("it is kept");
        assert_eq!(record.before, before, "revision {revision}");
        let size = record.after["limits"]["max_queue_size"].as_u64().expect("a number");
        assert_eq!(record.summary.about.reason, Some(format!("number {size}")), "reason and content of one update");
        match answered.get(&revision) {
            Some(number) => assert_eq!(size, *number, "revision {revision}"),
            None => assert!(lost.contains(&size), "revision {revision} holds {size}, which nobody tried"),
        }
        assert!(!seen.contains(&size), "{size} was stored twice");
        seen.push(size);
        before = Some(record.after);
    }
    let audited: Vec<u64> = store.audit(100_000).await.expect("an answer").iter().map(|event| event.revision).collect();
    assert_eq!(audited, listed);
    let stored = store.stored_policy().await.expect("an answer").expect("a policy");
    let document: Value = serde_json::from_str(&stored.document).expect("JSON");
    assert_eq!((stored.stamp.revision(), Some(&document)), (last, before.as_ref()));
    (last, document)
}
