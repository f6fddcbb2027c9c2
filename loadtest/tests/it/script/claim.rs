//! Claims of what is large, and of what cannot be read.
//!
//! Responsible for the bounds of one claim, and for one bad record costing no other task anything. Must never reach
//! into the queue but to damage a record.

use bytes::Bytes;
use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Outcome, PolicyStamp, Purpose, Settled, Settlement, TaskError, TaskStatus,
};

use super::stage::{Act, START_MS, Stage, request, roomy};

const KIB: usize = 1024;

fn policy() -> CompiledPolicy {
    CompiledPolicy::new(&roomy(), PolicyStamp::NONE)
}

/// Admits tasks with payloads of this many bytes.
async fn admit(act: &Act, bytes: usize, delay_ms: u64, number: usize) -> Vec<AdmitRequest> {
    let payload = Bytes::from(vec![b' '; bytes]);
    let requests: Vec<AdmitRequest> =
        (0..number).map(|_| AdmitRequest { payload: payload.clone(), delay_ms, ..request("paid", "s") }).collect();
    for request in &requests {
        act.store.at(START_MS).admit(&policy(), std::slice::from_ref(request)).await.expect("a decision");
    }
    requests
}

/// Claims until nothing is left: how many tasks came with each call.
async fn claimed(act: &Act, now_ms: u64) -> Vec<usize> {
    let mut calls = Vec::new();
    loop {
        let claimed = act.store.at(now_ms).claim(&policy(), 64).await.expect("leases");
        calls.push(claimed.leases.len());
        if claimed.waiting == 0 && claimed.next_due_ms.is_none() {
            return calls;
        }
        assert!(!claimed.leases.is_empty(), "a claim that gets on with nothing");
    }
}

#[tokio::test]
async fn one_claim_hands_out_a_mebibyte_and_the_eight_read_last() {
    let stage = Stage::set().await;
    let act = stage.act();
    act.beat(&policy(), START_MS, 1_000_000).await;
    admit(&act, KIB, 0, 64).await;
    assert_eq!(claimed(&act, START_MS).await, [64], "small ones all at once");
    admit(&act, 100 * KIB, 0, 40).await;
    assert_eq!(claimed(&act, START_MS).await, [16, 16, 8]);
    admit(&act, 2 * KIB * KIB, 0, 10).await;
    assert_eq!(claimed(&act, START_MS).await, [8, 2], "one that is too large alone is handed out all the same");
}

#[tokio::test]
async fn one_claim_moves_a_mebibyte_of_delayed_tasks_and_says_that_more_are_due() {
    let stage = Stage::set().await;
    let act = stage.act();
    act.beat(&policy(), START_MS, 1_000_000).await;
    admit(&act, 300 * KIB, 1000, 20).await;
    let first = act.store.at(START_MS + 1000).claim(&policy(), 1).await.expect("leases");
    assert_eq!((first.leases.len(), first.waiting, first.next_due_ms), (1, 7, Some(0)));
    assert_eq!(claimed(&act, START_MS + 1000).await.iter().sum::<usize>(), 19);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_only_its_own_task_its_run() {
    let stage = Stage::set().await;
    let act = stage.act();
    act.beat(&policy(), START_MS, 1_000_000).await;
    let requests = admit(&act, 2, 0, 5).await;
    let damaged = [requests[1].task_id.clone(), requests[3].task_id.clone()];
    let long_enough_for_scripts = "x".repeat(40);
    for (id, record) in damaged.iter().zip(["short", long_enough_for_scripts.as_str()]) {
        act.probe.command("HSET", [&act.key("task"), id.as_str(), record]).await.expect("damaged");
    }
    let leases = act.store.at(START_MS).claim(&policy(), 64).await.expect("leases").leases;
    assert_eq!(leases.len(), 5);
    let (unreadable, whole): (Vec<_>, Vec<_>) =
        leases.into_iter().partition(|lease| lease.purpose == Purpose::Unreadable);
    assert_eq!(unreadable.iter().map(|lease| lease.task_id.clone()).collect::<Vec<_>>(), damaged);
    assert!(whole.iter().all(|lease| lease.purpose == Purpose::Run && lease.envelope.principal == "s"));

    let error = TaskError { code: "record_unreadable".to_owned(), detail: String::new() };
    let settlements: Vec<Settlement> = unreadable
        .into_iter()
        .map(|lease| Settlement { lease, outcome: Outcome::Dead { error: error.clone() } })
        .collect();
    let settled = act.store.at(START_MS).settle(&policy(), &settlements).await.expect("an answer");
    assert_eq!(settled, [Settled::Done(TaskStatus::Dead), Settled::Done(TaskStatus::Dead)]);
    for id in &damaged {
        let record = act.store.at(START_MS).task(id).await.expect("an answer").expect("it is known");
        assert_eq!((record.status, record.error), (TaskStatus::Dead, Some(error.clone())));
    }
    assert!(act.store.at(START_MS).breakers(&policy()).await.expect("an answer").is_empty(), "no kind is to blame");
}
