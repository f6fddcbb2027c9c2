//! A mass failure: a thousand leases lapse at once.
//!
//! Responsible for the bound on what one call takes back, and for losing none. Must never count by time.

use std::collections::BTreeSet;

use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Outcome, PolicyStamp, Purpose, Settled, Settlement, TaskError, TaskStatus,
};

use super::stage::{START_MS, Stage, request, roomy};

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
    assert!(renewals.iter().all(|renewal| *renewal == portcullis_lua::Renewal::Lost));
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
