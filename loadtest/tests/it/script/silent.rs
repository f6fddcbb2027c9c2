//! Processors that fell silent are to be seen for a while, and count for nothing in it.
//!
//! Responsible for who is listed after whose heartbeats, and for the sums meanwhile. Must never take one that has left,
//! or was about to, for one that fell silent.

use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_lua::{CompiledPolicy, Heartbeat, PolicyStamp};

use super::stage::{Act, START_MS, Stage, roomy};

const SECOND_MS: u64 = 1000;
const TIMEOUT_MS: u64 = 10 * SECOND_MS;
/// For how long one that was swept out stays to be seen.
const SEEN_MS: u64 = 60 * SECOND_MS;
/// More than are listed.
const CROWD: usize = 3000;
/// How many are listed at most: the last sweep may add as many as it finds.
const MOST: usize = 1000 + 512;

fn policy() -> CompiledPolicy {
    let mut policy = roomy();
    policy.monitoring.heartbeat_timeout_seconds = TIMEOUT_MS / SECOND_MS;
    CompiledPolicy::new(&policy, PolicyStamp::NONE)
}

async fn beat(act: &Act, policy: &CompiledPolicy, at_ms: u64, beat: &Heartbeat) {
    act.store.at(at_ms).heartbeat(policy, beat).await.expect("a heartbeat");
}

/// Who is listed, and whether it is live.
async fn listed(act: &Act, policy: &CompiledPolicy, at_ms: u64) -> Vec<(String, bool)> {
    let processors = act.store.at(at_ms).processors(policy).await.expect("processors");
    processors.into_iter().map(|processor| (processor.beat.worker, processor.live)).collect()
}

/// Slots and processors that count.
async fn sums(act: &Act, policy: &CompiledPolicy, at_ms: u64) -> (u64, u64) {
    let queues = act.store.at(at_ms).queues(policy).await.expect("queues");
    (queues.slots, queues.live_processors)
}

fn named(listed: &[(String, bool)]) -> Vec<(&str, bool)> {
    listed.iter().map(|(worker, live)| (worker.as_str(), *live)).collect()
}

#[tokio::test]
async fn one_that_fell_silent_is_listed_for_a_minute_and_one_that_was_leaving_is_not() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    let [silent, live] = [("a", 4), ("b", 2)].map(|(name, slots)| stand_in_beat(name.to_owned(), slots));
    let leaving = Heartbeat { draining: true, ..stand_in_beat("c".to_owned(), 8) };
    for each in [&silent, &live, &leaving] {
        beat(&act, &policy, START_MS, each).await;
    }
    assert_eq!(sums(&act, &policy, START_MS).await, (6, 2));
    let swept_ms = START_MS + TIMEOUT_MS;
    let mut now_ms = swept_ms;
    while now_ms < swept_ms + SEEN_MS {
        beat(&act, &policy, now_ms, &live).await;
        assert_eq!(named(&listed(&act, &policy, now_ms).await), [("a", false), ("b", true)], "{now_ms}");
        assert_eq!(sums(&act, &policy, now_ms).await, (2, 1), "{now_ms}");
        let replicas = act.store.at(now_ms).convergence(&policy).await.expect("replicas").replicas;
        assert_eq!(replicas.iter().filter(|replica| replica.live).count(), 1, "nobody waits for it: {now_ms}");
        now_ms += TIMEOUT_MS / 2;
    }
    beat(&act, &policy, now_ms, &live).await;
    assert_eq!(named(&listed(&act, &policy, now_ms).await), [("b", true)]);
    assert_eq!(sums(&act, &policy, now_ms).await, (2, 1));
}

#[tokio::test]
async fn one_that_is_heard_again_counts_as_before_and_leaves_as_before() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    let [silent, live] = [("a", 4), ("b", 2)].map(|(name, slots)| stand_in_beat(name.to_owned(), slots));
    beat(&act, &policy, START_MS, &silent).await;
    let swept_ms = START_MS + TIMEOUT_MS;
    beat(&act, &policy, swept_ms, &live).await;
    assert_eq!(sums(&act, &policy, swept_ms).await, (2, 1));
    beat(&act, &policy, swept_ms + SECOND_MS, &silent).await;
    assert_eq!(named(&listed(&act, &policy, swept_ms + SECOND_MS).await), [("a", true), ("b", true)]);
    assert_eq!(sums(&act, &policy, swept_ms + SECOND_MS).await, (6, 2));
    // Silent again, and gone without having been heard since.
    let again_ms = swept_ms + SECOND_MS + TIMEOUT_MS;
    beat(&act, &policy, again_ms, &live).await;
    assert_eq!(named(&listed(&act, &policy, again_ms).await), [("a", false), ("b", true)]);
    act.store.leave("a").await.expect("an answer");
    assert_eq!(named(&listed(&act, &policy, again_ms).await), [("b", true)]);
    assert_eq!(sums(&act, &policy, again_ms).await, (2, 1));
}

#[tokio::test]
async fn a_crowd_that_falls_silent_is_not_listed_without_a_bound() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    let live = stand_in_beat("live".to_owned(), 2);
    for number in 0..CROWD {
        beat(&act, &policy, START_MS, &stand_in_beat(format!("w{number}"), 1)).await;
    }
    assert_eq!(sums(&act, &policy, START_MS).await, (CROWD as u64, CROWD as u64));
    let swept_ms = START_MS + TIMEOUT_MS;
    for round in 0..10 {
        beat(&act, &policy, swept_ms + round, &live).await;
    }
    let now_ms = swept_ms + 10;
    let listed = listed(&act, &policy, now_ms).await;
    assert!((2..=MOST).contains(&listed.len()), "{}", listed.len());
    assert_eq!(listed.iter().filter(|(_, live)| *live).count(), 1);
    assert_eq!(sums(&act, &policy, now_ms).await, (2, 1));
}
