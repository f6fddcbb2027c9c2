//! The clock of one process: it runs a little too fast or too slow, and nobody can tell.
//!
//! Responsible for the difference between the time that is and the time a process sees. Must never run backwards: what
//! processes measure with is monotonic.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// An instant to count from: only differences are ever looked at, so a run does not depend on when it is made.
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A monotonic clock that gains or loses some parts in a million.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    parts: u64,
}

const MILLION: u64 = 1_000_000;

impl Clock {
    pub(super) fn gaining(parts_per_million: i64) -> Self {
        Self { parts: MILLION.saturating_add_signed(parts_per_million) }
    }

    /// What it shows at a true time.
    pub(super) fn at(self, true_us: u64) -> Instant {
        *ZERO + Duration::from_micros(self.shown_us(true_us))
    }

    /// µs it has counted at a true time.
    pub(super) fn shown_us(self, true_us: u64) -> u64 {
        true_us * self.parts / MILLION
    }

    /// The true time at which it shows an instant; at once for one that is over.
    pub(super) fn when(self, shown: Instant) -> u64 {
        let shown_us = shown.saturating_duration_since(*ZERO).as_micros() as u64;
        (shown_us * MILLION).div_ceil(self.parts)
    }

    /// How long it really takes until it has counted so long.
    pub(super) fn truly(self, counted: Duration) -> u64 {
        (counted.as_micros() as u64 * MILLION).div_ceil(self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_is_through_sooner() {
        let second = Duration::from_secs(1);
        assert_eq!(Clock::gaining(0).truly(second), 1_000_000);
        assert!(Clock::gaining(20_000).truly(second) < 1_000_000);
        assert!(Clock::gaining(-20_000).truly(second) > 1_000_000);
    }

    #[test]
    fn an_instant_is_shown_when_it_is_said_to_be() {
        for parts in [-30_000, 0, 30_000] {
            let clock = Clock::gaining(parts);
            for true_us in [0, 1, 999, 123_456_789] {
                let shown = clock.at(true_us) + Duration::from_micros(7);
                assert!(clock.at(clock.when(shown)) >= shown, "{parts} {true_us}");
                assert!(clock.when(clock.at(true_us)) <= true_us, "{parts} {true_us}");
            }
        }
    }
}
