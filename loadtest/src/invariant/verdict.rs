//! What the invariants found in a record.
//!
//! Responsible for three clear answers (held, violated, not applicable) with their evidence. Must never say "held"
//! where nothing was checked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Violations of one invariant that are told; all are counted.
const TOLD: usize = 5;
/// Lines of evidence that are told of one violation.
const LINES: usize = 6;

/// The verdicts on one record, in the order of the table of invariants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// One for each invariant.
    pub list: Vec<Verdict>,
}

/// The verdict on one invariant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Its name, such as `windows`.
    pub invariant: String,
    /// What it means, in a sentence.
    pub meaning: String,
    /// What was found.
    pub finding: Finding,
    /// What could not be judged from this record, and why.
    pub left_out: Vec<String>,
}

/// What was found of one invariant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// True of everything that was checked.
    Held {
        /// How many things that was; at least one.
        checked: u64,
    },
    /// Not true.
    Violated {
        /// How often.
        count: u64,
        /// The first few.
        violations: Vec<Violation>,
    },
    /// The record does not say.
    NotApplicable {
        /// What is missing.
        why: String,
    },
}

/// One thing that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Name of the invariant.
    pub invariant: String,
    /// What is wrong, in a line.
    pub what: String,
    /// The few lines that show it: ids, times in ms of the run, numbers.
    pub evidence: Vec<String>,
}

impl Verdicts {
    /// Whether nothing was violated and anything was judged: a record that shows nothing proves nothing.
    #[must_use]
    pub fn hold(&self) -> bool {
        let judged = self.list.iter().any(|verdict| matches!(verdict.finding, Finding::Held { .. }));
        judged && self.violations().next().is_none()
    }

    /// Every violation that is told.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        self.list.iter().flat_map(|verdict| match &verdict.finding {
            Finding::Violated { violations, .. } => violations.as_slice(),
            Finding::Held { .. } | Finding::NotApplicable { .. } => &[],
        })
    }

    /// The verdict on the invariant of this name.
    #[must_use]
    pub fn of(&self, invariant: &str) -> Option<&Verdict> {
        self.list.iter().find(|verdict| verdict.invariant == invariant)
    }
}

/// A line for each verdict, and below it the evidence of what is violated.
impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.list.iter().map(|verdict| verdict.invariant.len()).max().unwrap_or(0);
        for verdict in &self.list {
            write!(f, "{:<width$}  ", verdict.invariant)?;
            match &verdict.finding {
                Finding::Held { checked } => writeln!(f, "held      {checked} checked: {}", verdict.meaning)?,
                Finding::NotApplicable { why } => writeln!(f, "not judged  {why}")?,
                Finding::Violated { count, violations } => {
                    writeln!(f, "VIOLATED  {count} times: {}", verdict.meaning)?;
                    for violation in violations {
                        writeln!(f, "  {}", violation.what)?;
                        for line in &violation.evidence {
                            writeln!(f, "    {line}")?;
                        }
                    }
                }
            }
            for left_out in &verdict.left_out {
                writeln!(f, "  left out: {left_out}")?;
            }
        }
        Ok(())
    }
}

/// What one invariant has found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    checked: u64,
    count: u64,
    violations: Vec<(String, Vec<String>)>,
    left_out: Vec<String>,
    why_not: Option<String>,
}

impl Findings {
    /// Looks at one thing: it is violated unless `holds`.
    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String, evidence: impl FnOnce() -> Vec<String>) {
        self.checked += 1;
        if !holds {
            self.violated(what, evidence);
        }
    }

    /// Something that was looked at must not be.
    pub(super) fn violated(&mut self, what: impl FnOnce() -> String, evidence: impl FnOnce() -> Vec<String>) {
        self.count += 1;
        if self.violations.len() < TOLD {
            let mut evidence = evidence();
            if evidence.len() > LINES {
                let more = evidence.len() - (LINES - 1);
                evidence.drain(LINES / 2..LINES / 2 + more);
                evidence.insert(LINES / 2, format!("… {more} more …"));
            }
            self.violations.push((what(), evidence));
        }
    }

    /// Something cannot be judged; said once.
    pub(super) fn leave_out(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    /// This record does not say whether it is true; `why` is told unless something else was checked.
    pub(super) fn not_applicable(&mut self, why: impl Into<String>) {
        self.why_not.get_or_insert(why.into());
    }

    /// The verdict; `nothing` is said where nothing was there to be checked.
    pub(super) fn verdict(self, invariant: &str, meaning: &str, nothing: &str) -> Verdict {
        let violation = |(what, evidence)| Violation { invariant: invariant.to_owned(), what, evidence };
        let finding = if self.count > 0 {
            let violations = self.violations.into_iter().map(violation).collect();
            Finding::Violated { count: self.count, violations }
        } else if self.checked > 0 {
            Finding::Held { checked: self.checked }
        } else {
            Finding::NotApplicable { why: self.why_not.unwrap_or_else(|| nothing.to_owned()) }
        };
        Verdict { invariant: invariant.to_owned(), meaning: meaning.to_owned(), finding, left_out: self.left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_checked_is_not_held() {
        let verdict = Findings::default().verdict("windows", "", "no decision events");
        assert_eq!(verdict.finding, Finding::NotApplicable { why: "no decision events".to_owned() });
    }

    #[test]
    fn a_record_that_shows_nothing_does_not_hold() {
        let verdict = |checked: u64| {
            let mut findings = Findings::default();
            (0..checked).for_each(|_| findings.check(true, String::new, Vec::new));
            findings.verdict("windows", "", "nothing")
        };
        assert!(!Verdicts { list: vec![verdict(0), verdict(0)] }.hold());
        assert!(Verdicts { list: vec![verdict(0), verdict(1)] }.hold());
    }

    #[test]
    fn evidence_is_cut_in_its_middle_and_violations_are_all_counted() {
        let mut findings = Findings::default();
        for number in 0..9 {
            let lines = (0..10).map(|line| line.to_string()).collect();
            findings.check(false, || number.to_string(), || lines);
        }
        let verdicts = Verdicts { list: vec![findings.verdict("windows", "", "")] };
        assert!(!verdicts.hold());
        let Finding::Violated { count: 9, violations } = &verdicts.list[0].finding else { panic!("{verdicts}") };
        assert_eq!(violations.len(), TOLD);
        assert_eq!(violations[0].evidence, ["0", "1", "2", "… 5 more …", "8", "9"]);
        let again: Verdicts = serde_json::from_str(&serde_json::to_string(&verdicts).unwrap()).unwrap();
        assert_eq!(again, verdicts);
    }
}
