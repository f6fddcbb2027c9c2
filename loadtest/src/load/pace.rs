//! The thread that says when: it walks the schedules and hands over each request when it is due.
//!
//! Responsible for keeping time better than the milliseconds of an asynchronous timer. Must never wait for anything but
//! the time: it hands over into a queue, and if even that is full, requests keep the times they were intended for.

use std::iter::Peekable;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stream::{Due, Schedule};
use crate::record::RunClock;

/// Requests that are due and not yet taken over.
pub(super) const QUEUE: usize = 16_384;

/// Requests closer together than this are handed over together: at high rates every wake-up costs more than it tells.
const TOGETHER: Duration = Duration::from_micros(100);

/// Longest sleep, so that the end of a run is noticed.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Hands over every request of all schedules, in the order of their times. Returns at the end of the load, which may be
/// later than its last request, or when `stop` is cancelled.
pub(super) fn walk(
    schedules: Vec<Schedule>,
    ends_us: u64,
    clock: RunClock,
    queue: &mpsc::Sender<Due>,
    stop: &CancellationToken,
) {
    sleep_exactly();
    let mut schedules: Vec<Peekable<Schedule>> = schedules.into_iter().map(Iterator::peekable).collect();
    while let Some(due) = next(&mut schedules) {
        if !sleep_until(clock, due.at_us, stop) || queue.blocking_send(due).is_err() {
            return;
        }
    }
    sleep_until(clock, ends_us, stop);
}

/// The earliest of all; of those at the same time the one of the first stream.
fn next(schedules: &mut [Peekable<Schedule>]) -> Option<Due> {
    let peeked = schedules.iter_mut().enumerate().filter_map(|(number, due)| Some((due.peek()?.at_us, number)));
    let (_, number) = peeked.min()?;
    schedules[number].next()
}

/// Whether the time has come, rather than the end.
fn sleep_until(clock: RunClock, at_us: u64, stop: &CancellationToken) -> bool {
    loop {
        if stop.is_cancelled() {
            return false;
        }
        let left = Duration::from_micros(at_us.saturating_sub(clock.now_us()));
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.clamp(TOGETHER, LOOK_UP));
    }
}

/// Linux prolongs sleeps by 50 µs so that it can end several at once. This thread is worth waking for.
fn sleep_exactly() {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(stream: usize, times: &'static [u64]) -> Schedule {
        Box::new(times.iter().map(move |&at_us| Due { at_us, stream, caller: 0, kind: 0, seed: 0 }))
    }

    #[test]
    fn streams_are_merged_by_time_and_never_early() {
        let (sender, mut queue) = mpsc::channel(16);
        let clock = RunClock::start();
        let schedules = vec![schedule(0, &[0, 3000]), schedule(1, &[0, 1000, 4000])];
        walk(schedules, 6000, clock, &sender, &CancellationToken::new());
        assert!(clock.now_us() >= 6000, "the load is not over with its last request");
        drop(sender);
        let order: Vec<(u64, usize)> =
            std::iter::from_fn(|| queue.blocking_recv()).map(|due| (due.at_us, due.stream)).collect();
        assert_eq!(order, [(0, 0), (0, 1), (1000, 1), (3000, 0), (4000, 1)]);
    }

    #[test]
    fn the_end_of_a_run_ends_the_walk() {
        let (sender, mut queue) = mpsc::channel(16);
        let stop = CancellationToken::new();
        let cancelled = stop.clone();
        let walking = thread::spawn(move || {
            walk(vec![schedule(0, &[0])], u64::MAX, RunClock::start(), &sender, &cancelled);
        });
        assert!(queue.blocking_recv().is_some());
        stop.cancel();
        walking.join().expect("it ends");
        assert_eq!(queue.blocking_recv(), None);
    }
}
