//! What a simulation has shown, in words.
//!
//! Responsible for a failing seed being understood from the terminal: the rule, the smallest plan, the last events that
//! concern it, and how to see more. Must never decide what is a failure.

use std::fmt::Write as _;
use std::time::Duration;

use super::plan::Plan;
use super::series::Series;
use super::trace::time;
use super::{Mistake, run_traced, shrink};
use crate::report::Table;

/// Figures of a series that took this long.
#[must_use]
pub fn figures(series: &Series, took: Duration) -> String {
    let seconds = took.as_secs_f64().max(1e-9);
    let mut text = format!(
        "{} runs, {:.0} a second; {} events, {:.0} a second; {:.0} s of cluster time, {:.0} times as fast as life\n\n",
        series.runs,
        series.runs as f64 / seconds,
        series.events,
        series.events as f64 / seconds,
        series.lasted_us as f64 / 1e6,
        series.lasted_us as f64 / 1e6 / seconds,
    );
    let mut table = Table::new(&["met", "times"]);
    for (what, count) in series.coverage.iter() {
        table.row([what.to_owned(), count.to_string()]);
    }
    // Writing to a string cannot fail.
    _ = write!(text, "{table}");
    text
}

/// Why a plan fails: the smallest plan that does, and the last events that concern it. `None` if it does not fail.
#[must_use]
pub fn finding(plan: &Plan) -> Option<String> {
    let rule = super::run(plan).violation?.rule;
    let smallest = shrink(plan, rule);
    let run = run_traced(&smallest);
    let violation = run.violation?;
    let mut text = format!("seed {}: {} is broken at {} s\n", plan.seed, violation.rule, time(violation.at_us).trim());
    _ = writeln!(text, "{}\n", violation.what);
    _ = writeln!(text, "the smallest plan that breaks it: {}", words(&smallest));
    for trouble in &smallest.troubles {
        _ = writeln!(text, "{} {:?} for {} ms", time(trouble.at_us), trouble.what, trouble.lasts_us / 1000);
    }
    _ = writeln!(text, "\nthe last events that concern it:");
    for line in &run.evidence {
        _ = writeln!(text, "{line}");
    }
    Some(text)
}

fn words(plan: &Plan) -> String {
    let Plan { seconds, gateways, processors, clients, .. } = plan;
    let mistake = plan.mistake.map(|mistake: Mistake| format!(", mistake {mistake:?}")).unwrap_or_default();
    format!("{seconds} s, {gateways} gateways, {processors} processors, {clients} callers{mistake}")
}
