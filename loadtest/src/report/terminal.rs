//! A run on a terminal.
//!
//! Responsible for being read in a minute: tables, then what is broken with its evidence, then one line that says
//! whether the run was good. Must never leave a violation out.

use std::fmt::Write as _;

use crate::report::section::sections;
use crate::report::summary::Summary;

/// The whole report as text.
#[must_use]
pub fn terminal(summary: &Summary) -> String {
    let mut text = format!("{}\n", heading(summary));
    for section in sections(summary) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}\n", section.title);
        if !section.note.is_empty() {
            let _ = writeln!(text, "{}", section.note);
        }
        let _ = write!(text, "{}", section.table);
    }
    if !summary.verdicts.list.is_empty() {
        let _ = write!(text, "\nInvariants\n{}", summary.verdicts);
    }
    let _ = write!(text, "\n{}", verdict(summary));
    text
}

/// Which run this is, in a line.
#[must_use]
pub fn heading(summary: &Summary) -> String {
    let name = if summary.name.is_empty() { "a run without a name" } else { &summary.name };
    format!("{name}, seed {}, {:.1} s", summary.seed, summary.took_seconds)
}

/// Whether the run was good, in a line.
#[must_use]
pub fn verdict(summary: &Summary) -> String {
    let (violated, unmet) = (summary.violated(), summary.unmet());
    let (judged, expected) = (summary.verdicts.list.len() - summary.not_applicable(), summary.expectations.len());
    if judged + expected == 0 {
        return "NOT JUDGED: no invariant could be checked and nothing was expected".to_owned();
    }
    if summary.is_good() {
        return format!("GOOD: {judged} invariants held, {expected} expectations met");
    }
    let named = |what: &str, names: &[&str]| match names.len() {
        0 => None,
        count => Some(format!("{count} {what} ({})", names.join(", "))),
    };
    let faults = [named("invariants violated", &violated), named("expectations not met", &unmet)];
    format!("FAILED: {}", faults.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariant::{Finding, Verdict, Verdicts, Violation};
    use crate::report::sample::{admitted, record_of, refused};
    use crate::report::{ExpectationResult, Summary};

    fn violated() -> Verdicts {
        let (invariant, what) = ("windows".to_owned(), "11 in a window of 10".to_owned());
        let violation = Violation { invariant: invariant.clone(), what, evidence: vec!["event 7-0".to_owned()] };
        let finding = Finding::Violated { count: 1, violations: vec![violation] };
        let meaning = "no window above its limit".to_owned();
        Verdicts { list: vec![Verdict { invariant, meaning, finding, left_out: Vec::new() }] }
    }

    #[test]
    fn shows_evidence_and_ends_with_the_verdict() {
        let record = record_of(vec![admitted(0, 0), refused(1, 10, "burst_limit")]);
        let text = terminal(&Summary::of(&record, &violated(), &[]));
        assert!(text.contains("burst_limit") && text.contains("event 7-0"), "{text}");
        assert_eq!(text.lines().last(), Some("FAILED: 1 invariants violated (windows)"));
    }

    #[test]
    fn an_expectation_that_was_not_met_fails_the_run() {
        let (name, wanted, found) = ("goodput".to_owned(), ">= 1".to_owned(), "0".to_owned());
        let unmet = ExpectationResult { name, wanted, found, met: false };
        let text = terminal(&Summary::of(&record_of(vec![admitted(0, 0)]), &Verdicts::default(), &[unmet]));
        assert_eq!(text.lines().last(), Some("FAILED: 1 expectations not met (goodput)"));
    }

    #[test]
    fn a_good_run_says_how_much_was_judged() {
        let mut verdicts = violated();
        verdicts.list[0].finding = Finding::Held { checked: 7 };
        let summary = Summary::of(&record_of(vec![admitted(0, 0)]), &verdicts, &[]);
        assert_eq!(verdict(&summary), "GOOD: 1 invariants held, 0 expectations met");
    }

    #[test]
    fn nothing_can_be_shown_too() {
        let text = terminal(&Summary::default());
        assert!(text.lines().last().is_some_and(|line| line.starts_with("NOT JUDGED")), "{text}");
        assert!(!text.contains("NaN"), "{text}");
        assert!(!Summary::default().is_good(), "what shows nothing is not good");
    }
}
