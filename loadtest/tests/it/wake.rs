//! Waiting for work: the claim that lies in Redis behind a blocking pop.
//!
//! Responsible for what only a real server can show: that such a claim runs exactly once or not at all, whatever
//! becomes of its connection, and that no wake-up is lost. Must never judge by time; where nothing ends a wait, its
//! limit is longer than the test's patience.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use portcullis_loadtest::client::Submission;
use portcullis_loadtest::cluster::Redis;
use portcullis_lua::{AdmitRequest, Claimed, CompiledPolicy, PolicyStamp, StoreError, Waker};
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::fixture::{PATIENCE, accepted, cluster, ended, record, start, until};
use crate::script::slot::Node;
use crate::script::stage::{Act, Stage, request, roomy};

/// Longer than any test waits for anything.
const NEVER: Duration = Duration::from_secs(600);

fn policy() -> CompiledPolicy {
    CompiledPolicy::new(&roomy(), PolicyStamp::NONE)
}

/// A scope with capacity by Redis's own clock, as waiting goes by no other.
async fn scope(stage: &Stage) -> Act {
    let act = stage.act();
    act.store
        .heartbeat(&policy(), &portcullis_loadtest::cluster::stand_in_beat("stand-in".to_owned(), 100_000))
        .await
        .expect("a heartbeat");
    act
}

async fn admit(act: &Act, number: usize) -> BTreeSet<String> {
    let requests: Vec<AdmitRequest> = (0..number).map(|_| request("paid", "s")).collect();
    for decision in act.store.admit(&policy(), &requests).await.expect("decisions") {
        assert!(matches!(decision.verdict, portcullis_lua::Verdict::Admitted { .. }), "{decision:?}");
    }
    requests.iter().map(|request| request.task_id.to_string()).collect()
}

/// The same of one, once the store is connected again.
async fn admit_one(act: &Act) -> BTreeSet<String> {
    until("the store is connected again", || async {
        let request = request("paid", "s");
        act.store.admit(&policy(), std::slice::from_ref(&request)).await.ok()?;
        Some(BTreeSet::from([request.task_id.to_string()]))
    })
    .await
}

/// Waits as long as it takes, in a task of its own.
fn wait(waiting: &mut JoinSet<(Waker, Result<Claimed, StoreError>)>, mut waker: Waker, slots: u32) {
    waiting.spawn(async move {
        let claimed = waker.claim(&policy(), slots, NEVER, pending()).await;
        (waker, claimed)
    });
}

async fn woken(waiting: &mut JoinSet<(Waker, Result<Claimed, StoreError>)>) -> (Waker, Result<Claimed, StoreError>) {
    let joined = tokio::time::timeout(PATIENCE, waiting.join_next()).await;
    joined.expect("somebody is woken").expect("somebody waits").expect("no panic")
}

async fn until_blocked(act: &Act, clients: u64) {
    until("so many are blocked", || async {
        (act.probe.info_number("clients", "blocked_clients").await.ok()? == clients).then_some(())
    })
    .await;
}

async fn counts(act: &Act) -> (u64, u64) {
    let queues = act.store.queues(&policy()).await.expect("an answer");
    (queues.queued, queues.running)
}

fn ids(claimed: &Claimed) -> BTreeSet<String> {
    claimed.leases.iter().map(|lease| lease.task_id.to_string()).collect()
}

#[tokio::test]
async fn a_task_is_in_the_hands_of_whoever_waits_for_it() {
    let stage = Stage::set().await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    wait(&mut waiting, act.store.waker(), 4);
    until_blocked(&act, 1).await;
    let admitted = admit(&act, 3).await;
    let (_, claimed) = woken(&mut waiting).await;
    let claimed = claimed.expect("leases");
    assert_eq!((ids(&claimed), claimed.waiting), (admitted, 0));
}

#[tokio::test]
async fn those_who_wait_wake_one_another_while_tasks_wait() {
    let stage = Stage::set().await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    for _ in 0..3 {
        wait(&mut waiting, act.store.waker(), 1);
    }
    until_blocked(&act, 3).await;
    let mut left = admit(&act, 3).await;
    for _ in 0..3 {
        let claimed = woken(&mut waiting).await.1.expect("leases");
        assert_eq!(claimed.leases.len(), 1);
        left.retain(|id| !ids(&claimed).contains(id));
    }
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn no_wake_up_is_lost_between_many_who_wait_and_many_who_admit() {
    const TASKS: usize = 400;
    let stage = Stage::set().await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    for slots in 1..=4 {
        wait(&mut waiting, act.store.waker(), slots);
    }
    let admitting = tokio::spawn({
        let act = act.clone();
        async move {
            let mut admitted = BTreeSet::new();
            while admitted.len() < TASKS {
                admitted.extend(admit(&act, rand::random_range(1..=6)).await);
            }
            admitted
        }
    });
    let mut handed_out = BTreeSet::new();
    while handed_out.len() < TASKS {
        let (waker, claimed) = woken(&mut waiting).await;
        for lease in claimed.expect("leases").leases {
            assert!(handed_out.insert(lease.task_id.to_string()), "{} twice", lease.task_id);
        }
        wait(&mut waiting, waker, rand::random_range(1..=4));
    }
    let admitted = admitting.await.expect("no panic");
    while handed_out.len() < admitted.len() {
        let (waker, claimed) = woken(&mut waiting).await;
        handed_out.extend(ids(&claimed.expect("leases")));
        wait(&mut waiting, waker, 4);
    }
    assert_eq!(handed_out, admitted);
}

#[tokio::test]
async fn a_wait_can_be_ended_early_and_its_connection_used_again() {
    let stage = Stage::set().await;
    let act = scope(&stage).await;
    let (mut waker, policy) = (act.store.waker(), policy());
    for _ in 0..3 {
        let blocked = Box::pin(until_blocked(&act, 1));
        let claimed = waker.claim(&policy, 4, NEVER, blocked);
        let claimed = tokio::time::timeout(PATIENCE, claimed).await.expect("it ends").expect("an answer");
        assert_eq!((claimed.leases.len(), claimed.waiting), (0, 0));
    }
    let admitted = admit(&act, 1).await;
    let claimed = waker.claim(&policy, 4, NEVER, pending()).await.expect("leases");
    assert_eq!(ids(&claimed), admitted);
}

#[tokio::test]
async fn a_claim_that_redis_answers_late_is_heard_of() {
    // Longer than any other command waits for an answer, and than a connection without one is kept.
    const SILENCE_MS: &str = "3000";
    let stage = Stage::set().await;
    let act = scope(&stage).await;
    let (mut waker, policy) = (act.store.waker(), policy());
    let none = waker.claim_now(&policy, 4).await.expect("an answer");
    assert_eq!((none.leases.len(), none.waiting), (0, 0));
    for waits in [false, true] {
        let admitted = admit_one(&act).await;
        act.probe.command("CLIENT", ["PAUSE", SILENCE_MS, "ALL"]).await.expect("silent");
        let claimed = if waits {
            waker.claim(&policy, 4, Duration::from_millis(100), pending()).await
        } else {
            waker.claim_now(&policy, 4).await
        };
        assert_eq!(ids(&claimed.expect("leases")), admitted, "after a wait: {waits}");
    }
}

/// A way to Redis on which the connections that are open when `stall` changes carry nothing any more, and stay open.
async fn way_to(server: SocketAddr, stall: watch::Receiver<()>) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, mut carrying) = (listener.local_addr().expect("an address"), JoinSet::new());
    carrying.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut stall = stall.clone();
            stall.mark_unchanged();
            connections.spawn(async move {
                let Ok(mut redis) = TcpStream::connect(server).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut client, &mut redis) => {}
                    Ok(()) = stall.changed() => pending().await,
                }
            });
        }
    });
    (address, carrying)
}

#[tokio::test]
async fn a_claim_whose_connection_is_dead_is_given_up_once_others_are_answered() {
    let redis = Redis::start(false).await.expect("redis starts");
    let (stall, stalled) = watch::channel(());
    let (address, _carrying) = way_to(redis.address(), stalled).await;
    let stage = Stage::on(&format!("redis://{address}"), &redis.url()).await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    let mut waker = act.store.waker();
    waiting.spawn(async move {
        let claimed = waker.claim(&policy(), 4, Duration::from_millis(100), pending()).await;
        assert!(claimed.is_ok_and(|claimed| claimed.leases.is_empty()), "alive at first");
        stall.send_replace(());
        let claimed = waker.claim_now(&policy(), 4).await;
        (waker, claimed)
    });
    let (mut waker, dead) = woken(&mut waiting).await;
    assert!(matches!(dead, Err(StoreError::Unavailable(_))), "{dead:?}");
    let admitted = admit_one(&act).await;
    assert_eq!(ids(&waker.claim_now(&policy(), 4).await.expect("leases on a new connection")), admitted);
}

#[tokio::test]
async fn a_wait_that_is_given_up_claims_nothing_afterwards() {
    let stage = Stage::set().await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    wait(&mut waiting, act.store.waker(), 4);
    until_blocked(&act, 1).await;
    waiting.shutdown().await;
    until_blocked(&act, 0).await;
    let admitted = admit(&act, 2).await;
    assert_eq!(counts(&act).await, (2, 0));
    assert_eq!(ids(&act.store.claim(&policy(), 4).await.expect("leases")), admitted);
}

#[tokio::test]
async fn a_connection_that_breaks_takes_its_claim_with_it() {
    let stage = Stage::set().await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    wait(&mut waiting, act.store.waker(), 4);
    until_blocked(&act, 1).await;
    act.probe.command("CLIENT", ["KILL", "TYPE", "normal", "SKIPME", "yes"]).await.expect("killed");
    let (mut waker, broken) = woken(&mut waiting).await;
    assert!(matches!(broken, Err(StoreError::Unavailable(_))), "{broken:?}");
    until_blocked(&act, 0).await;
    let admitted = admit_one(&act).await;
    assert_eq!(counts(&act).await, (1, 0));
    let claimed = waker.claim(&policy(), 4, NEVER, pending()).await.expect("leases on a new connection");
    assert_eq!(ids(&claimed), admitted);
}

#[tokio::test]
async fn a_script_that_was_flushed_meanwhile_is_loaded_and_called() {
    let stage = Stage::set().await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    wait(&mut waiting, act.store.waker(), 4);
    until_blocked(&act, 1).await;
    act.probe.command("SCRIPT", ["FLUSH", "SYNC"]).await.expect("flushed");
    let admitted = admit(&act, 2).await;
    assert_eq!(ids(&woken(&mut waiting).await.1.expect("leases")), admitted);
}

#[tokio::test]
async fn waiting_goes_the_same_way_on_a_cluster() {
    let node = Node::start().await;
    let stage = Stage::on(&node.url("redis-cluster"), &node.url("redis")).await;
    let (act, mut waiting) = (scope(&stage).await, JoinSet::new());
    for _ in 0..2 {
        wait(&mut waiting, act.store.waker(), 2);
    }
    until_blocked(&act, 2).await;
    let mut left = admit(&act, 4).await;
    for _ in 0..2 {
        let claimed = woken(&mut waiting).await.1.expect("leases");
        left.retain(|id| !ids(&claimed).contains(id));
    }
    assert!(left.is_empty(), "{left:?}");
    let (mut waker, policy) = (act.store.waker(), policy());
    let ended = waker.claim(&policy, 1, NEVER, Box::pin(until_blocked(&act, 1)));
    let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").expect("an answer");
    assert!(ended.leases.is_empty());
}

#[tokio::test]
async fn processors_that_leave_while_tasks_arrive_leave_none_to_lapse() {
    const LEASE_MS: u64 = 600_000;
    let policy = json!({
        "queue": { "lease_ms": LEASE_MS },
        "backpressure": { "queue_depth_multiplier": 50.0 },
        "rate_limits": { "roles": { "privileged": { "burst": 1_000_000 } } },
    });
    let mut cluster = start(cluster().processors(3).slots(2).policy(policy)).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    let mut tasks = Vec::new();
    for leaving in 0..2 {
        cluster.processors()[leaving].terminate().expect("asked to drain");
        while cluster.processors()[leaving].is_running() {
            let answer = client.submit(&Submission::new("demo", json!(1))).await.expect("an answer");
            if answer.is_accepted() {
                tasks.push(answer.task_id().to_owned());
            } else {
                // Where the machine is busy those that stay cannot keep up, or Redis answers late.
                let busy = ["pressure_threshold", "hard_limit", "store_unavailable"];
                assert!(busy.contains(&answer.code()), "{}", answer.text);
            }
        }
        let status = cluster.processors()[leaving].wait().await.expect("it ends");
        assert!(status.success(), "{status}: {}", cluster.processors()[leaving].stderr());
    }
    assert!(!tasks.is_empty());
    let store = cluster.store().await.expect("a store");
    for task_id in &tasks {
        assert_eq!(ended(&client, task_id).await.task_status(), "succeeded");
        let record = record(&store, task_id).await;
        let longest_ms = record.attempts.iter().filter_map(|run| Some(run.ended_ms? - run.started_ms)).max();
        assert!(longest_ms < Some(LEASE_MS), "{:?}", record.attempts);
    }
}

#[tokio::test]
async fn a_processor_that_freezes_while_it_waits_costs_no_task_more_than_a_lease() {
    let mut cluster = start(cluster().processors(2).slots(1).policy(json!({ "queue": { "lease_ms": 1000 } }))).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    cluster.processors()[0].pause().expect("frozen");
    for _ in 0..4 {
        let task_id = accepted(&client, &Submission::new("demo", json!(1))).await;
        assert_eq!(ended(&client, &task_id).await.task_status(), "succeeded");
    }
    cluster.processors()[0].resume().expect("awake again");
    let store = cluster.store().await.expect("a store");
    until("both are idle", || async {
        let queues = store.queues(&cluster.compiled_policy()).await.ok()?;
        (queues.running == 0).then_some(())
    })
    .await;
}
