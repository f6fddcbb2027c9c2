//! Times of many, told by a few quantiles.
//!
//! Responsible for a histogram whose error is known, and for what is said where there is nothing. Must never report a
//! mean: the mean of latencies hides whom it hurts.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// An hour: longer than any run waits for anything.
const LONGEST_US: u64 = 3_600_000_000;

/// Quantiles of a time, ms. All 0 where `count` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were measured.
    pub count: u64,
    /// Half took at most this.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// 99 of a hundred.
    pub p99_ms: f64,
    /// 999 of a thousand.
    pub p999_ms: f64,
    /// All.
    pub max_ms: f64,
}

impl Quantiles {
    /// Of these times, µs. Within 0.1 %; whatever took more than an hour counts as an hour.
    pub fn of(micros: impl IntoIterator<Item = u64>) -> Self {
        let mut histogram = histogram();
        for time in micros {
            histogram.saturating_record(time);
        }
        Self::read(&histogram)
    }

    /// Of a histogram of µs.
    #[must_use]
    pub fn read(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            // The bucket's upper bound may be above what was recorded.
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

/// For times in µs: three significant digits, up to an hour.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).unwrap_or_else(|_| unreachable!("constant bounds are valid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_quantiles_of_a_thousand_times() {
        let quantiles = Quantiles::of((1..=1000).map(|ms| ms * 1000));
        let near = |found: f64, wanted: f64| (found - wanted).abs() <= wanted / 1000.0 + 0.001;
        assert_eq!(quantiles.count, 1000);
        assert!(near(quantiles.p50_ms, 500.0) && near(quantiles.p90_ms, 900.0), "{quantiles:?}");
        assert!(near(quantiles.p99_ms, 990.0) && near(quantiles.p999_ms, 999.0), "{quantiles:?}");
        assert!(near(quantiles.max_ms, 1000.0), "{quantiles:?}");
    }

    #[test]
    fn nothing_has_no_quantiles() {
        assert_eq!(Quantiles::of([]), Quantiles::default());
    }

    #[test]
    fn counts_what_is_beyond_all_bounds() {
        let quantiles = Quantiles::of([0, u64::MAX]);
        assert_eq!(quantiles.count, 2);
        assert!(quantiles.max_ms >= 3_600_000.0);
    }
}
