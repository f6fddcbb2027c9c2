//! The run so far, for whoever watches it.
//!
//! Responsible for a line on standard error while a load runs, if that is a terminal. Must never write to standard
//! output, nor anything into a file or a log of a build.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::AbortHandle;

use super::meter::{Meter, Reading};
use crate::record::RunClock;

const REFRESH: Duration = Duration::from_millis(250);

/// A bar short enough for the line to fit most terminals.
const TEMPLATE: &str = "{bar:12} {wide_msg}";

/// Rates are over this many refreshes.
const RATE_REFRESHES: usize = 4;

/// A progress bar, which is gone when this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    refreshing: Option<AbortHandle>,
}

impl Progress {
    /// Shows the meter of a run that lasts so many seconds, if anybody watches.
    #[must_use]
    pub fn start(meter: Meter, clock: RunClock, seconds: f64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: ProgressBar::hidden(), refreshing: None };
        }
        let millis = (seconds * 1e3) as u64;
        let bar = ProgressBar::with_draw_target(Some(millis), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        let refreshing = tokio::spawn(refresh(bar.clone(), meter, clock, millis)).abort_handle();
        Self { bar, refreshing: Some(refreshing) }
    }

    /// Writes a line to standard error without disturbing the bar.
    pub fn note(&self, line: &str) {
        if self.refreshing.is_some() {
            self.bar.println(line);
        } else {
            // Nobody is left to tell when standard error is gone.
            drop(writeln!(std::io::stderr().lock(), "{line}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(refreshing) = &self.refreshing {
            refreshing.abort();
        }
        self.bar.finish_and_clear();
    }
}

async fn refresh(bar: ProgressBar, meter: Meter, clock: RunClock, millis: u64) {
    let mut ticks = tokio::time::interval(REFRESH);
    let mut earlier = std::collections::VecDeque::from([(clock.now_us(), Reading::default())]);
    loop {
        ticks.tick().await;
        let (now_us, now) = (clock.now_us(), meter.read());
        if let Some((before_us, before)) = earlier.front() {
            let seconds = now_us.saturating_sub(*before_us) as f64 / 1e6;
            bar.set_position((now_us / 1000).min(millis));
            bar.set_message(line(now_us / 1_000_000, millis / 1000, &now, before, seconds));
        }
        if earlier.len() == RATE_REFRESHES {
            earlier.pop_front();
        }
        earlier.push_back((now_us, now));
    }
}

/// The line: time, rates since `before`, and latencies.
fn line(at_seconds: u64, of_seconds: u64, now: &Reading, before: &Reading, seconds: f64) -> String {
    let rate = |now: u64, before: u64| (now.saturating_sub(before) as f64 / seconds.max(1e-3)).round();
    let waiting = if now.waiting > 0 { format!(" {} waiting", now.waiting) } else { String::new() };
    format!(
        "{at_seconds}/{of_seconds} s | {} offered {} admitted {} refused {} failed per s | p50 {} p99 {} ms | \
         {} in flight{waiting}",
        rate(now.offered, before.offered),
        rate(now.admitted, before.admitted),
        rate(now.refused, before.refused),
        rate(now.failed, before.failed),
        millis(now.p50_us),
        millis(now.p99_us),
        now.in_flight,
    )
}

fn millis(us: u64) -> String {
    format!("{:.1}", us as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_one() {
        ProgressStyle::with_template(TEMPLATE).expect("a template");
    }

    #[test]
    fn rates_are_of_the_time_since_the_reading_before() {
        let before = Reading { offered: 100, admitted: 50, ..Reading::default() };
        let now = Reading { offered: 300, admitted: 150, refused: 9, p99_us: 12_340, in_flight: 4, ..before };
        assert_eq!(
            line(3, 10, &now, &before, 0.5),
            "3/10 s | 400 offered 200 admitted 18 refused 0 failed per s | p50 0.0 p99 12.3 ms | 4 in flight"
        );
        let waiting = Reading { waiting: 7, ..now };
        assert!(line(3, 10, &waiting, &now, 0.0).ends_with("4 in flight 7 waiting"));
    }
}
