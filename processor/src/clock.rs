//! What this process knows of the Redis clock: not before which of its own instants the former shows a given time.
//!
//! Each script that returns its time ran between the sending of the call and its answer. Of the calls of the last
//! seconds the one that says most is kept, so that a claim which lay behind a blocking pop for a second is placed by
//! the quick calls around it:
//!
//! ```text
//! local instant of Redis time t ≥ sending of a call + (t − time the call returned)
//! ```
//!
//! Responsible for being early rather than late, by no more than the quickest call of late took. Should the Redis clock
//! jump ahead, the answers themselves bound the error: nothing is placed after the answer that tells of it. Must never
//! be used to decide what another process has to agree with.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What was learned longer ago than this gives way to anything newer: the Redis clock may have been set since.
const KEEP: Duration = Duration::from_secs(2);

/// Two clocks drift apart by no more than one part in this many; NTP slews by at most 500 ppm (RFC 5905).
const DRIFT: i64 = 2000;

/// A lower bound of the local clock at any time of Redis.
#[derive(Debug)]
pub(crate) struct RedisClock {
    zero: Instant,
    bound: Mutex<Option<Bound>>,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    /// Local time since `zero`, less Redis time, µs.
    offset_us: i64,
    learned: Instant,
}

impl RedisClock {
    pub(crate) fn new() -> Self {
        Self { zero: Instant::now(), bound: Mutex::new(None) }
    }

    /// A script sent at `sent`, whose answer is here, ran at this time of Redis, rounded down to a millisecond.
    pub(crate) fn note(&self, sent: Instant, redis_ms: u64) {
        let now = Instant::now();
        let ran_us = redis_ms.saturating_mul(1000) as i64;
        let earliest = self.local_us(sent) - ran_us - 1000;
        let latest = self.local_us(now) - ran_us;
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bound.filter(|known| now - known.learned <= KEEP && known.at(now) > earliest);
        *bound = Some(match known {
            Some(known) => Bound { offset_us: known.offset_us.min(latest), ..known },
            None => Bound { offset_us: earliest, learned: sent },
        });
    }

    /// The earliest local instant at which the Redis clock can show this time; `None` before the first note, and
    /// beyond what an instant can hold.
    pub(crate) fn earliest(&self, redis_ms: u64) -> Option<Instant> {
        let bound = (*self.bound.lock().unwrap_or_else(PoisonError::into_inner))?;
        let shown_us = i64::try_from(redis_ms.checked_mul(1000)?).ok()?;
        let local_us = shown_us.checked_add(bound.at(Instant::now()))?;
        self.zero.checked_add(Duration::from_micros(u64::try_from(local_us).unwrap_or(0)))
    }

    /// Local time since `zero`, µs; less than nothing before it.
    fn local_us(&self, at: Instant) -> i64 {
        at.duration_since(self.zero).as_micros() as i64 - self.zero.duration_since(at).as_micros() as i64
    }
}

impl Bound {
    /// What is left of it now that the clocks may have drifted.
    fn at(&self, now: Instant) -> i64 {
        self.offset_us - (now - self.learned).as_micros() as i64 / DRIFT
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const REDIS_MS: u64 = 1_800_000_000_000;

    /// Made long enough ago for all the test is about.
    async fn some_time_ago() -> RedisClock {
        let clock = RedisClock::new();
        sleep(60_000 * MS).await;
        clock
    }

    /// How late, or early if negative, `redis_ms` is placed compared to where it is.
    fn error_us(clock: &RedisClock, redis_ms: u64, truly: Instant) -> i64 {
        let placed = clock.earliest(redis_ms).unwrap();
        clock.local_us(placed) - clock.local_us(truly)
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_places_every_time_from_its_sending() {
        let clock = some_time_ago().await;
        assert_eq!(clock.earliest(REDIS_MS), None);
        let sent = Instant::now();
        sleep(3 * MS).await;
        clock.note(sent, REDIS_MS);
        for (redis_ms, truly) in [(REDIS_MS, sent), (REDIS_MS + 500, sent + 500 * MS)] {
            let error = error_us(&clock, redis_ms, truly);
            assert!((-1005..=-998).contains(&error), "{error} µs");
        }
        assert_eq!(clock.earliest(u64::MAX), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waited_is_placed_by_a_quick_one_before_it() {
        let clock = some_time_ago().await;
        let start = Instant::now();
        clock.note(start, REDIS_MS);
        sleep(900 * MS).await;
        // Sent 800 ms ago, run right now.
        clock.note(start + 100 * MS, REDIS_MS + 900);
        let error = error_us(&clock, REDIS_MS + 900, Instant::now());
        assert!((-2000..=0).contains(&error), "{error} µs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_call_replaces_a_slow_one() {
        let clock = some_time_ago().await;
        let start = Instant::now();
        sleep(800 * MS).await;
        clock.note(start, REDIS_MS + 800);
        assert!(error_us(&clock, REDIS_MS + 800, Instant::now()) <= -801_000);
        clock.note(Instant::now(), REDIS_MS + 800);
        let error = error_us(&clock, REDIS_MS + 800, Instant::now());
        assert!((-1002..=-998).contains(&error), "{error} µs");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_gives_way() {
        let clock = some_time_ago().await;
        clock.note(Instant::now(), REDIS_MS);
        sleep(KEEP + MS).await;
        // The Redis clock went back by ten seconds meanwhile; this call took 50 ms.
        let sent = Instant::now();
        sleep(50 * MS).await;
        clock.note(sent, REDIS_MS - 8000);
        let error = error_us(&clock, REDIS_MS - 8000, sent);
        assert!((-1030..=-998).contains(&error), "{error} µs");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_jumps_ahead_makes_nothing_later_than_the_answer_that_tells() {
        let clock = some_time_ago().await;
        clock.note(Instant::now(), REDIS_MS);
        sleep(200 * MS).await;
        let sent = Instant::now();
        sleep(10 * MS).await;
        let jumped_ms = REDIS_MS + 60_000;
        clock.note(sent, jumped_ms);
        assert!(clock.earliest(jumped_ms).unwrap() <= Instant::now());
        assert!(clock.earliest(jumped_ms).unwrap() >= sent - MS);
    }

    #[tokio::test(start_paused = true)]
    async fn drift_is_allowed_for() {
        let clock = some_time_ago().await;
        let start = Instant::now();
        clock.note(start, REDIS_MS);
        sleep(1000 * MS).await;
        let error = error_us(&clock, REDIS_MS + 1000, start + 1000 * MS);
        assert!((-1502..=-1498).contains(&error), "{error} µs");
    }
}
