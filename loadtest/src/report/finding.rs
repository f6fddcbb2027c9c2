//! What was found about an invariant, in the form reports show.
//!
//! Responsible for one verdict with its evidence. Must never judge: invariants are checked elsewhere, from the record.

use serde::{Deserialize, Serialize};

/// One invariant and what a run says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Name of the invariant.
    pub name: String,
    /// What it says, in a line.
    pub meaning: String,
    /// What was found.
    pub verdict: Verdict,
}

/// What a run says about an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Verdict {
    /// True wherever it was looked.
    Held {
        /// In how many places that was.
        checked: u64,
    },
    /// Broken.
    Violated {
        /// Where and how; at least one.
        violations: Vec<Breach>,
    },
    /// This run cannot tell.
    NotApplicable {
        /// Why not.
        why: String,
    },
}

/// One violation of an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// What happened.
    pub what: String,
    /// The lines of the record that prove it, as few as do.
    pub evidence: Vec<String>,
}

impl Finding {
    /// Whether the invariant is broken.
    #[must_use]
    pub fn is_violated(&self) -> bool {
        matches!(self.verdict, Verdict::Violated { .. })
    }
}
