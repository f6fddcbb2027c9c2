//! What a scenario expects: a figure, a comparison, a threshold.
//!
//! Responsible for reading `">= 0.95"` and for the result a report shows. Must never take a figure that is not known
//! for one that is good enough.

use std::fmt;

use super::figure::{FIGURES, Figure, Of, Seen};
use super::parse::nearest;
use crate::report::ExpectationResult;

/// Something that is expected of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// Name of the figure.
    figure: &'static str,
    /// What it is of: a user type, a stream, a code.
    of: Option<String>,
    comparison: Comparison,
    threshold: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

/// Longer ones first: `>=` begins with `>`.
const SIGNS: [(&str, Comparison); 5] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

impl Expectation {
    /// Reads `figure` or `figure.of`, and a comparison such as `>= 0.95`.
    pub fn parse(name: &str, wanted: &str) -> Result<Self, String> {
        let (figure, of) = name.split_once('.').map_or((name, None), |(figure, of)| (figure, Some(of)));
        let Some(figure) = Figure::named(figure) else {
            let like = nearest(figure, FIGURES.iter().map(|figure| figure.name)).unwrap_or_default();
            return Err(format!("unknown figure; the nearest known one is `{like}`"));
        };
        match (figure.of, of) {
            (Of::Run, Some(_)) => return Err(format!("{} is of the whole run", figure.name)),
            (Of::Stream, None) => return Err(format!("needs the name of a stream: {}.STREAM", figure.name)),
            _ => {}
        }
        let wanted = wanted.trim();
        let read = SIGNS.iter().find_map(|(sign, comparison)| Some((*comparison, wanted.strip_prefix(sign)?)));
        let threshold =
            read.and_then(|(_, number)| number.trim().parse::<f64>().ok()).filter(|number| number.is_finite());
        match (read, threshold) {
            (Some((comparison, _)), Some(threshold)) => {
                Ok(Self { figure: figure.name, of: of.map(str::to_owned), comparison, threshold })
            }
            _ => Err(format!("{wanted:?} is no comparison such as \">= 0.95\"")),
        }
    }

    /// Holds it against a run.
    #[must_use]
    pub fn judge(&self, seen: &Seen<'_>) -> ExpectationResult {
        let found = Figure::named(self.figure).and_then(|figure| figure.of(seen, self.of.as_deref()));
        ExpectationResult {
            name: self.name(),
            wanted: self.wanted(),
            found: found.map_or_else(|| "not known from this run".to_owned(), shown),
            met: found.is_some_and(|found| self.is_met_by(found)),
        }
    }

    /// Whether the run shows its figure.
    #[must_use]
    pub fn is_known(&self, seen: &Seen<'_>) -> bool {
        Figure::named(self.figure).is_some_and(|figure| figure.of(seen, self.of.as_deref()).is_some())
    }

    /// Name of its figure and of what it is.
    #[must_use]
    pub fn name(&self) -> String {
        self.of.as_ref().map_or_else(|| self.figure.to_owned(), |of| format!("{}.{of}", self.figure))
    }

    /// The comparison, as in a scenario file.
    #[must_use]
    pub fn wanted(&self) -> String {
        format!("{} {}", self.comparison, self.threshold)
    }

    fn is_met_by(&self, found: f64) -> bool {
        match self.comparison {
            Comparison::AtLeast => found >= self.threshold,
            Comparison::AtMost => found <= self.threshold,
            Comparison::Above => found > self.threshold,
            Comparison::Below => found < self.threshold,
            Comparison::Equal => (found - self.threshold).abs() < f64::EPSILON,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|(_, comparison)| comparison == self).map_or("", |(sign, _)| sign);
        f.write_str(sign)
    }
}

/// Whole numbers as they are, others with as many digits as tell.
fn shown(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else if value.abs() < 10.0 {
        format!("{value:.4}")
    } else {
        format!("{value:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;
    use crate::report::Figures;
    use crate::report::sample::{admitted, failed, record_of};

    fn judged(name: &str, wanted: &str, record: &Record) -> ExpectationResult {
        let expectation = Expectation::parse(name, wanted).expect("an expectation");
        expectation.judge(&Seen { record, figures: &Figures::of(record) })
    }

    #[test]
    fn a_figure_is_compared() {
        let record = record_of(vec![admitted(0, 0), admitted(1, 10), admitted(2, 20), failed(3, 30, "timeout")]);
        for (wanted, met) in
            [(">= 0.75", true), ("> 0.75", false), ("<=0.75", true), ("< 0.75", false), ("== 0.75", true)]
        {
            let result = judged("admitted_share.paid", wanted, &record);
            assert_eq!((result.met, result.found.as_str()), (met, "0.7500"), "{wanted}");
        }
        assert!(!judged("failed_calls", "== 0", &record).met);
    }

    #[test]
    fn what_is_not_known_is_not_met() {
        let result = judged("drained_within_seconds", "<= 1000", &Record::default());
        assert!(!result.met && result.found.contains("not known"), "{result:?}");
    }

    #[test]
    fn a_slip_is_named() {
        let fault = |name, wanted| Expectation::parse(name, wanted).expect_err("a fault");
        assert!(fault("goodput_of_capcity", ">= 1").contains("`goodput_of_capacity`"));
        assert!(fault("failed_calls", "0").contains("no comparison"));
        assert!(fault("failed_calls", ">= many").contains("no comparison"));
        assert!(fault("failed_calls.paid", ">= 1").contains("whole run"));
        assert!(fault("redis_commands_ratio", "<= 1.2").contains("STREAM"));
    }
}
