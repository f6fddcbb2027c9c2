//! What several interleaved rounds come to.
//!
//! Responsible for medians, for ratios of the same round, and for saying how far the rounds lie apart. Must never
//! compare figures of different rounds: what else the machine did would be in the ratio.

use std::time::Duration;

use serde_json::{Value, json};

use crate::compare::point::Point;
use crate::compare::stage::Sample;
use crate::report::Table;

/// Every point with its rounds.
#[derive(Debug, Default)]
pub struct Figures {
    points: Vec<(Point, Vec<Sample>)>,
}

/// The points all others are held against, with the title of the column.
const BASES: [(Point, &str, &str); 5] = [
    (Point::Bare, "× bare", "times_bare"),
    (Point::Evalsha, "× EVALSHA", "times_evalsha"),
    (Point::Static429, "× 429", "times_static_429"),
    (Point::Upstream, "× upstream", "times_upstream"),
    (Point::Nginx, "× nginx", "times_nginx"),
];

impl Figures {
    /// Adds a round of a point. Every point has the same number of rounds, or ratios end with the shorter.
    pub fn add(&mut self, point: Point, sample: Sample) {
        match self.points.iter_mut().find(|(one, _)| *one == point) {
            Some((_, samples)) => samples.push(sample),
            None => self.points.push((point, vec![sample])),
        }
    }

    fn samples(&self, point: Point) -> &[Sample] {
        self.points.iter().find(|(one, _)| *one == point).map_or(&[], |(_, samples)| samples)
    }

    /// Requests per second of one point in those of another: the median of the rounds. `None` if either is missing.
    fn ratio(&self, point: Point, base: Point) -> Option<f64> {
        let pairs = self.samples(point).iter().zip(self.samples(base));
        median(pairs.map(|(one, base)| one.per_second / base.per_second).filter(|ratio| ratio.is_finite()))
    }

    /// The points that have rounds, in the order in which they were added.
    pub fn points(&self) -> impl Iterator<Item = Point> {
        self.points.iter().map(|(point, _)| *point)
    }

    /// A figure of a point: the median of the rounds.
    #[must_use]
    pub fn median(&self, point: Point, figure: fn(&Sample) -> f64) -> Option<f64> {
        median_of(self.samples(point), figure)
    }

    /// A figure of one point less that of another: the median of the rounds. `None` if either is missing.
    #[must_use]
    pub fn difference(&self, point: Point, base: Point, figure: fn(&Sample) -> f64) -> Option<f64> {
        let pairs = self.samples(point).iter().zip(self.samples(base));
        median(pairs.map(|(one, base)| figure(one) - figure(base)))
    }

    /// One row for each point.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut header = vec!["request", "requests/s", "±"];
        header.extend(BASES.iter().map(|(_, title, _)| *title));
        header.extend([
            "p50 ms",
            "p99 ms",
            "server µs",
            "client µs",
            "redis µs",
            "behind µs",
            "all µs",
            "bytes",
            "other",
        ]);
        let mut table = Table::new(&header);
        for (point, samples) in &self.points {
            let ratio = |base: usize| shown(self.ratio(*point, BASES[base].0), 2);
            let cpu = |used: fn(&Sample) -> Option<Duration>| shown(per_answer_us(samples, used), 1);
            let bytes = samples.iter().filter_map(|sample| sample.answer_bytes).max();
            table.row([
                point.title().to_owned(),
                shown(median_of(samples, |sample| sample.per_second), 0),
                shown(spread(samples).map(|share| share * 100.0), 0) + " %",
                ratio(0),
                ratio(1),
                ratio(2),
                ratio(3),
                ratio(4),
                shown(median_of(samples, |sample| sample.p50_ms), 2),
                shown(median_of(samples, |sample| sample.p99_ms), 2),
                cpu(|sample| sample.server),
                cpu(|sample| Some(sample.client)),
                cpu(|sample| Some(sample.redis)),
                cpu(|sample| sample.behind),
                cpu(|sample| Some(sample.all())),
                bytes.map(|bytes| bytes.to_string()).unwrap_or_default(),
                samples.iter().map(|sample| sample.unexpected).sum::<u64>().to_string(),
            ]);
        }
        table
    }

    /// The same as JSON: one object for each point.
    #[must_use]
    pub fn json(&self) -> Vec<Value> {
        let row = |(point, samples): &(Point, Vec<Sample>)| {
            let mut row = json!({
                "request": point.title(),
                "rounds": samples.len(),
                "answers": samples.iter().map(|sample| sample.answers).sum::<u64>(),
                "unexpected": samples.iter().map(|sample| sample.unexpected).sum::<u64>(),
                "answer_bytes": samples.iter().filter_map(|sample| sample.answer_bytes).max(),
                "per_second": median_of(samples, |sample| sample.per_second),
                "spread": spread(samples),
                "p50_ms": median_of(samples, |sample| sample.p50_ms),
                "p99_ms": median_of(samples, |sample| sample.p99_ms),
                "server_us": per_answer_us(samples, |sample| sample.server),
                "client_us": per_answer_us(samples, |sample| Some(sample.client)),
                "redis_us": per_answer_us(samples, |sample| Some(sample.redis)),
                "behind_us": per_answer_us(samples, |sample| sample.behind),
            });
            for (base, _, name) in BASES {
                row[name] = json!(self.ratio(*point, base));
            }
            row
        };
        self.points.iter().map(row).collect()
    }
}

/// Processor time per answer over all rounds, µs: single rounds are too short for a clock of 10 ms.
fn per_answer_us(samples: &[Sample], used: impl Fn(&Sample) -> Option<Duration>) -> Option<f64> {
    let answers: u64 = samples.iter().map(|sample| sample.answers + sample.unexpected).sum();
    let used = samples.iter().map(used).sum::<Option<Duration>>()?;
    (answers > 0).then(|| used.as_secs_f64() * 1e6 / answers as f64)
}

fn median_of(samples: &[Sample], figure: impl Fn(&Sample) -> f64) -> Option<f64> {
    median(samples.iter().map(figure))
}

/// The difference between the fastest and the slowest round, as a share of the median.
fn spread(samples: &[Sample]) -> Option<f64> {
    let rates = || samples.iter().map(|sample| sample.per_second);
    let (most, least) = (rates().reduce(f64::max)?, rates().reduce(f64::min)?);
    median(rates()).filter(|&middle| middle > 0.0).map(|middle| (most - least) / middle)
}

/// The value in the middle; `None` of nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// A figure, or a dash where there is none.
pub(crate) fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(per_second: f64) -> Sample {
        let (answers, server) = (per_second as u64, Some(Duration::from_millis(10)));
        Sample { answers, per_second, server, ..Sample::default() }
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut figures = Figures::default();
        // The second round ran on a machine half as fast.
        for (bare, admitted) in [(1000.0, 500.0), (500.0, 250.0), (1000.0, 500.0)] {
            figures.add(Point::Bare, sample(bare));
            figures.add(Point::Admitted, sample(admitted));
        }
        assert_eq!(figures.ratio(Point::Admitted, Point::Bare), Some(0.5));
        assert_eq!(figures.ratio(Point::Admitted, Point::Static429), None);
        let json = figures.json();
        assert_eq!((&json[1]["times_bare"], &json[1]["times_static_429"]), (&json!(0.5), &Value::Null));
        assert_eq!(json[0]["server_us"], json!(30_000.0 / 2500.0));
    }

    #[test]
    fn nothing_measured_is_nothing_shown() {
        let mut figures = Figures::default();
        figures.add(Point::Bare, Sample::default());
        figures.add(Point::Admitted, Sample::default());
        let table = figures.table().to_string();
        assert!(table.contains('–') && !table.contains("NaN"), "{table}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }
}
