//! What a new policy does to a processor at work.

use portcullis_lua::Change;
use serde_json::json;

use super::*;
use crate::fake::Look;

#[tokio::test(start_paused = true)]
async fn more_slots_are_filled_at_once() {
    let (handlers, begun, _gate) = gated();
    let case = Case::start(waiting(1..=5), 1, handlers);
    begun.acquire().await.unwrap().forget();
    case.store.until(|contents| !contents.beats.is_empty()).await;
    let raised = Instant::now();
    case.policy.adopt(fake::stored(1, &slots_of(4)));
    begun.acquire_many(3).await.unwrap().forget();
    case.store.until(|contents| contents.beats.last().is_some_and(|beat| beat.slots == 4)).await;
    assert_eq!(raised.elapsed(), Duration::ZERO);
    assert_eq!(case.store.read(|contents| contents.waiting.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn fewer_slots_cut_nothing_off_and_take_on_nothing() {
    let (handlers, begun, gate) = gated();
    let case = Case::start(waiting(1..=4), 3, handlers);
    begun.acquire_many(3).await.unwrap().forget();
    case.policy.adopt(fake::stored(1, &slots_of(1)));
    gate.add_permits(2);
    case.settled(2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(case.store.read(|contents| contents.waiting.len()), 1);
    gate.add_permits(1);
    begun.acquire().await.unwrap().forget();
    gate.add_permits(1);
    assert_eq!(case.settled(4).await, all_succeeded(1..=4));
}

#[tokio::test(start_paused = true)]
async fn leases_keep_being_renewed_when_they_become_shorter() {
    let (handlers, begun, gate) = gated();
    let case = Case::start_under(waiting([1, 2]), &json!({"queue": {"lease_ms": 60_000}}), handlers);
    begun.acquire_many(2).await.unwrap().forget();
    tokio::time::sleep(Duration::from_millis(50)).await;
    case.policy.adopt(fake::stored(1, &json!({"queue": {"lease_ms": 200}})));
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 3)));
    begun.acquire().await.unwrap().forget();
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.add_permits(3);
    assert_eq!(case.settled(3).await, all_succeeded(1..=3));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_claimed_under_the_policy_before_is_renewed_at_once() {
    let (handlers, begun, _gate) = gated();
    let contents = Contents { wakes_nobody: true, ..Contents::default() };
    let case = Case::start_under(contents, &json!({"queue": {"lease_ms": 3_600_000}}), handlers);
    case.store.until(|contents| !contents.waits.is_empty()).await;
    case.store.change(|contents| contents.waiting.push_back(fake::lease("chat", 1)));
    let adopted = Instant::now();
    case.policy.adopt(fake::stored(1, &json!({"queue": {"lease_ms": 1000}})));
    begun.acquire().await.unwrap().forget();
    case.store.until(|contents| !contents.renew_calls.is_empty()).await;
    assert_eq!(adopted.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_claimed_or_said_before_it_is_known_which_policy_is_stored() {
    let case = Case::start(Contents { policy_hangs: true, ..waiting([1]) }, 1, Handlers::new().with("*", Echo));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(case.store.read(|contents| contents.claims.len() + contents.beats.len()), 0);
    case.store.change(|contents| contents.policy_hangs = false);
    assert_eq!(case.settled(1).await, all_succeeded([1]));
}

#[tokio::test(start_paused = true)]
async fn it_follows_the_policy_until_it_has_left() {
    let (handlers, begun, _gate) = gated();
    let case = Case::start(waiting([1]), 1, handlers);
    begun.acquire().await.unwrap().forget();
    case.shutdown.drain.cancel();
    case.store.until(|contents| contents.beats.last().is_some_and(|beat| beat.draining)).await;
    case.store.change(|contents| contents.looks.clear());
    case.store.changes.send(Change::Policy(fake::scope())).unwrap();
    case.store.until(|contents| contents.looks.contains(&Look::CatchUp)).await;
    let store = Arc::clone(&case.store);
    assert_eq!(case.ending().await, Ending::Drained);
    assert_eq!(store.changes.receiver_count(), 0);
}
