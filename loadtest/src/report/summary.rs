//! A run in figures and verdicts: what is printed, kept as `summary.json` and compared with another run.
//!
//! Responsible for being complete without the record, and readable again years later. Must never hold what only the
//! record can: single calls, samples, events.

use serde::{Deserialize, Serialize};

use crate::invariant::{Finding, Verdict, Verdicts};
use crate::record::{Fault, Record};
use crate::report::expectation::ExpectationResult;
use crate::report::figures::Figures;

/// What there is to say about a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The scenario's name.
    pub name: String,
    /// Seed of everything random in it.
    pub seed: u64,
    /// Wall clock at the start, ms since the epoch.
    pub started_ms: u64,
    /// How long it took, seconds.
    pub took_seconds: f64,
    /// The figures.
    pub figures: Figures,
    /// What was done to the cluster.
    pub faults: Vec<Fault>,
    /// The invariants.
    pub verdicts: Verdicts,
    /// The expectations.
    pub expectations: Vec<ExpectationResult>,
}

impl Summary {
    /// Of this run, with what others found in its record.
    #[must_use]
    pub fn of(record: &Record, verdicts: &Verdicts, expectations: &[ExpectationResult]) -> Self {
        Self {
            name: record.name.clone(),
            seed: record.seed,
            started_ms: record.started_ms,
            took_seconds: record.took_us as f64 / 1e6,
            figures: Figures::of(record),
            faults: record.faults.clone(),
            verdicts: verdicts.clone(),
            expectations: expectations.to_vec(),
        }
    }

    /// Names of the invariants that are broken.
    #[must_use]
    pub fn violated(&self) -> Vec<&str> {
        let broken = self.verdicts.list.iter().filter(|verdict| matches!(verdict.finding, Finding::Violated { .. }));
        broken.map(|verdict| verdict.invariant.as_str()).collect()
    }

    /// How many invariants this run says nothing about.
    #[must_use]
    pub fn not_applicable(&self) -> usize {
        let silent = |verdict: &&Verdict| matches!(verdict.finding, Finding::NotApplicable { .. });
        self.verdicts.list.iter().filter(silent).count()
    }

    /// Names of the expectations that were not met.
    #[must_use]
    pub fn unmet(&self) -> Vec<&str> {
        self.expectations.iter().filter(|expected| !expected.met).map(|expected| expected.name.as_str()).collect()
    }

    /// Whether no invariant is broken and every expectation is met, and there was anything to be either.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let judged = self.verdicts.list.len() > self.not_applicable() || !self.expectations.is_empty();
        judged && self.violated().is_empty() && self.unmet().is_empty()
    }

    /// Names of the invariants that held.
    #[must_use]
    pub fn held(&self) -> Vec<&str> {
        let held = self.verdicts.list.iter().filter(|verdict| matches!(verdict.finding, Finding::Held { .. }));
        held.map(|verdict| verdict.invariant.as_str()).collect()
    }
}
