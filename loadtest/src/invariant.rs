//! What must be true of every record, whatever was done to the cluster.
//!
//! Responsible for judging a run from outside: by the clients' log, the handlers' log, the decision events and the end.
//! Each invariant says strictly what it can conclude, and what it cannot. Must never look into a process or into Redis,
//! and must never be satisfied by a record that shows nothing.
//!
//! Fair shares, lanes and money in depth are judged once the cluster promises them: each gets a file here and a row in
//! the table.

pub mod verdict;
pub mod command;
mod case;
mod track;
mod runs;
mod windows;
mod depth;
mod refusals;
mod budgets;
mod revision;
mod answers;
mod accounted;
mod leases;
mod settle;
mod rest;
#[cfg(test)]
mod hand;

pub use verdict::{Finding, Verdict, Verdicts, Violation};

use crate::record::Record;
use case::Case;
use verdict::Findings;

/// One thing that must be true.
struct Invariant {
    name: &'static str,
    meaning: &'static str,
    /// What a record lacks in which nothing was there to be checked.
    nothing: &'static str,
    check: fn(&Case<'_>, &mut Findings),
}

const INVARIANTS: [Invariant; 10] = [
    Invariant {
        name: "windows",
        meaning: "no window ever holds more than its limit",
        nothing: "no decision under a policy of the record was admitted",
        check: windows::check,
    },
    Invariant {
        name: "depth",
        meaning: "nobody is admitted above the depth at which the policy refuses him; depth is not understated",
        nothing: "no decision under a policy of the record was admitted",
        check: depth::check,
    },
    Invariant {
        name: "refusals",
        meaning: "refused requests consume nothing, and none is refused without its cause",
        nothing: "no refusal was recorded whose cause events show",
        check: refusals::check,
    },
    Invariant {
        name: "budgets",
        meaning: "spent + held never pass the amount by more than tasks used beyond estimates; nothing is held at rest",
        nothing: "no account was found at the end",
        check: budgets::check,
    },
    Invariant {
        name: "revision",
        meaning: "once an update is accepted nothing is decided under an older policy",
        nothing: "there are no two decisions and no update to compare",
        check: revision::check,
    },
    Invariant {
        name: "answers",
        meaning: "every answer is a documented one, to its own request, and says what was decided",
        nothing: "no call was answered",
        check: answers::check,
    },
    Invariant {
        name: "accounted",
        meaning: "accepted = ended + queued + running: no task is lost, doubled or made up",
        nothing: "the end was not waited for",
        check: accounted::check,
    },
    Invariant {
        name: "leases",
        meaning: "no task runs under two live leases, and no token twice",
        nothing: "no run of a handler was logged",
        check: leases::check,
    },
    Invariant {
        name: "settle",
        meaning: "a task ends once, by a run that was not stale",
        nothing: "no task was known at the end",
        check: settle::check,
    },
    Invariant {
        name: "rest",
        meaning: "what was accepted ends in the time given; then nothing is left but what is meant to stay",
        nothing: "the end was not waited for",
        check: rest::check,
    },
];

/// Judges a record by every invariant.
#[must_use]
pub fn check(record: &Record) -> Verdicts {
    let case = Case::new(record);
    let judge = |invariant: &Invariant| {
        let mut findings = Findings::default();
        (invariant.check)(&case, &mut findings);
        findings.verdict(invariant.name, invariant.meaning, invariant.nothing)
    };
    Verdicts { list: INVARIANTS.iter().map(judge).collect() }
}
