//! Leases that lapse: a thousand at once, those of large tasks, and those that a late renewal must not make lapse.
//!
//! Responsible for the bounds on what one call takes back, for losing none, and for when a lease ends. Must never count
//! by time.

use std::collections::BTreeSet;

use bytes::Bytes;
use portcullis_config::Policy;
use portcullis_lua::{
    About, AdmitRequest, CompiledPolicy, FencingToken, NewRevision, Origin, Outcome, PolicyStamp, Purpose, Renewal,
    Retention, Revised, Settled, Settlement, StoredPolicy, TaskError, TaskId, TaskStatus,
};
use serde_json::json;

use super::stage::{Act, START_MS, Stage, request, roomy};

const TASKS: usize = 1_000;
const BATCH: usize = 64;

#[tokio::test]
async fn a_thousand_lapsed_leases_are_taken_back_64_at_a_time() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), roomy());
    let lapsed_ms = START_MS + policy.queue.lease_ms;
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.beat(&policy, START_MS, 1_000_000).await;
    let store = act.store.at(START_MS);
    let requests: Vec<AdmitRequest> =
        (0..TASKS).map(|n| AdmitRequest { max_attempts: 1 + (n % 4) as u32, ..request("paid", "s") }).collect();
    for batch in requests.chunks(32) {
        store.admit(&policy, batch).await.expect("decisions");
    }
    let mut lost = Vec::new();
    while lost.len() < TASKS {
        lost.extend(store.claim(&policy, u32::MAX).await.expect("leases").leases);
    }
    let early = act.store.at(lapsed_ms - 1).reclaim(&policy).await.expect("an answer");
    assert_eq!((early.requeued, early.leases.len()), (0, 0), "none has lapsed yet");

    let (mut calls, mut requeued, mut to_bury) = (0, 0, Vec::new());
    let store = act.store.at(lapsed_ms);
    loop {
        let reclaimed = store.reclaim(&policy).await.expect("an answer");
        let taken = reclaimed.requeued as usize + reclaimed.leases.len();
        assert!(taken <= BATCH, "{taken} in one call");
        if taken == 0 {
            break;
        }
        calls += 1;
        requeued += reclaimed.requeued;
        to_bury.extend(reclaimed.leases);
    }
    assert_eq!((calls, requeued, to_bury.len()), (TASKS.div_ceil(BATCH), 750, 250));
    assert!(to_bury.iter().all(|lease| lease.purpose == Purpose::Bury));

    // Whoever held them before can do nothing any more; whoever holds them now ends them.
    let renewals: Vec<_> = lost.iter().map(|lease| (lease.task_id.clone(), lease.token)).collect();
    let renewals = store.renew(&policy, &renewals).await.expect("an answer");
    assert!(renewals.iter().all(|renewal| *renewal == Renewal::Lost));
    let dead = |lease: &portcullis_lua::Lease| {
        let error = TaskError { code: "lease_lapsed".to_owned(), detail: String::new() };
        Settlement { lease: lease.clone(), outcome: Outcome::Dead { error } }
    };
    let late: Vec<Settlement> = lost.iter().map(dead).collect();
    let late = store.settle(&policy, &late).await.expect("answers");
    assert!(late.iter().all(|settled| *settled == Settled::Stale));
    let buried: Vec<Settlement> = to_bury.iter().map(dead).collect();
    let buried = store.settle(&policy, &buried).await.expect("answers");
    assert!(buried.iter().all(|settled| *settled == Settled::Done(TaskStatus::Dead)));

    let view = store.queues(&policy).await.expect("an answer");
    assert_eq!((view.queued, view.running, view.dead), (750, 0, 250));
    let mut again = BTreeSet::new();
    while again.len() < 750 {
        let leases = store.claim(&policy, u32::MAX).await.expect("leases").leases;
        assert!(
            !leases.is_empty() && leases.iter().all(|lease| lease.attempt == 2 && again.insert(lease.task_id.clone()))
        );
    }
}

#[tokio::test]
async fn delayed_tasks_whose_time_has_come_join_64_at_a_time_and_none_is_forgotten() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 1_000_000).await;
    let requests: Vec<AdmitRequest> =
        (0..200).map(|n| AdmitRequest { delay_ms: 1 + n, ..request("paid", "s") }).collect();
    for batch in requests.chunks(32) {
        act.store.at(START_MS).admit(&policy, batch).await.expect("decisions");
    }
    let store = act.store.at(START_MS + 1_000);
    for (joined, left) in [(64, 136), (128, 72), (192, 8), (200, 0)] {
        let claimed = store.claim(&policy, 0).await.expect("an answer");
        assert_eq!(claimed.waiting, joined);
        assert_eq!(claimed.next_due_ms, (left > 0).then_some(0), "more can come at once");
    }
}

#[tokio::test]
async fn one_call_takes_back_a_mebibyte_and_the_eight_read_last() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), roomy());
    let lapsed_ms = START_MS + policy.queue.lease_ms;
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.beat(&policy, START_MS, 1_000_000).await;
    let payload = Bytes::from(vec![b' '; 100 * 1024]);
    for n in 0..40 {
        let request = AdmitRequest { payload: payload.clone(), max_attempts: 1 + n % 2, ..request("paid", "s") };
        act.store.at(START_MS).admit(&policy, &[request]).await.expect("a decision");
    }
    let mut claimed = 0;
    while claimed < 40 {
        claimed += act.store.at(START_MS).claim(&policy, 64).await.expect("leases").leases.len();
    }
    let store = act.store.at(lapsed_ms);
    let mut calls = Vec::new();
    loop {
        let reclaimed = store.reclaim(&policy).await.expect("an answer");
        assert!(reclaimed.leases.iter().all(|lease| lease.payload.len() == payload.len()));
        match reclaimed.requeued as usize + reclaimed.leases.len() {
            0 => break,
            taken => calls.push(taken),
        }
    }
    assert_eq!(calls, [16, 16, 8]);
    assert_eq!(store.queues(&policy).await.expect("an answer").queued, 20, "the others are to be buried");
}

/// Leases of this length, under this stamp.
fn lasting(lease_ms: u64, stamp: PolicyStamp) -> CompiledPolicy {
    let mut policy = roomy();
    policy.queue.lease_ms = lease_ms;
    CompiledPolicy::new(&policy, stamp)
}

/// Stores some policy; its stamp.
async fn stored(act: &Act, policy: &Policy) -> PolicyStamp {
    let (actor, reason, rolled_back_to, changed) = ("a test".to_owned(), None, None, Vec::new());
    let about = About { origin: Origin::Update, actor, reason, rolled_back_to, changed };
    let new = NewRevision { document: json!({ "tenant": "t" }), about, write_id: "1".to_owned() };
    let revised = act.store.revise(PolicyStamp::NONE, Retention::of(policy), &new).await.expect("an answer");
    let Revised::Stored(StoredPolicy { stamp, .. }) = revised else { panic!("{revised:?}") };
    stamp
}

#[tokio::test]
async fn a_renewal_held_up_under_an_older_policy_shortens_no_lease() {
    let stage = Stage::set().await;
    let act = stage.act();
    let old = lasting(1_000, PolicyStamp::NONE);
    act.beat(&old, START_MS, 10).await;
    let at = |ms: u64| act.store.at(START_MS + ms);
    at(0).admit(&old, &[request("paid", "s")]).await.expect("a decision");
    let lease = at(0).claim(&old, 1).await.expect("a lease").leases.remove(0);
    let held: [(TaskId, FencingToken); 1] = [(lease.task_id.clone(), lease.token)];

    let new = stored(&act, &roomy()).await;
    let renewed = at(100).renew(&lasting(10_000, new), &held).await.expect("an answer");
    // Sent before, and run only now.
    let late = at(200).renew(&old, &held).await.expect("an answer");
    assert_eq!((renewed, late), (vec![Renewal::Held], vec![Renewal::Held]));
    let reclaimed = at(10_099).reclaim(&old).await.expect("an answer");
    assert_eq!(reclaimed.requeued, 0, "its holder counts on ten seconds");

    // Under the policy in force leases get as short as it says.
    at(10_099).renew(&lasting(500, new), &held).await.expect("an answer");
    assert_eq!(at(10_598).reclaim(&old).await.expect("an answer").requeued, 0);
    assert_eq!(at(10_599).reclaim(&old).await.expect("an answer").requeued, 1);
}
