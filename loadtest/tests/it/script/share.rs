//! Sharing between user types: in proportion to their weights, and nothing saved up while idle.
//!
//! Must never depend on how many are claimed at once.

use std::collections::BTreeMap;

use portcullis_lua::{AdmitRequest, CompiledPolicy, PolicyStamp, TaskId};

use super::stage::{Act, START_MS, Stage, request, roomy};

const TYPES: [(&str, u64); 4] = [("anonymous", 1), ("registered", 2), ("paid", 4), ("privileged", 8)];
/// The sum of the weights.
const ROUND: u64 = 15;

/// Enqueues tasks of one type; their ids, in the order of their admission.
async fn enqueue(act: &Act, policy: &CompiledPolicy, user_type: &str, number: usize) -> Vec<TaskId> {
    let requests: Vec<AdmitRequest> = (0..number).map(|_| request(user_type, user_type)).collect();
    for batch in requests.chunks(32) {
        act.store.at(START_MS).admit(policy, batch).await.expect("decisions");
    }
    requests.into_iter().map(|request| request.task_id).collect()
}

/// Claims this many, a few at a time; what was claimed of each type, in order.
async fn claim(act: &Act, policy: &CompiledPolicy, mut number: u64) -> BTreeMap<String, Vec<TaskId>> {
    let mut claimed: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
    for slots in [1, 7, 64, 13].into_iter().cycle() {
        let slots = number.min(slots);
        for lease in act.store.at(START_MS).claim(policy, slots as u32).await.expect("leases").leases {
            claimed.entry(lease.envelope.user_type.to_string()).or_default().push(lease.task_id);
            number -= 1;
        }
        if number == 0 {
            break;
        }
    }
    claimed
}

fn assert_shares(claimed: &BTreeMap<String, Vec<TaskId>>, rounds: u64, types: &[(&str, u64)]) {
    for (name, weight) in types {
        let count = claimed.get(*name).map_or(0, Vec::len) as u64;
        let due = weight * rounds;
        assert!(count.abs_diff(due) <= 1, "{name}: {count} of {due} in {rounds} rounds");
    }
}

#[tokio::test]
async fn backlogged_types_share_by_weight_and_each_is_served_in_order() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 1_000_000).await;
    let mut waiting = BTreeMap::new();
    for (name, _) in TYPES {
        waiting.insert(name.to_owned(), enqueue(&act, &policy, name, 400).await);
    }
    let mut total: BTreeMap<String, Vec<TaskId>> = BTreeMap::new();
    for rounds in [10, 20, 30, 40] {
        for (name, ids) in claim(&act, &policy, 10 * ROUND).await {
            total.entry(name).or_default().extend(ids);
        }
        assert_shares(&total, rounds, &TYPES);
    }
    for (name, ids) in total {
        assert_eq!(ids, waiting[&name][..ids.len()], "{name} out of order");
    }
}

#[tokio::test]
async fn a_type_that_was_idle_gets_its_share_and_no_more() {
    let stage = Stage::set().await;
    for (idle, _) in TYPES {
        let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
        act.beat(&policy, START_MS, 1_000_000).await;
        for (name, _) in TYPES.iter().filter(|(name, _)| *name != idle) {
            enqueue(&act, &policy, name, 400).await;
        }
        let claimed = claim(&act, &policy, 210).await;
        assert!(!claimed.contains_key(idle));
        enqueue(&act, &policy, idle, 400).await;
        for _ in 0..2 {
            assert_shares(&claim(&act, &policy, 10 * ROUND).await, 10, &TYPES);
        }
    }
}
