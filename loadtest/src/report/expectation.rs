//! What a scenario expected, and what it found.
//!
//! Responsible for one result in words that fit a table. Must never compute it: scenarios know their figures.

use serde::{Deserialize, Serialize};

/// An expectation held against a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationResult {
    /// Name of the figure, as in the scenario file.
    pub name: String,
    /// What was wanted of it, such as `>= 0.95`.
    pub wanted: String,
    /// What it was, such as `0.97`.
    pub found: String,
    /// Whether that is good enough.
    pub met: bool,
}
