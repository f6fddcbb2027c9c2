//! The run so far, in numbers that anybody may read at any time.
//!
//! Responsible for counters and for the latency of the last second. Must never be what a report is made of: that is the
//! journal, which forgets nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::latency;
use crate::record::{Call, Outcome};

/// The time over which latencies are shown.
const WINDOW: Duration = Duration::from_secs(1);

/// Counters of a run. Clones count into the same.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    offered: AtomicU64,
    sent: AtomicU64,
    admitted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    waiting: AtomicU64,
    in_flight: AtomicU64,
    behind_us: AtomicU64,
    recent: Mutex<Recent>,
}

/// What a meter shows at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Calls that clients wanted to make, repetitions included.
    pub offered: u64,
    /// Calls that were made.
    pub sent: u64,
    /// Calls answered with a task.
    pub admitted: u64,
    /// Calls answered otherwise.
    pub refused: u64,
    /// Calls without an answer, and those that were not made.
    pub failed: u64,
    /// Calls that have no answer yet.
    pub in_flight: u64,
    /// Clients that wait to send their request again.
    pub waiting: u64,
    /// Median latency of the answers of the last second, µs from the intended time; 0 if there were none.
    pub p50_us: u64,
    /// Of 100 such answers, 99 took no longer, µs.
    pub p99_us: u64,
    /// The furthest the generator itself has fallen behind its schedule, µs.
    pub behind_us: u64,
}

impl Meter {
    /// What it shows now.
    #[must_use]
    pub fn read(&self) -> Reading {
        let shared = &*self.0;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (p50_us, p99_us) = shared.recent.lock().unwrap_or_else(PoisonError::into_inner).percentiles();
        Reading {
            offered: of(&shared.offered),
            sent: of(&shared.sent),
            admitted: of(&shared.admitted),
            refused: of(&shared.refused),
            failed: of(&shared.failed),
            in_flight: of(&shared.in_flight),
            waiting: of(&shared.waiting),
            p50_us,
            p99_us,
            behind_us: of(&shared.behind_us),
        }
    }

    /// A client wants to make a call.
    pub(super) fn offered(&self) {
        self.0.offered.fetch_add(1, Ordering::Relaxed);
    }

    /// A call is made, so much later than intended.
    pub(super) fn sent(&self, behind_us: u64) {
        self.0.sent.fetch_add(1, Ordering::Relaxed);
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        self.0.behind_us.fetch_max(behind_us, Ordering::Relaxed);
    }

    /// A call that was made is over.
    pub(super) fn landed(&self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// What came of a call, made or not.
    pub(super) fn ended(&self, call: &Call) {
        let counter = match &call.outcome {
            Outcome::Answered(_) if call.is_accepted() => &self.0.admitted,
            Outcome::Answered(_) => &self.0.refused,
            Outcome::Failed { .. } => &self.0.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if call.answered().is_some() {
            self.0.recent.lock().unwrap_or_else(PoisonError::into_inner).record(call.latency_us());
        }
    }

    /// A client begins to wait.
    pub(super) fn waits(&self) {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A client waits no longer.
    pub(super) fn waited(&self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The second that runs and the one before.
#[derive(Debug)]
struct Recent {
    running: Histogram<u64>,
    complete: Histogram<u64>,
    began: Instant,
}

impl Default for Recent {
    fn default() -> Self {
        Self { running: latency::histogram(), complete: latency::histogram(), began: Instant::now() }
    }
}

impl Recent {
    fn record(&mut self, latency_us: u64) {
        self.turn();
        self.running.saturating_record(latency_us);
    }

    fn percentiles(&mut self) -> (u64, u64) {
        self.turn();
        (self.complete.value_at_quantile(0.5), self.complete.value_at_quantile(0.99))
    }

    fn turn(&mut self) {
        let age = self.began.elapsed();
        if age < WINDOW {
            return;
        }
        std::mem::swap(&mut self.running, &mut self.complete);
        self.running.reset();
        if age >= 2 * WINDOW {
            // Nobody looked for a whole second: what was the running one is long over.
            self.complete.reset();
        }
        self.began = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Answered;

    fn call(status: u16, latency_us: u64) -> Call {
        Call {
            caller: 0,
            request: 0,
            repetition: 0,
            gateway: 0,
            kind: "chat".to_owned(),
            intended_us: 0,
            sent_us: 0,
            ended_us: latency_us,
            outcome: Outcome::Answered(Answered { status, ..Answered::default() }),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn shows_the_latency_of_the_last_whole_second() {
        let meter = Meter::default();
        meter.ended(&call(202, 1000));
        assert_eq!(meter.read().p50_us, 0, "the second is not over");
        tokio::time::advance(WINDOW).await;
        assert!((990..=1010).contains(&meter.read().p50_us));
        tokio::time::advance(WINDOW).await;
        assert_eq!(meter.read().p50_us, 0, "nothing was answered in the last second");
    }

    #[test]
    fn counts_each_call_once() {
        let meter = Meter::default();
        for status in [200, 202, 429, 503, 500] {
            meter.offered();
            meter.sent(7);
            meter.landed();
            meter.ended(&call(status, 1));
        }
        let read = meter.read();
        assert_eq!((read.offered, read.sent, read.in_flight), (5, 5, 0));
        assert_eq!((read.admitted, read.refused, read.failed, read.behind_us), (2, 3, 0, 7));
    }
}
