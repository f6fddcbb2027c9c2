//! How long to wait before trying again: a task's next attempt, and our own calls to Redis.
//!
//! Responsible for spreading retries, because processors that lost the same Redis or the same backend at once would
//! otherwise all return at once. Must never sleep itself.

use std::time::Duration;

use portcullis_config::policy::Retry;

/// Wait before the attempt after `attempt` (1 is the first run), ms, full jitter as the policy's `retry` documents.
pub(crate) fn retry_ms(retry: &Retry, attempt: u32) -> u64 {
    jittered_retry_ms(retry, attempt, rand::random_range(0.5..=1.0))
}

/// Wait before calling Redis again after a failure: long enough not to spin, short enough to be back at work well
/// within a second of Redis answering.
pub(crate) fn reconnect() -> Duration {
    Duration::from_millis(rand::random_range(50..=100))
}

/// Wait before the settlement that failed `failures` times in a row is sent again: 50 ms doubling to 500 ms.
pub(crate) fn resettle(failures: u32) -> Duration {
    doubling(failures, 500)
}

/// Wait before a settlement that Redis refused `failures` times in a row is sent again: 50 ms doubling to 2 s. All that
/// are set aside make no more than a few dozen calls a second, and whoever leaves sends each of them once more.
pub(crate) fn refused(failures: u32) -> Duration {
    doubling(failures, 2000)
}

fn doubling(failures: u32, max_ms: u64) -> Duration {
    let longest_ms = (50_u64 << failures.saturating_sub(1).min(10)).min(max_ms);
    Duration::from_millis(rand::random_range(longest_ms / 2..=longest_ms))
}

/// The same with the jitter handed in, from 0.5 to 1.
#[must_use]
pub fn jittered_retry_ms(retry: &Retry, attempt: u32, jitter: f64) -> u64 {
    let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
    // Overflow gives infinity, which `min` turns into the longest backoff.
    let grown_ms = retry.initial_ms as f64 * retry.factor.powi(exponent);
    (jitter * grown_ms.min(retry.max_ms as f64)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Retry = Retry { initial_ms: 500, factor: 2.0, max_ms: 60_000 };

    #[test]
    fn grows_from_initial_to_max() {
        let longest: Vec<u64> = (1..=9).map(|attempt| jittered_retry_ms(&RETRY, attempt, 1.0)).collect();
        assert_eq!(longest, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        for attempt in 1..=40 {
            let (low, high) = (jittered_retry_ms(&RETRY, attempt, 0.5), jittered_retry_ms(&RETRY, attempt, 1.0));
            assert_eq!(low * 2, high);
            assert!((low..=high).contains(&retry_ms(&RETRY, attempt)));
        }
    }

    #[test]
    fn any_attempt_number_is_bounded() {
        assert_eq!(jittered_retry_ms(&RETRY, u32::MAX, 1.0), 60_000);
        assert_eq!(jittered_retry_ms(&RETRY, 0, 1.0), 500);
        let level = Retry { initial_ms: 10, factor: 1.0, max_ms: 10 };
        assert_eq!(jittered_retry_ms(&level, 1000, 1.0), 10);
    }

    #[test]
    fn resettling_is_bounded_both_ways() {
        for failures in 0..100 {
            for (wait, max_ms) in [(resettle(failures), 500), (refused(failures), 2000)] {
                assert!((25..=max_ms).contains(&wait.as_millis()), "{wait:?} after {failures}");
            }
        }
    }
}
