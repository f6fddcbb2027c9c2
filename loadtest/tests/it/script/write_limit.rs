//! Writes that are limited.
//!
//! Responsible for exactness: at once, in any window, and for what a refusal leaves as it was. Must never sleep: time
//! is injected.

use futures_util::future::join_all;
use portcullis_lua::WriteLimit;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::stage::{START_MS, Stage, cases};

const LIMIT: WriteLimit = WriteLimit { per_minute: 60, per_hour: 600 };
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 3_600_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_writes_at_once_exactly_60_are_counted() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await, stage.another_store().await];
    for _ in 0..3 {
        let act = stage.act();
        let writes = (0..200).map(|number: usize| {
            let store = stores[number % 3].scope(act.store.scope());
            async move { store.count_write("agent", LIMIT).await.expect("an answer").is_ok() }
        });
        let counted = join_all(writes).await.into_iter().filter(|counted| *counted).count();
        assert_eq!(counted, 60);
        assert!(act.store.count_write("another", LIMIT).await.expect("an answer").is_ok(), "who has done nothing");
    }
}

#[tokio::test]
async fn no_minute_and_no_hour_ever_holds_more_and_steady_writers_get_their_hour() {
    let stage = Stage::set().await;
    let first = rand::random::<u64>() >> 1;
    for seed in first..first + cases(6) as u64 {
        let (act, mut random, mut now_ms) = (stage.act(), StdRng::seed_from_u64(seed), START_MS);
        let limit = WriteLimit { per_minute: random.random_range(1..8), per_hour: random.random_range(8..60) };
        let mut counted = Vec::<u64>::new();
        for _ in 0..500 {
            now_ms += *[0, 1, 500, 7_000, 59_999, 150_000].choose(&mut random).expect("six");
            let within = |length_ms| counted.iter().filter(|&&at_ms| at_ms + length_ms > now_ms).count() as u32;
            let room = within(MINUTE_MS) < limit.per_minute && within(HOUR_MS) < limit.per_hour;
            match act.store.at(now_ms).count_write("s", limit).await.expect("an answer") {
                Ok(()) => {
                    assert!(room, "seed {seed}: one too many at {now_ms}");
                    counted.push(now_ms);
                }
                Err(retry_ms) => {
                    // A small hourly limit is kept to 55 ms; both windows round up, never down.
                    assert!(!room || within(HOUR_MS + MINUTE_MS) >= limit.per_hour, "seed {seed}: refused for nothing");
                    let later = act.store.at(now_ms + retry_ms).count_write("s", limit).await.expect("an answer");
                    assert_eq!(later, Ok(()), "seed {seed}: not after the {retry_ms} ms it was told");
                    now_ms += retry_ms;
                    counted.push(now_ms);
                }
            }
        }
        act.strike().await;
    }
}

#[tokio::test]
async fn a_write_that_is_refused_counts_for_nothing() {
    let stage = Stage::set().await;
    let act = stage.act();
    let store = act.store.at(START_MS);
    for _ in 0..60 {
        store.count_write("s", LIMIT).await.expect("an answer").expect("it is counted");
    }
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    for _ in 0..100 {
        assert_eq!(store.count_write("s", LIMIT).await.expect("an answer"), Err(MINUTE_MS));
    }
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before);
    let none = WriteLimit { per_minute: 0, per_hour: 600 };
    assert_eq!(store.count_write("t", none).await.expect("an answer"), Err(0), "waiting does not help");
}
