//! What a proxy adds to the time of an answer.
//!
//! Responsible for the ways to one application, each asked over a single connection: with many, an answer would wait
//! for others, and the time would be that of the queue. Must never take differences of different rounds.

use serde_json::{Value, json};

use crate::compare::figure::{Figures, shown};
use crate::compare::point::Point;
use crate::compare::stage::Sample;
use crate::report::Table;

/// The ways to the application, the direct one first.
pub const WAYS: [Point; 4] = [Point::Upstream, Point::Nginx, Point::ProxiedRead, Point::ProxiedGuarded];

/// What a time is held against.
const BASES: [(Point, &str); 2] = [(Point::Upstream, "over_upstream"), (Point::Nginx, "over_nginx")];

/// What is taken of a round.
type Part = fn(&Sample) -> f64;

/// Which part of the answers.
const QUANTILES: [(&str, Part); 2] = [("p50", |sample| sample.p50_ms), ("p99", |sample| sample.p99_ms)];

/// One row for each way.
#[must_use]
pub fn table(alone: &Figures) -> Table {
    let mut table = Table::new(&[
        "way",
        "p50 ms",
        "p50 over upstream",
        "p50 over nginx",
        "p99 ms",
        "p99 over upstream",
        "p99 over nginx",
    ]);
    for point in alone.points() {
        let [[p50, p50_upstream, p50_nginx], [p99, p99_upstream, p99_nginx]] = QUANTILES.map(|(_, figure)| {
            let [upstream, nginx] = BASES.map(|(base, _)| alone.difference(point, base, figure));
            [alone.median(point, figure), upstream, nginx].map(|ms| shown(ms, 3))
        });
        table.row([point.title().to_owned(), p50, p50_upstream, p50_nginx, p99, p99_upstream, p99_nginx]);
    }
    table
}

/// The same as JSON: one object for each way.
#[must_use]
pub fn json(alone: &Figures) -> Vec<Value> {
    let row = |point: Point| {
        let mut row = json!({"request": point.title()});
        for (quantile, figure) in QUANTILES {
            row[format!("{quantile}_ms")] = json!(alone.median(point, figure));
            for (base, over) in BASES {
                row[format!("{quantile}_{over}_ms")] = json!(alone.difference(point, base, figure));
            }
        }
        row
    };
    alone.points().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_of_the_same_round() {
        let mut alone = Figures::default();
        // The second round ran on a machine half as fast.
        for (direct, proxied) in [(0.25, 0.5), (0.5, 1.0), (0.25, 0.5)] {
            alone.add(Point::Upstream, Sample { p50_ms: direct, p99_ms: direct, ..Sample::default() });
            alone.add(Point::ProxiedRead, Sample { p50_ms: proxied, p99_ms: 2.0 * proxied, ..Sample::default() });
        }
        let rows = json(&alone);
        assert_eq!((&rows[0]["p50_over_upstream_ms"], &rows[1]["p50_ms"]), (&json!(0.0), &json!(0.5)));
        assert_eq!(rows[1]["p50_over_upstream_ms"], json!(0.25));
        assert_eq!(rows[1]["p99_over_upstream_ms"], json!(0.75));
        assert_eq!(rows[1]["p99_over_nginx_ms"], Value::Null);
        assert!(table(&alone).to_string().contains("0.250"));
    }
}
