//! The gateway that writes is killed, or Redis answers it too late or not at all, between any two steps: revisions stay
//! whole and contiguous.

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
use crate::fixture::{cluster, impatient_cluster, start, until};

const ROUNDS: usize = 6;

/// Longer than a gateway waits for an answer of Redis.
const TOO_LATE: Duration = Duration::from_millis(1500);

/// What writers share: the next unused number, how many updates were stored, and whether to go on.
#[derive(Default)]
struct Desk {
    next: AtomicU64,
    answered: AtomicUsize,
    closed: AtomicBool,
}

/// What became of the updates: revision → number of those that were answered with 200, and the numbers of the others.
#[derive(Default)]
struct Written {
    stored: BTreeMap<u64, u64>,
    unknown: Vec<u64>,
}

impl Written {
    fn extend(&mut self, other: Self) {
        for (revision, number) in other.stored {
            assert_eq!(self.stored.insert(revision, number), None, "revision {revision} was given twice");
        }
        self.unknown.extend(other.unknown);
    }
}

/// An update that can be told from every other, and that leaves alone most of what others write.
fn patch(unique: u64) -> Value {
    let (shared, own) = (format!("shared-{}", unique % 5), 1 + unique % 1000);
    json!({ "limits": { "max_queue_size": unique }, "kinds": { shared: { "cost": own } },
        "reason": format!("number {unique}") })
}

/// A document with what such an update changes in it.
fn patched(document: &Value, unique: u64) -> Value {
    let (mut patched, patch) = (document.clone(), patch(unique));
    for (kind, settings) in patch["kinds"].as_object().expect("kinds") {
        patched["kinds"][kind] = settings.clone();
    }
    patched["limits"]["max_queue_size"] = json!(unique);
    patched
}

/// Writes one number after the other until the desk is closed or its gateway is gone.
fn write(admin: Client, desk: &Arc<Desk>) -> JoinHandle<Written> {
    let desk = Arc::clone(desk);
    tokio::spawn(async move {
        let mut written = Written::default();
        while !desk.closed.load(Ordering::SeqCst) {
            let unique = 1 + desk.next.fetch_add(1, Ordering::SeqCst);
            let answer = admin.post("/admin/gateway/update-config", &patch(unique)).await;
            match answer.as_ref().map(|answer| (answer.status, answer.code())) {
                Ok((200, _)) => {
                    let revision = number(&answer.expect("an answer").body);
                    assert_eq!(written.stored.insert(revision, unique), None, "a revision given twice");
                    desk.answered.fetch_add(1, Ordering::SeqCst);
                }
                // Others kept changing it.
                Ok((409, "revision_conflict")) => written.unknown.push(unique),
                // Redis did not say what became of it, or is not asked for a while.
                Ok((503, "store_unavailable")) => {
                    written.unknown.push(unique);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(_) => panic!("{}", answer.expect("an answer").text),
                Err(_) => {
                    written.unknown.push(unique);
                    break;
                }
            }
        }
        written
    })
}

#[tokio::test]
async fn every_update_is_one_whole_revision_or_none_whenever_its_writer_is_killed() {
    let mut cluster = start(cluster().gateways(1).policy(keeping_all())).await;
    let steady = Arc::new(Desk::default());
    let steady_writer = write(cluster.admin(0), &steady);
    let mut written = Written::default();
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
            written.extend(writer.await.expect("no panic"));
        }
    }
    steady.closed.store(true, Ordering::SeqCst);
    written.extend(steady_writer.await.expect("no panic"));
    let store = cluster.store().await.expect("a store");
    let (last, document) = whole_and_contiguous(&store, &written).await;
    let now = config(&cluster.admin(0)).await;
    assert_eq!((number(&now), &now["document"]), (last, &document));
}

#[tokio::test]
async fn an_update_whose_answer_from_redis_was_lost_is_stored_once_or_not_at_all() {
    let mut cluster = start(impatient_cluster().gateways(2).policy(keeping_all())).await;
    let probe = cluster.probe().await.expect("a connection");
    let desk = Arc::new(Desk::default());
    let writers: Vec<_> = (0..4).map(|writer| write(cluster.admin(writer), &desk)).collect();
    for round in 0..ROUNDS {
        let goal = desk.answered.load(Ordering::SeqCst) + 5;
        until("more was written", || async { (desk.answered.load(Ordering::SeqCst) >= goal).then_some(()) }).await;
        tokio::time::sleep(Duration::from_micros(rand::rng().random_range(0..5000))).await;
        if round % 2 == 0 {
            probe.command("CLIENT", ["KILL", "TYPE", "normal", "SKIPME", "yes"]).await.expect("killed");
        } else {
            // Redis does what it was asked for, but only after whoever asked has given up.
            cluster.redis().expect("its own").pause().expect("frozen");
            tokio::time::sleep(TOO_LATE).await;
            cluster.redis().expect("its own").resume().expect("awake again");
        }
    }
    desk.closed.store(true, Ordering::SeqCst);
    let mut written = Written::default();
    for writer in writers {
        written.extend(writer.await.expect("no panic"));
    }
    let store = cluster.store().await.expect("a store");
    let (last, _) = whole_and_contiguous(&store, &written).await;
    for index in 0..2 {
        let admin = cluster.admin(index);
        until("both gateways hold the last of them", || async {
            (number(&config(&admin).await) == last).then_some(())
        })
        .await;
    }
}

/// Nothing that was written is forgotten within a test.
fn keeping_all() -> Value {
    json!({ "monitoring": { "max_policy_revisions": 10_000 } })
}

/// Every answered update is the revision it was told to be; every other revision is one of those whose answer was lost.
/// The last revision and its document.
async fn whole_and_contiguous(store: &ScopeStore, written: &Written) -> (u64, Value) {
    let Written { stored: answered, unknown } = written;
    let listed: Vec<u64> =
        store.revisions(10_000).await.expect("an answer").iter().map(|summary| summary.revision).collect();
    let last = listed.len() as u64;
    assert_eq!(listed, (1..=last).rev().collect::<Vec<_>>());
    assert!(answered.len() > 5 * ROUNDS, "too few updates to prove anything: {}", answered.len());
    assert!(answered.keys().all(|revision| *revision <= last), "answered, but not there");
    let (mut before, mut seen) = (None, Vec::new());
    let mut boot = keeping_all();
    (boot["tenant"], boot["project"]) = (json!(store.scope().tenant()), json!(store.scope().project()));
    for revision in 1..=last {
        let record = store.revision(revision).await.expect("an answer").expect("it is kept");
        assert_eq!(record.before, before, "revision {revision}");
        let size = record.after["limits"]["max_queue_size"].as_u64().expect("a number");
        assert_eq!(record.summary.about.reason, Some(format!("number {size}")), "reason and content of one update");
        // Nothing that others wrote in between was undone: this update is all that is different.
        let base = record.before.as_ref().unwrap_or(&boot);
        assert_eq!(record.after, patched(base, size), "revision {revision}");
        match answered.get(&revision) {
            Some(number) => assert_eq!(size, *number, "revision {revision}"),
            None => assert!(unknown.contains(&size), "revision {revision} holds {size}, which nobody tried"),
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
