//! Plots of what clients saw.
//!
//! Responsible for calls by the moment that matters: latency by when a call was intended, answers by when they came.
//! Must never draw a percentile where nobody called.

use std::collections::BTreeMap;

use crate::record::Record;
use crate::report::figures::traffic::Class;
use crate::report::plot::chart::{Chart, Color, Layout, Line};
use crate::report::plot::series::{Segments, Span, segments};

/// Percentiles of the time to an answer.
#[must_use]
pub fn latency(record: &Record, span: &Span) -> Chart {
    let by_bucket = |wanted: fn(&Class<'_>) -> bool| {
        let mut times: Vec<Vec<u64>> = vec![Vec::new(); span.buckets()];
        for call in record.calls.iter().filter(|call| wanted(&Class::of(call))) {
            times[span.bucket(call.intended_us)].push(call.latency_us());
        }
        for times in &mut times {
            times.sort_unstable();
        }
        times
    };
    let admitted = by_bucket(|class| matches!(class, Class::Admitted));
    let refused = by_bucket(|class| matches!(class, Class::Refused { .. }));
    let line = |name: &str, color: Color, dashed: bool, times: &[Vec<u64>], quantile: f64| {
        let points = percentile(span, times, quantile);
        Line { name: name.to_owned(), color, dashed, points }
    };
    let lines = vec![
        line("admitted p50", Color::GOOD, false, &admitted, 0.5),
        line("admitted p90", Color::nth(0), false, &admitted, 0.9),
        line("admitted p99", Color::nth(2), false, &admitted, 0.99),
        line("admitted, longest", Color::nth(5), true, &admitted, 1.0),
        line("refused p50", Color::nth(4), false, &refused, 0.5),
        line("refused p99", Color::nth(1), false, &refused, 0.99),
    ];
    Chart { title: "Time to an answer", about: "ms, from the intended moment", layout: Layout::Logarithmic, lines }
}

/// The value at a quantile of each bucket's sorted times, ms.
fn percentile(span: &Span, times: &[Vec<u64>], quantile: f64) -> Segments {
    segments(times.iter().enumerate().map(|(bucket, times)| {
        let rank = (times.len() as f64 * quantile).ceil() as usize;
        let time = times.get(rank.saturating_sub(1))?;
        Some((span.middle(bucket), *time as f64 / 1e3))
    }))
}

/// Answers per second by what they were, on top of each other.
#[must_use]
pub fn answers(record: &Record, span: &Span) -> Chart {
    let mut counts: BTreeMap<(u8, String), Vec<u64>> = BTreeMap::new();
    for call in &record.calls {
        // Admitted at the bottom, failed on top.
        let name = match Class::of(call) {
            Class::Admitted => (0, "admitted".to_owned()),
            Class::Refused { code, .. } => (1, code.to_owned()),
            Class::Unexpected => (2, "unexpected".to_owned()),
            Class::Failed(_) => (3, "failed".to_owned()),
        };
        counts.entry(name).or_insert_with(|| vec![0; span.buckets()])[span.bucket(call.ended_us)] += 1;
    }
    let per_second = |(bucket, count): (usize, &u64)| (span.middle(bucket), *count as f64 / span.bucket_seconds());
    let lines = counts.iter().enumerate().map(|(number, ((rank, name), counts))| Line {
        name: name.clone(),
        color: match rank {
            0 => Color::GOOD,
            3 => Color::BAD,
            _ => Color::nth(number),
        },
        dashed: false,
        points: vec![counts.iter().enumerate().map(per_second).collect()],
    });
    Chart {
        title: "Answers",
        about: "per second, on top of each other",
        layout: Layout::Stacked,
        lines: lines.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{admitted, failed, record_of, refused};

    #[test]
    fn a_percentile_is_of_its_bucket() {
        let mut slow = admitted(2, 5_000_000);
        slow.ended_us = 6_000_000;
        let record = record_of(vec![admitted(0, 0), admitted(1, 10), slow]);
        let chart = latency(&record, &Span::of(&record));
        let p50 = &chart.lines[0].points;
        assert_eq!(p50.len(), 2, "{p50:?}");
        assert!((p50[0][0].1 - 1.0).abs() < 1e-9 && (p50[1][0].1 - 1000.0).abs() < 1e-9, "{p50:?}");
    }

    #[test]
    fn every_call_is_in_the_stack() {
        let record = record_of(vec![admitted(0, 0), refused(1, 0, "hard_limit"), failed(2, 400_000, "reset")]);
        let span = Span::of(&record);
        let chart = answers(&record, &span);
        let names: Vec<&str> = chart.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["admitted", "hard_limit", "failed"]);
        let total: f64 = chart.lines.iter().flat_map(|line| line.points[0].iter()).map(|point| point.1).sum();
        assert!((total * span.bucket_seconds() - 3.0).abs() < 1e-9);
    }
}
