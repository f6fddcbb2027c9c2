//! Windows just inside their limit, and one admission above it.

use portcullis_config::policy::{NamedLimit, Subject};

use super::super::hand::{Hand, held, not_applicable, violation};

/// Ten in sixty seconds is what an anonymous session may have.
fn burst(times_ms: impl IntoIterator<Item = u64>) -> Hand {
    times_ms.into_iter().fold(Hand::new(), |hand, at_ms| hand.admitted("anonymous", at_ms, 1, 100))
}

#[test]
fn a_full_window_is_held_and_one_more_is_not() {
    assert_eq!(held(&burst((0..10).map(|n| n * 100)), "windows"), 20);
    let over = burst((0..11).map(|n| n * 100));
    let violation = violation(&over, "windows");
    assert!(violation.what.starts_with("11 admitted within 60000 ms of burst"), "{}", violation.what);
    assert!(violation.evidence[0].starts_with("0.000 s admitted"), "{:?}", violation.evidence);
}

#[test]
fn the_window_is_open_at_its_far_end() {
    let first_leaves = (0..10).map(|n| n * 100).chain([60_000]);
    held(&burst(first_leaves), "windows");
    let first_still_in = (0..10).map(|n| n * 100).chain([59_999]);
    violation(&burst(first_still_in), "windows");
}

#[test]
fn what_was_admitted_before_the_run_counts() {
    let mut hand = burst((0..11).map(|n| n * 100));
    hand.record.earlier = hand.record.decisions.drain(..5).collect();
    assert!(violation(&hand, "windows").evidence[0].starts_with("0.000 s admitted"));
    hand.record.earlier.remove(0);
    held(&hand, "windows");
}

#[test]
fn other_sessions_and_refusals_do_not_count() {
    let mut hand = burst((0..10).map(|n| n * 100));
    hand = hand.session("another").admitted("anonymous", 1000, 1, 100);
    hand = hand.refused("anonymous", 1001, "burst_limit", 1, 100);
    held(&hand, "windows");
}

#[test]
fn the_cost_of_a_kind_counts() {
    let mut hand = burst(0..5);
    let double = |policy: &mut portcullis_config::Policy| {
        let settings = portcullis_config::policy::KindSettings { cost: Some(2), ..Default::default() };
        policy.kinds.insert("chat".to_owned(), settings);
    };
    hand.set_policy(0, double);
    held(&hand, "windows");
    let mut hand = burst(0..6);
    hand.set_policy(0, double);
    violation(&hand, "windows");
}

#[test]
fn an_admission_is_held_against_the_policy_it_was_decided_under() {
    let mut raised = burst(0..10).revised(1, 5_000, |policy| set_burst(policy, 12, 60));
    raised = raised.admitted("anonymous", 6_000, 1, 100).admitted("anonymous", 6_001, 1, 100);
    held(&raised, "windows");
    violation(&raised.admitted("anonymous", 6_002, 1, 100), "windows");
    let lowered = burst(0..5).revised(1, 5_000, |policy| set_burst(policy, 5, 60));
    held(&lowered, "windows");
    violation(&lowered.admitted("anonymous", 6_000, 1, 100), "windows");
}

#[test]
fn a_window_made_longer_does_not_know_what_the_shorter_had_let_go() {
    let short = |policy: &mut portcullis_config::Policy| set_burst(policy, 2, 1);
    let mut hand = burst([0, 10]).session("s");
    hand.set_policy(0, short);
    hand = hand.revised(1, 500, |policy| set_burst(policy, 2, 60));
    held(&hand.clone().admitted("anonymous", 1_010, 1, 100), "windows");
    violation(&hand.admitted("anonymous", 900, 1, 100), "windows");
}

#[test]
fn an_hourly_window_that_did_not_exist_begins_empty() {
    let unlimited = |policy: &mut portcullis_config::Policy| set_hourly(policy, -1);
    let mut hand = burst((0..5).map(|n| n * 20_000));
    hand.set_policy(0, unlimited);
    let limited = hand.revised(1, 100_000, |policy| set_hourly(policy, 2));
    let two = limited.admitted("anonymous", 200_000, 1, 100).admitted("anonymous", 200_001, 1, 100);
    held(&two, "windows");
    violation(&two.admitted("anonymous", 200_002, 1, 100), "windows");
}

#[test]
fn a_named_limit_counts_its_subject_over_all_sessions() {
    let named = |limit: u64, unit: &str, per: Subject| {
        let unit = unit.to_owned();
        NamedLimit { per, unit, limit, window_seconds: 60, default_estimate: None, user_types: None, kinds: None }
    };
    let spread =
        |count: u64| (0..count).fold(Hand::new(), |hand, n| hand.session(&n.to_string()).admitted("paid", n, 1, 100));
    let with = |count: u64, limit: NamedLimit| {
        let mut hand = spread(count);
        hand.set_policy(0, |policy| _ = policy.rate_limits.named.insert("all".to_owned(), limit));
        hand
    };
    assert_eq!(held(&with(3, named(3, "requests", Subject::Tenant)), "windows"), 9);
    assert!(violation(&with(4, named(3, "requests", Subject::Tenant)), "windows").what.contains("of all"));
    held(&with(4, named(3, "tokens", Subject::Tenant)), "windows");
    held(&with(4, named(3, "requests", Subject::ClientAddress)), "windows");
    held(&with(4, named(3, "requests", Subject::Agent)), "windows");
}

#[test]
fn what_cannot_be_known_is_not_judged() {
    let mut hand = burst(0..11);
    hand.record.decisions_incomplete = true;
    assert!(not_applicable(&hand, "windows").contains("may be missing"));
    assert!(not_applicable(&Hand::new(), "windows").contains("no decision"));
    let mut hand = burst(0..11);
    hand.record.policies.clear();
    not_applicable(&hand, "windows");
}

fn set_burst(policy: &mut portcullis_config::Policy, burst: u64, burst_window: u64) {
    for limits in policy.rate_limits.roles.values_mut() {
        (limits.burst, limits.burst_window) = (burst, burst_window);
    }
}

fn set_hourly(policy: &mut portcullis_config::Policy, hourly: i64) {
    for limits in policy.rate_limits.roles.values_mut() {
        limits.hourly = hourly;
    }
}
