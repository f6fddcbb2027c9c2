//! The cluster in simulation: thousands of seeds break no rule, and a rule that is broken on purpose is found.
//!
//! Responsible for the simulation being worth something: what it must have met is asserted, and every planted mistake
//! must be caught. Must never depend on how fast this machine is.

use portcullis_loadtest::simulate::{
    Mistake, Place, Plan, Series, Trouble, What, finding, run, run_traced, series, shrink,
};

use crate::script::stage::cases;

/// What a few hundred runs cannot miss, unless they have become too tame.
const MUST_MEET: [&str; 48] = [
    "accepted tasks lost",
    "admission ends a remembered refusal",
    "answer lost",
    "asked ahead",
    "attempt given up",
    "batch of several",
    "breaker for redis opened",
    "budget_exhausted",
    "buried",
    "burst_limit",
    "call lost",
    "call waited for redis",
    "cancelled while it ran",
    "cancelled while it waited",
    "circuit_open",
    "clock jumped",
    "connections broken",
    "cut off at its deadline",
    "dead",
    "deadline_unreachable",
    "deaf subscriber",
    "expired",
    "failover",
    "gateway crashed",
    "gateway drained",
    "handed back",
    "handler timed out",
    "hard_limit",
    "hourly_limit",
    "lease lost",
    "message lost",
    "no_live_processors",
    "partition",
    "policy converged",
    "policy given back",
    "policy waited for",
    "pressure_threshold",
    "process frozen",
    "processor crashed",
    "processor drained",
    "queue_full",
    "rate_limit",
    "reclaimed",
    "redis frozen",
    "refusals compared",
    "refused from memory",
    "replayed",
    "stale settlement",
];

/// Fails with the smallest plan and the last events, so that the output is all that is needed.
fn must_hold(series: &Series, plan: impl Fn(u64) -> Plan) {
    if let Some((seed, violation)) = &series.failed {
        panic!("{}", finding(&plan(*seed)).unwrap_or_else(|| format!("seed {seed}: {violation:?}")));
    }
}

#[test]
fn thousands_of_seeds_break_no_rule() {
    let (number, plan) = (cases(2_000) as u64, |seed| Plan::of(seed, 12));
    let short = series(1, number, plan);
    must_hold(&short, plan);
    if number >= 1_000 {
        let missed: Vec<&str> = MUST_MEET.into_iter().filter(|what| short.coverage.of(what) == 0).collect();
        assert!(missed.is_empty(), "never met: {missed:?} in {:#?}", short.coverage);
    }
}

#[test]
fn a_minute_of_cluster_time_breaks_no_rule() {
    let plan = |seed| Plan::of(seed, 60);
    must_hold(&series(1_000_000, cases(40) as u64, plan), plan);
}

#[test]
fn a_run_is_a_function_of_its_plan() {
    for seed in 1..4 {
        let plan = Plan::of(seed, 12);
        let (first, second) = (run_traced(&plan), run_traced(&plan));
        assert!(first.trace.len() > 1_000, "{} lines", first.trace.len());
        assert_eq!(first.trace, second.trace, "seed {seed}");
        let untraced = run(&plan);
        assert_eq!((untraced.events, &untraced.coverage), (first.events, &first.coverage), "seed {seed}");
    }
}

#[test]
fn what_is_found_is_shown_by_less_than_it_was_found_with() {
    let plan = |seed| Plan { mistake: Some(Mistake::TrustsTooLong), ..Plan::of(seed, 12) };
    let (seed, violation) = series(1, 600, plan).failed.expect("a violation");
    let smallest = shrink(&plan(seed), violation.rule);
    assert!(smallest.troubles.len() < plan(seed).troubles.len(), "{smallest:?}");
    let again = run_traced(&smallest);
    assert_eq!(again.violation.map(|violation| violation.rule), Some(violation.rule));
    assert!(again.evidence.len() > 2, "{:?}", again.evidence);
}

/// Some seed must show that this mistake breaks one of these rules.
fn finds(mistake: Mistake, rules: &[&str]) {
    finds_by(mistake, rules, |seed| Plan::of(seed, 12));
}

/// Some seed must show it, by these plans.
fn finds_by(mistake: Mistake, rules: &[&str], plan: impl Fn(u64) -> Plan + Sync) {
    let plan = |seed| Plan { mistake: Some(mistake), ..plan(seed) };
    let (seed, violation) = series(1, 2_000, plan).failed.unwrap_or_else(|| panic!("nobody notices {mistake:?}"));
    assert!(rules.contains(&violation.rule), "seed {seed}: {violation:?}");
    assert_eq!(run(&plan(seed)).violation, Some(violation), "seed {seed} does not reproduce");
}

#[test]
fn a_lease_that_is_trusted_too_long_is_found() {
    finds(Mistake::TrustsTooLong, &["one holder"]);
}

#[test]
fn a_lease_that_is_trusted_from_the_receipt_of_its_answer_is_found() {
    finds(Mistake::TrustsFromReceipt, &["one holder"]);
}

#[test]
fn a_settlement_without_a_token_check_is_found() {
    finds(Mistake::SettlesWithoutToken, &["no stale settlement", "one end"]);
}

#[test]
fn tokens_that_a_failover_repeats_are_found() {
    finds(Mistake::CountsTokens, &["tokens rise"]);
}

#[test]
fn a_refusal_remembered_over_a_change_of_policy_is_found() {
    finds(Mistake::RemembersOverRevisions, &["no decision under an old policy"]);
}

#[test]
fn a_refusal_remembered_from_the_receipt_of_its_answer_is_found() {
    // A gateway that stands still while a policy changes, again and again.
    let trouble = |at_us, lasts_us, what| Trouble { at_us, lasts_us, what };
    let troubles = (1..=5).flat_map(|nth| {
        let at_us = nth * 2_000_000;
        let frozen = trouble(at_us, 1_400_000, What::Freeze(Place::Gateway(0)));
        [frozen, trouble(at_us + 5_000, 0, What::ChangePolicy(nth))]
    });
    let troubles: Vec<Trouble> = troubles.collect();
    let plan = |seed| Plan { gateways: 1, clients: 8, think_ms: 100, troubles: troubles.clone(), ..Plan::of(seed, 10) };
    finds_by(Mistake::RemembersFromReceipt, &["no decision under an old policy"], plan);
}

#[test]
fn an_admission_sent_again_is_found() {
    finds(Mistake::ResendsAdmissions, &["one admission", "one task per key"]);
}

#[test]
fn a_decision_under_another_policy_than_the_stored_one_is_found() {
    finds(Mistake::AdmitsUnderAnyPolicy, &["no decision under an old policy"]);
}

#[test]
fn lapsed_leases_that_nobody_takes_back_are_found() {
    finds(Mistake::NeverReclaims, &["everything comes to rest"]);
}

#[test]
fn a_settlement_that_is_not_sent_again_is_found() {
    finds(Mistake::SettlesOnce, &["everything comes to rest"]);
}

#[test]
fn holds_that_are_not_released_are_found() {
    finds(Mistake::LeaksHolds, &["budgets add up"]);
}

#[test]
fn capacity_of_a_draining_processor_is_found() {
    finds(Mistake::CountsDraining, &["depth never above its bound"]);
}

#[test]
fn a_policy_that_is_not_given_back_is_found() {
    finds(Mistake::NeverGivesBack, &["the newest policy comes back"]);
}
