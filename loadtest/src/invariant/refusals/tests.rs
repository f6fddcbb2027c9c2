//! Refusals just where their cause begins, and one short of it.

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, Period, Subject};

use super::super::hand::{Hand, held, not_applicable, violation};

/// Ten in sixty seconds is what an anonymous session may have.
fn admitted(count: u64) -> Hand {
    (0..count).fold(Hand::new(), |hand, n| hand.admitted("anonymous", n * 10, 1, 100))
}

#[test]
fn a_window_refuses_when_admissions_alone_fill_it() {
    assert_eq!(held(&admitted(10).refused("anonymous", 100, "burst_limit", 1, 100), "refusals"), 1);
    let early = admitted(9).refused("anonymous", 100, "burst_limit", 1, 100);
    let violation = violation(&early, "refusals");
    assert_eq!(violation.what, "burst of s refused 1 with 9 of 10 admitted in 60000 ms");
}

#[test]
fn refused_requests_fill_no_window() {
    let between = (0..20).fold(admitted(9), |hand, n| hand.refused("anonymous", 90 + n, "hard_limit", 95, 100));
    let refused = between.admitted("anonymous", 200, 1, 100).refused("anonymous", 201, "burst_limit", 1, 100);
    assert_eq!(held(&refused, "refusals"), 21);
}

#[test]
fn a_pass_that_is_not_throttled_fills_no_window() {
    let passed = admitted(9).passed("anonymous", 90, 1, 100, false).passed("anonymous", 91, 1, 100, true);
    violation(&passed.refused("anonymous", 100, "burst_limit", 1, 100), "refusals");
}

#[test]
fn a_window_may_release_late_by_a_tick_and_no_later() {
    // Shipped windows of up to ten minutes have ticks of ten ms at most.
    held(&admitted(10).refused("anonymous", 60_001, "burst_limit", 1, 100), "refusals");
    violation(&admitted(10).refused("anonymous", 60_020, "burst_limit", 1, 100), "refusals");
}

#[test]
fn the_hourly_window_is_another() {
    let full = (0..12)
        .fold(Hand::new(), |hand, n| (0..10).fold(hand, |hand, k| hand.admitted("anonymous", n * 70_000 + k, 1, 100)));
    held(&full.refused("anonymous", 900_000, "hourly_limit", 1, 100), "refusals");
    violation(&admitted(10).refused("anonymous", 900_000, "hourly_limit", 1, 100), "refusals");
}

#[test]
fn pressure_refuses_at_its_threshold_and_not_below() {
    // 60 % of 10 for anonymous callers, 95 % for everybody.
    held(&Hand::new().refused("anonymous", 0, "pressure_threshold", 6, 10), "refusals");
    violation(&Hand::new().refused("anonymous", 0, "pressure_threshold", 5, 10), "refusals");
    held(&Hand::new().refused("paid", 0, "hard_limit", 9, 10), "refusals");
    violation(&Hand::new().refused("paid", 0, "hard_limit", 8, 10), "refusals");
    held(&Hand::new().refused("paid", 0, "no_live_processors", 3, 0), "refusals");
    violation(&Hand::new().refused("paid", 0, "no_live_processors", 3, 1), "refusals");
}

#[test]
fn depth_moves_within_a_batch_only_by_an_admission() {
    let batch = |second: Hand| {
        let mut hand = second;
        hand.record.decisions[0].id = "1-0.0".to_owned();
        hand.record.decisions[1].id = "1-0.1".to_owned();
        hand
    };
    let first = || Hand::new().admitted("paid", 0, 5, 100);
    assert_eq!(held(&batch(first().admitted("paid", 0, 6, 100)), "refusals"), 1);
    violation(&batch(first().admitted("paid", 0, 7, 100)), "refusals");
    held(&batch(first().refused("paid", 0, "circuit_open", 5, 100)), "refusals");
    violation(&batch(first().refused("paid", 0, "circuit_open", 6, 100)), "refusals");
}

#[test]
fn a_budget_of_requests_refuses_only_once_that_much_was_admitted() {
    let budget = |policy: &mut Policy| {
        let budget = Budget {
            unit: "requests".to_owned(),
            amount: 3,
            period: Period::Day,
            per: Subject::Principal,
            default_estimate: 1,
            user_types: None,
        };
        policy.budgets.insert("daily".to_owned(), budget);
    };
    let refused = |count: u64| {
        let mut hand = admitted(count).refused("anonymous", 100, "budget_exhausted", 1, 100);
        hand.record.decisions.last_mut().unwrap().name = Some("daily".to_owned());
        hand.set_policy(0, budget);
        hand
    };
    held(&refused(3), "refusals");
    assert!(violation(&refused(2), "refusals").what.contains("2 of 3 ever admitted"));
}

#[test]
fn what_was_admitted_before_the_run_fills_windows_as_well() {
    let mut hand = admitted(10).refused("anonymous", 100, "burst_limit", 1, 100);
    hand.record.earlier = hand.record.decisions.drain(..10).collect();
    held(&hand, "refusals");
    hand.record.earlier.remove(0);
    violation(&hand, "refusals");
    hand.record.earlier_incomplete = true;
    not_applicable(&hand, "refusals");
    let of_an_older_policy = hand.record.earlier.last_mut().unwrap();
    of_an_older_policy.policy_revision = 7;
    hand.record.earlier_incomplete = false;
    not_applicable(&hand, "refusals");
}

#[test]
fn what_events_do_not_say_is_left_out() {
    let hand = Hand::new().refused("paid", 0, "deadline_unreachable", 1, 10);
    not_applicable(&hand, "refusals");
    let left_out = super::super::check(&hand.record).of("refusals").unwrap().left_out.clone();
    assert_eq!(left_out, ["refusals with deadline_unreachable"]);
    let mut hand = admitted(1).refused("anonymous", 100, "burst_limit", 1, 100);
    hand.record.decisions_incomplete = true;
    not_applicable(&hand, "refusals");
}
