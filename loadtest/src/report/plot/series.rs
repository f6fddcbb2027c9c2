//! From a record to points over time, few enough to look at.
//!
//! Responsible for buckets of calls, for rates of counters, and for keeping the peaks of what is thinned out. Must
//! never draw a line over a time of which nothing is known.

use crate::record::{Record, Sample};

/// Points of one line: runs of points that belong together, seconds and value.
pub type Segments = Vec<Vec<(f64, f64)>>;

/// Buckets of calls over the whole time.
const BUCKETS: u64 = 120;
/// The narrowest bucket, µs.
const BUCKET_MIN_US: u64 = 100_000;
/// Points that a line of samples is thinned to, at most two for each of so many parts of the time.
const PARTS: usize = 300;

/// The time a run's plots show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Its end, µs since the start; at least one bucket.
    pub end_us: u64,
    /// Width of a bucket, µs.
    pub bucket_us: u64,
}

impl Span {
    /// From the start to the last thing the record knows of.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let calls = record.calls.iter().map(|call| call.ended_us).max();
        let samples = record.samples.iter().map(|sample| sample.at_us).max();
        let end_us = [Some(record.took_us), calls, samples].into_iter().flatten().max().unwrap_or_default();
        let end_us = end_us.max(BUCKET_MIN_US);
        Self { end_us, bucket_us: (end_us / BUCKETS).max(BUCKET_MIN_US) }
    }

    /// The end, seconds.
    #[must_use]
    pub fn end_seconds(&self) -> f64 {
        self.end_us as f64 / 1e6
    }

    /// How many buckets there are.
    #[must_use]
    pub fn buckets(&self) -> usize {
        (self.end_us / self.bucket_us) as usize + 1
    }

    /// The bucket of this moment.
    #[must_use]
    pub fn bucket(&self, at_us: u64) -> usize {
        ((at_us / self.bucket_us) as usize).min(self.buckets() - 1)
    }

    /// The middle of a bucket, seconds.
    #[must_use]
    pub fn middle(&self, bucket: usize) -> f64 {
        let middle_us = bucket as f64 * self.bucket_us as f64 + self.bucket_us as f64 / 2.0;
        middle_us.min(self.end_us as f64) / 1e6
    }

    /// Width of a bucket, seconds.
    #[must_use]
    pub fn bucket_seconds(&self) -> f64 {
        self.bucket_us as f64 / 1e6
    }
}

/// Joins points that follow each other; `None` breaks the line.
#[must_use]
pub fn segments(points: impl IntoIterator<Item = Option<(f64, f64)>>) -> Segments {
    let mut segments = vec![Vec::new()];
    for point in points {
        match (point, segments.last_mut()) {
            (Some(point), Some(last)) => last.push(point),
            (None, Some(last)) if !last.is_empty() => segments.push(Vec::new()),
            _ => {}
        }
    }
    segments.retain(|segment| !segment.is_empty());
    segments
}

/// A number of every sample over time.
#[must_use]
pub fn gauge(record: &Record, span: &Span, value: impl Fn(&Sample) -> Option<f64>) -> Segments {
    let points = record.samples.iter().map(|sample| Some((sample.at_us as f64 / 1e6, value(sample)?)));
    thinned(segments(points), span)
}

/// How fast a counter grew from one sample to the next, per second. Where it fell it began anew: nothing is known of
/// that step.
#[must_use]
pub fn rate(record: &Record, span: &Span, total: impl Fn(&Sample) -> Option<u64>) -> Segments {
    let points = record.samples.windows(2).map(|pair| {
        let grown = total(&pair[1])?.checked_sub(total(&pair[0])?)? as f64;
        let seconds = pair[1].at_us.checked_sub(pair[0].at_us).filter(|&passed| passed > 0)? as f64 / 1e6;
        Some((pair[1].at_us as f64 / 1e6, grown / seconds))
    });
    thinned(segments(points), span)
}

/// Keeps the least and the most of every part of the time, in their order.
fn thinned(segments: Segments, span: &Span) -> Segments {
    let width = span.end_seconds() / PARTS as f64;
    segments.into_iter().map(|points| if points.len() > PARTS { extremes(&points, width) } else { points }).collect()
}

fn extremes(points: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for part in points.chunk_by(|a, b| (a.0 / width).floor() >= (b.0 / width).floor()) {
        let least = part.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let most = part.iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let mut both: Vec<(f64, f64)> = least.into_iter().chain(most).copied().collect();
        both.sort_by(|a, b| a.0.total_cmp(&b.0));
        both.dedup();
        kept.extend(both);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_breaks_where_nothing_is_known() {
        let found = segments([None, Some((1.0, 1.0)), Some((2.0, 2.0)), None, None, Some((5.0, 5.0))]);
        assert_eq!(found, vec![vec![(1.0, 1.0), (2.0, 2.0)], vec![(5.0, 5.0)]]);
        assert!(segments([None, None]).is_empty());
    }

    #[test]
    fn every_moment_has_a_bucket() {
        for end_us in [0, 1, 99_999, 100_000, 12_345_678, u64::MAX] {
            let span = Span::of(&Record { took_us: end_us, ..Record::default() });
            assert!(span.buckets() <= BUCKETS as usize + 2, "{span:?}");
            assert_eq!(span.bucket(0), 0);
            assert!(span.bucket(u64::MAX) < span.buckets());
            assert!(span.middle(span.buckets() - 1) <= span.end_seconds());
        }
    }

    #[test]
    fn a_restart_is_a_gap_in_a_rate() {
        let sample = |at_us, memory| Sample { at_us, redis_memory_bytes: Some(memory), ..Sample::default() };
        let samples = vec![sample(0, 0), sample(1_000_000, 50), sample(2_000_000, 10), sample(3_000_000, 30)];
        let record = Record { samples, ..Record::default() };
        let found = rate(&record, &Span::of(&record), |sample| sample.redis_memory_bytes);
        assert_eq!(found, vec![vec![(1.0, 50.0)], vec![(3.0, 20.0)]]);
    }

    #[test]
    fn thinning_keeps_the_peaks() {
        let points: Vec<(f64, f64)> = (0..10_000).map(|n| (f64::from(n), f64::from(u8::from(n == 7777)))).collect();
        let span = Span { end_us: 10_000_000_000, bucket_us: 1 };
        let thin = thinned(vec![points], &span);
        assert!(thin[0].len() <= 2 * (PARTS + 1), "{}", thin[0].len());
        assert!(thin[0].contains(&(7777.0, 1.0)));
        assert!(thin[0].is_sorted_by(|a, b| a.0 <= b.0));
    }
}
