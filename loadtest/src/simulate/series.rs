//! Many seeds, on all cores.
//!
//! Responsible for running each seed once and reporting the lowest one that fails, however the threads come to it. Must
//! never let a thread into a run: each run has one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::coverage::Coverage;
use super::judge::Violation;
use super::plan::Plan;
use super::run;

/// What a series of runs has shown.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Runs made.
    pub runs: u64,
    /// Events of all runs.
    pub events: u64,
    /// Time that passed in all clusters, µs.
    pub lasted_us: u64,
    /// What was met in all runs.
    pub coverage: Coverage,
    /// The failing seed that is lowest, and how it fails.
    pub failed: Option<(u64, Violation)>,
}

/// Runs `number` seeds from `first` on, by plans that `plan` makes of them. Stops soon after one has failed.
#[must_use]
pub fn series(first: u64, number: u64, plan: impl Fn(u64) -> Plan + Sync) -> Series {
    let (next, whole) = (AtomicU64::new(0), Mutex::new(Series::default()));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    if nth >= number {
                        return;
                    }
                    let seed = first.wrapping_add(nth);
                    let made = run(&plan(seed));
                    let Ok(mut whole) = whole.lock() else { return };
                    whole.runs += 1;
                    whole.events += made.events;
                    whole.lasted_us += made.lasted_us;
                    whole.coverage.add(&made.coverage);
                    if let Some(violation) = made.violation {
                        // Lower seeds are under way or done; higher ones need not be tried.
                        next.store(number, Ordering::Relaxed);
                        if whole.failed.as_ref().is_none_or(|(other, _)| seed < *other) {
                            whole.failed = Some((seed, violation));
                        }
                    }
                }
            });
        }
    });
    whole.into_inner().unwrap_or_default()
}
