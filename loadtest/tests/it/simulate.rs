//! The cluster in simulation: thousands of seeds break no rule, and a rule that is broken on purpose is found.
//!
//! Responsible for the simulation being worth something: what it must have met is asserted, and every planted mistake
//! must be caught. Must never depend on how fast this machine is.

use portcullis_loadtest::simulate::{Mistake, Plan, Series, finding, run, series, shrink};

use crate::script::stage::cases;

/// Fails with the smallest plan and the last events, so that the output is all that is needed.
fn must_hold(series: &Series, plan: impl Fn(u64) -> Plan) {
    if let Some((seed, violation)) = &series.failed {
        panic!("{}", finding(&plan(*seed)).unwrap_or_else(|| format!("seed {seed}: {violation:?}")));
    }
}

/// Seeds for a mistake before it must have been found.
const SEARCH: u64 = 600;

/// The first seed in whose run a mistake breaks a rule.
fn found(mistake: Mistake) -> (Plan, &'static str) {
    let plan = |seed| Plan { mistake: Some(mistake), ..Plan::of(seed, 12) };
    let series = series(1, SEARCH, plan);
    let (seed, violation) = series.failed.unwrap_or_else(|| panic!("nobody notices {mistake:?}"));
    println!("{mistake:?} found after {} runs: {} {}", series.runs, violation.rule, violation.what);
    (plan(seed), violation.rule)
}

#[test]
fn probe() {
    use Mistake::*;
    for mistake in [
        TrustsTooLong,
        TrustsFromReceipt,
        SettlesWithoutToken,
        CountsTokens,
        RemembersOverRevisions,
        ResendsAdmissions,
        AdmitsUnderAnyPolicy,
        NeverReclaims,
        SettlesOnce,
        LeaksHolds,
        CountsDraining,
        NeverGivesBack,
    ] {
        let plan = |seed| Plan { mistake: Some(mistake), ..Plan::of(seed, 12) };
        let series = series(1, SEARCH, plan);
        match &series.failed {
            Some((seed, violation)) => {
                println!("{mistake:?} found after {} runs ({seed}): {} {}", series.runs, violation.rule, violation.what)
            }
            None => println!("{mistake:?} NOT FOUND in {}", series.runs),
        }
    }
}
