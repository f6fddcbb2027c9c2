//! How long calls took: percentiles of all, of each class of outcome, and of each slice of time.
//!
//! Responsible for figures over a journal, always from the intended time, so that a stalled server cannot hide behind
//! the calls it kept from being sent (coordinated omission). Must never leave out a call of the class asked for.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::record::{Call, Outcome};

/// Longest time told apart, µs: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// What came of a call, as far as latencies are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Answered with a task.
    Admitted,
    /// Answered otherwise.
    Refused,
    /// Not answered: the time until hope was given up.
    Failed,
}

impl Class {
    /// The class of a call.
    #[must_use]
    pub fn of(call: &Call) -> Self {
        match &call.outcome {
            Outcome::Answered(_) if call.is_accepted() => Self::Admitted,
            Outcome::Answered(_) => Self::Refused,
            Outcome::Failed { .. } => Self::Failed,
        }
    }
}

/// Percentiles of so many times, µs, to three digits. All 0 where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half took no longer.
    pub p50_us: u64,
    /// Nine of ten took no longer.
    pub p90_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// 999 of 1000 took no longer.
    pub p999_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// A slice of a run's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// When it begins, µs since the start.
    pub from_us: u64,
    /// Of the calls intended in it, by class. A class without calls is missing.
    pub by_class: BTreeMap<Class, Percentiles>,
}

/// Percentiles of these times.
#[must_use]
pub fn percentiles(times_us: impl IntoIterator<Item = u64>) -> Percentiles {
    let mut histogram = histogram();
    for time_us in times_us {
        histogram.saturating_record(time_us);
    }
    of(&histogram)
}

/// Latencies of all answered calls.
#[must_use]
pub fn answered(calls: &[Call]) -> Percentiles {
    percentiles(calls.iter().filter(|call| Class::of(call) != Class::Failed).map(Call::latency_us))
}

/// Latencies by class of outcome.
#[must_use]
pub fn by_class(calls: &[Call]) -> BTreeMap<Class, Percentiles> {
    classes(&calls.iter().collect::<Vec<_>>())
}

/// Latencies by slices of this length (at least 1 µs) and class, from the first to the last slice in which a call was
/// intended. A slice in between without calls is there, and empty.
#[must_use]
pub fn by_slice(calls: &[Call], slice_us: u64) -> Vec<Slice> {
    let slice_us = slice_us.max(1);
    let mut ordered: Vec<&Call> = calls.iter().collect();
    ordered.sort_unstable_by_key(|call| call.intended_us);
    let (Some(first), Some(last)) = (ordered.first(), ordered.last()) else { return Vec::new() };
    let numbers = first.intended_us / slice_us..=last.intended_us / slice_us;
    let mut rest = ordered.as_slice();
    numbers
        .map(|number| {
            let length = rest.partition_point(|call| call.intended_us / slice_us <= number);
            let (here, after) = rest.split_at(length);
            rest = after;
            Slice { from_us: number * slice_us, by_class: classes(here) }
        })
        .collect()
}

/// How late calls were sent: the generator's own lag. A run in which it is not small beside the latencies has measured
/// the generator.
#[must_use]
pub fn behind(calls: &[Call]) -> Percentiles {
    percentiles(calls.iter().map(|call| call.sent_us.saturating_sub(call.intended_us)))
}

/// Three significant digits, up to an hour.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap_or_else(|_| unreachable!("constant bounds are valid"))
}

fn classes(calls: &[&Call]) -> BTreeMap<Class, Percentiles> {
    let all = [Class::Admitted, Class::Refused, Class::Failed].into_iter();
    let figures = all.map(|class| {
        let of_class = calls.iter().filter(|call| Class::of(call) == class);
        (class, percentiles(of_class.map(|call| call.latency_us())))
    });
    figures.filter(|(_, figures)| figures.count > 0).collect()
}

fn of(histogram: &Histogram<u64>) -> Percentiles {
    let at = |quantile| histogram.value_at_quantile(quantile).min(histogram.max());
    Percentiles {
        count: histogram.len(),
        mean_us: histogram.mean(),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: histogram.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Answered;

    fn call(intended_us: u64, sent_us: u64, ended_us: u64, status: Option<u16>) -> Call {
        let outcome = match status {
            Some(status) => Outcome::Answered(Answered { status, ..Answered::default() }),
            None => Outcome::Failed { why: "timeout".to_owned(), sent: true },
        };
        let (caller, request, repetition, gateway, kind) = (0, 0, 0, 0, "chat".to_owned());
        Call { caller, request, repetition, gateway, kind, intended_us, sent_us, ended_us, outcome }
    }

    #[test]
    fn latency_counts_from_the_intention() {
        let calls = [call(1000, 5000, 6000, Some(202))];
        assert_eq!((answered(&calls).max_us / 10, behind(&calls).max_us / 10), (500, 400));
    }

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let figures = percentiles(1..=100_000);
        for (found, exact) in [(figures.p50_us, 50_000.0), (figures.p99_us, 99_000.0), (figures.p999_us, 99_900.0)] {
            assert!((found as f64 / exact - 1.0).abs() < 0.001, "{found} is not {exact}");
        }
        assert_eq!(figures.count, 100_000);
        assert_eq!(percentiles([]), Percentiles::default());
    }

    #[test]
    fn classes_are_kept_apart() {
        let calls = [call(0, 0, 10, Some(202)), call(0, 0, 20, Some(429)), call(0, 0, 30, None)];
        let found: Vec<(Class, u64)> = by_class(&calls).into_iter().map(|(class, of)| (class, of.max_us)).collect();
        assert_eq!(found, [(Class::Admitted, 10), (Class::Refused, 20), (Class::Failed, 30)]);
        assert_eq!((answered(&calls).count, answered(&calls).max_us), (2, 20));
    }

    #[test]
    fn every_call_is_in_the_slice_of_its_intention() {
        let calls = [call(2_500, 2_500, 9_000, Some(202)), call(999, 999, 5_000, Some(202)), call(0, 0, 1, None)];
        let slices = by_slice(&calls, 1000);
        let counts: Vec<(u64, u64)> =
            slices.iter().map(|slice| (slice.from_us, slice.by_class.values().map(|of| of.count).sum())).collect();
        assert_eq!(counts, [(0, 2), (1000, 0), (2000, 1)]);
        assert!(by_slice(&[], 1000).is_empty());
    }
}
