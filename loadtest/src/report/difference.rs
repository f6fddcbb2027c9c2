//! One run against another: what changed, and what changed for the worse.
//!
//! Responsible for a verdict that CI can act on. Must never call a difference worse that is smaller than it was asked
//! to look for, and must never overlook an invariant that held before.

use crate::report::Table;
use crate::report::measure::{Better, Measure};
use crate::report::summary::Summary;

/// Two runs, figure by figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Every figure that either run has.
    pub rows: Vec<Row>,
    /// What the later run breaks that the earlier did not: invariants and expectations, in words.
    pub broken: Vec<String>,
    /// What makes a comparison doubtful, in words.
    pub doubts: Vec<String>,
}

/// One figure in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the figure.
    pub name: String,
    /// Its unit.
    pub unit: &'static str,
    /// In the earlier run.
    pub before: Option<f64>,
    /// In the later run.
    pub after: Option<f64>,
    /// What that means.
    pub trend: Trend,
}

/// What a change means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// Within the threshold, or not to be judged.
    Same,
    /// Better by more than the threshold.
    Better,
    /// Worse by more than the threshold.
    Worse,
}

/// Compares two runs; `threshold` is the share by which a figure must change to count, such as 0.1.
#[must_use]
pub fn difference(before: &Summary, after: &Summary, threshold: f64) -> Difference {
    let (earlier, later) = (before.figures.measures(), after.figures.measures());
    let value = |list: &[Measure], name: &str| list.iter().find(|one| one.name == name).and_then(|one| one.value);
    let gone = earlier.iter().filter(|one| !later.iter().any(|other| other.name == one.name));
    let rows = later.iter().chain(gone).map(|measure| {
        let (before, after) = (value(&earlier, &measure.name), value(&later, &measure.name));
        let trend = trend(measure.better, before, after, threshold);
        Row { name: measure.name.clone(), unit: measure.unit, before, after, trend }
    });
    let rows = rows.filter(|row| row.before.is_some() || row.after.is_some()).collect();
    Difference { rows, broken: broken(before, after), doubts: doubts(before, after) }
}

fn trend(better: Better, before: Option<f64>, after: Option<f64>, threshold: f64) -> Trend {
    let (Some(before), Some(after)) = (before, after) else { return Trend::Same };
    let (gain, worst) = match better {
        Better::Higher => (after - before, before),
        Better::Lower => (before - after, before),
        Better::Neither => return Trend::Same,
    };
    // Against 0 every change counts.
    if gain.abs() <= worst.abs() * threshold {
        Trend::Same
    } else if gain > 0.0 {
        Trend::Better
    } else {
        Trend::Worse
    }
}

fn broken(before: &Summary, after: &Summary) -> Vec<String> {
    let new = |earlier: Vec<&str>, later: Vec<&str>, what: &str| -> Vec<String> {
        let later = later.into_iter().filter(|name| !earlier.contains(name));
        later.map(|name| format!("{what}: {name}")).collect()
    };
    let mut broken = new(before.violated(), after.violated(), "invariant violated");
    let (held, now) = (before.held(), [after.held(), after.violated()].concat());
    broken.extend(new(now, held, "invariant held, and is not judged any more"));
    broken.extend(new(before.unmet(), after.unmet(), "expectation not met"));
    broken
}

fn doubts(before: &Summary, after: &Summary) -> Vec<String> {
    let mut doubts = Vec::new();
    if before.name != after.name {
        doubts.push(format!("these are runs of two scenarios: {} and {}", before.name, after.name));
    }
    let (earlier, later) = (before.took_seconds, after.took_seconds);
    if (earlier - later).abs() > 0.1 * earlier.max(later) {
        doubts.push(format!("one took {earlier:.1} s, the other {later:.1} s"));
    }
    doubts
}

impl Difference {
    /// Whether anything is worse or newly broken.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        !self.broken.is_empty() || self.rows.iter().any(|row| row.trend == Trend::Worse)
    }

    /// All figures, then what to know about them.
    #[must_use]
    pub fn text(&self) -> String {
        let mut table = Table::new(&["figure", "before", "after", "unit", "change", ""]);
        for row in &self.rows {
            let trend = match row.trend {
                Trend::Same => "",
                Trend::Better => "better",
                Trend::Worse => "WORSE",
            };
            table.row([
                row.name.clone(),
                shown(row.before),
                shown(row.after),
                row.unit.to_owned(),
                change(row.before, row.after),
                trend.to_owned(),
            ]);
        }
        let notes = self.doubts.iter().map(|doubt| format!("note: {doubt}\n"));
        let broken = self.broken.iter().map(|broken| format!("WORSE: {broken}\n"));
        format!("{table}{}{}", notes.collect::<String>(), broken.collect::<String>())
    }
}

/// Digits enough to see a change of a percent.
fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 1000.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn change(before: Option<f64>, after: Option<f64>) -> String {
    match (before, after) {
        (Some(before), Some(after)) if before.abs() > 0.0 => format!("{:+.1} %", (after / before - 1.0) * 100.0),
        (Some(_), Some(after)) if after.abs() > 0.0 => "new".to_owned(),
        (Some(_), Some(_)) => "+0.0 %".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::{Finding, Verdict, Verdicts};
    use crate::report::ExpectationResult;
    use crate::report::sample::{admitted, failed, record_of};

    fn summary(calls: Vec<crate::record::Call>) -> Summary {
        Summary::of(&record_of(calls), &crate::invariant::Verdicts::default(), &[])
    }

    fn of<'a>(difference: &'a Difference, name: &str) -> &'a Row {
        difference.rows.iter().find(|row| row.name == name).expect("a row")
    }

    #[test]
    fn a_run_is_as_good_as_itself() {
        let one = summary(vec![admitted(0, 0), admitted(1, 500_000)]);
        let difference = difference(&one, &one, 0.1);
        assert!(!difference.is_worse());
        assert!(difference.rows.iter().all(|row| row.trend == Trend::Same));
    }

    #[test]
    fn slower_is_worse_and_faster_is_better_beyond_the_threshold() {
        let run = |took_us: u64| {
            let mut call = admitted(0, 0);
            call.ended_us = took_us;
            summary(vec![call, admitted(1, 1_000_000)])
        };
        let trend = |before: u64, after: u64| of(&difference(&run(before), &run(after), 0.1), "admitted.p99").trend;
        assert_eq!(trend(100_000, 105_000), Trend::Same);
        assert_eq!(trend(100_000, 120_000), Trend::Worse);
        assert_eq!(trend(100_000, 80_000), Trend::Better);
        // The longest of many times is shown, not judged.
        assert_eq!(of(&difference(&run(1000), &run(9_000_000), 0.1), "admitted.longest").trend, Trend::Same);
    }

    #[test]
    fn the_first_failure_counts_whatever_the_threshold() {
        let before = summary(vec![admitted(0, 0), admitted(1, 1_000_000)]);
        let after = summary(vec![admitted(0, 0), failed(1, 1_000_000, "reset")]);
        let difference = difference(&before, &after, 5.0);
        assert_eq!(of(&difference, "failed_share").trend, Trend::Worse);
        assert!(difference.text().contains("WORSE"));
    }

    #[test]
    fn an_invariant_that_is_not_judged_any_more_counts() {
        let found = |finding: Finding| {
            let (invariant, meaning) = ("windows".to_owned(), String::new());
            let list = vec![Verdict { invariant, meaning, finding, left_out: Vec::new() }];
            Summary { verdicts: Verdicts { list }, ..Summary::default() }
        };
        let held = || found(Finding::Held { checked: 1 });
        let silent = || found(Finding::NotApplicable { why: String::new() });
        assert_eq!(difference(&held(), &silent(), 0.1).broken, ["invariant held, and is not judged any more: windows"]);
        assert!(!difference(&silent(), &silent(), 0.1).is_worse() && !difference(&silent(), &held(), 0.1).is_worse());
    }

    #[test]
    fn an_expectation_that_is_newly_unmet_counts() {
        let expected = |met| {
            let (name, wanted, found) = ("goodput".to_owned(), ">= 1".to_owned(), "0".to_owned());
            let expectation = ExpectationResult { name, wanted, found, met };
            Summary { expectations: vec![expectation], ..Summary::default() }
        };
        assert!(difference(&expected(true), &expected(false), 0.1).is_worse());
        assert!(!difference(&expected(false), &expected(false), 0.1).is_worse());
    }
}
