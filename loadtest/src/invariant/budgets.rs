//! spent + held ≤ amount + bound, and nothing held at rest.
//!
//! Concludes from the accounts at the end. Admission holds an estimate only where `spent + held + estimate ≤ amount`;
//! what ends commits what it really used. So an account passes its amount by no more than what its tasks used beyond
//! their estimates, and one that counts requests by nothing. A budget of requests has spent exactly the cost of those
//! of its tasks that succeeded or failed, if all of the run lies within one of its periods. In no period is more than
//! its amount committed, also where later periods have begun anew.
//!
//! Where an amount was changed, the largest counts. Cannot conclude the bound where handlers use more than is estimated
//! and the record does not say of whom: by client address, or for subjects that stand in keys by their digest.

use std::collections::BTreeMap;

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, Period};
use portcullis_lua::DecisionEvent;

use super::case::{Case, Whose, user_type, whose};
use super::verdict::Findings;
use crate::record::{AccountEnd, Ending};

const DAY_MS: u64 = 86_400_000;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let Some(ending) = &case.record.ending else { return };
    let resting = ending.rested_us.is_some();
    for account in &ending.budgets {
        let AccountEnd { name, subject, spent, held, .. } = account;
        let evidence = || vec![format!("budget {name} of {subject:?}: spent {spent}, held {held}")];
        if resting {
            findings.check(*held == 0, || format!("{held} of budget {name} are held at rest"), evidence);
        }
        let budgets: Vec<&Budget> = case.policies().filter_map(|policy| policy.budgets.get(name)).collect();
        let Some(amount) = budgets.iter().map(|budget| budget.amount).max() else {
            findings.leave_out(format!("the amount of budget {name}, which no policy of the record has"));
            continue;
        };
        if let Some(beyond) = beyond(case, &budgets, account, findings) {
            findings.check(
                spent + held <= amount + beyond,
                || format!("budget {name} of {subject:?} has {} of {amount}, bound {beyond}", spent + held),
                evidence,
            );
        }
        periods(case, ending, &budgets, account, findings);
        if let Some(cost) = committed(case, ending, &budgets, account) {
            findings.check(
                *spent == cost,
                || format!("budget {name} of {subject:?} has spent {spent}, its tasks cost {cost}"),
                evidence,
            );
        }
    }
}

/// What the tasks of an account may have used beyond their estimates; `None` where nobody knows.
fn beyond(case: &Case<'_>, budgets: &[&Budget], account: &AccountEnd, findings: &mut Findings) -> Option<u64> {
    let budget = budgets.first()?;
    let default = budgets.iter().map(|budget| budget.default_estimate).min()?;
    let uses = case.record.uses.iter().filter(|each| each.unit == budget.unit);
    let over = uses.map(|each| (each.kind.as_str(), each.used.saturating_sub(each.estimate.unwrap_or(default))));
    let over: Vec<(&str, u64)> = over.filter(|(_, over)| *over > 0).collect();
    let foreign = case.record.attempts.is_empty() && budget.unit != "requests";
    // Passes report to Redis alone what they used.
    let passes = case.record.decisions.iter().any(|event| event.pass.is_some_and(|asked| asked.place));
    let foreign = foreign || (passes && budget.unit != "requests");
    let unknown = !over.is_empty() && (case.record.decisions_incomplete || !is_plain(budgets, account));
    if foreign || unknown {
        findings.leave_out(format!("the bound of budget {}: what its tasks used is not known", account.name));
        return None;
    }
    let over_of =
        |event: &DecisionEvent| over.iter().find(|(kind, _)| *kind == event.kind).map_or(0, |(_, over)| *over);
    let admitted = case.record.decisions.iter().filter(|event| event.outcome == "admitted");
    Some(admitted.filter(|event| is_of(budget, account, event)).map(over_of).sum())
}

/// Holds what the tasks of an account that counts requests have committed in each period against the amount.
fn periods(case: &Case<'_>, ending: &Ending, budgets: &[&Budget], account: &AccountEnd, findings: &mut Findings) {
    let reported = case.record.uses.iter().any(|each| each.unit == "requests");
    let same_periods = budgets.iter().all(|budget| budget.period == budgets[0].period);
    let amount = budgets.iter().map(|budget| budget.amount).max();
    let judged = !reported && same_periods && is_plain(budgets, account) && !case.record.decisions_incomplete;
    let Some(amount) = amount.filter(|_| judged && budgets[0].unit == "requests") else { return };
    let mut committed: BTreeMap<u64, u64> = BTreeMap::new();
    for event in case.record.decisions.iter().filter(|event| event.outcome == "admitted") {
        let Some(policy) = case.policy(event.policy_revision, findings) else { return };
        // What was admitted before there was such a budget holds nothing of it.
        let applies = policy.budgets.get(&account.name).is_some_and(|budget| is_of(budget, account, event));
        let end = event.task_id.as_deref().and_then(|task| ending.tasks.get(task)).filter(|_| applies);
        let spends = end.filter(|end| matches!(end.status.as_deref(), Some("succeeded" | "failed")));
        if let Some(finished_ms) = spends.and_then(|end| end.finished_ms) {
            *committed.entry(period(budgets[0].period, finished_ms)).or_default() += policy.cost_of(&event.kind);
        }
    }
    for (number, units) in committed {
        let AccountEnd { name, subject, .. } = account;
        findings.check(
            units <= amount,
            || format!("budget {name} of {subject:?} has spent {units} of {amount} in one period"),
            || vec![format!("{:?} {number} since 1970", budgets[0].period)],
        );
    }
}

/// What the tasks of an account that counts requests must have committed, if all happened in one period under one
/// policy.
fn committed(case: &Case<'_>, ending: &Ending, budgets: &[&Budget], account: &AccountEnd) -> Option<u64> {
    let mut policies = case.policies();
    let (policy, others) = (policies.next()?, policies.next());
    let budget = budgets.first()?;
    let reported = case.record.uses.iter().any(|each| each.unit == "requests");
    let fresh = case.record.earlier.is_empty() && !case.record.earlier_incomplete;
    let judged = fresh && others.is_none() && ending.rested_us.is_some() && !case.record.decisions_incomplete;
    if !judged || reported || budget.unit != "requests" || !is_plain(budgets, account) {
        return None;
    }
    let (mut periods, mut cost) = (Vec::new(), 0);
    for event in case.record.decisions.iter().filter(|event| event.outcome == "admitted") {
        if !is_of(budget, account, event) {
            continue;
        }
        let end = ending.tasks.get(event.task_id.as_deref()?)?;
        let finished_ms = end.finished_ms?;
        periods.extend([period(budget.period, event.at_ms), period(budget.period, finished_ms)]);
        if matches!(end.status.as_deref()?, "succeeded" | "failed") {
            cost += policy_cost(policy, event);
        }
    }
    periods.dedup();
    (periods.len() == 1).then_some(cost)
}

fn policy_cost(policy: &Policy, event: &DecisionEvent) -> u64 {
    policy.cost_of(&event.kind)
}

/// Whether events tell who the account belongs to.
fn is_plain(budgets: &[&Budget], account: &AccountEnd) -> bool {
    let known = !account.subject.starts_with("sha256:");
    known
        && budgets.iter().all(|budget| budget.per == budgets[0].per && budget.unit == budgets[0].unit)
        && budgets[0].per != portcullis_config::policy::Subject::ClientAddress
}

fn is_of(budget: &Budget, account: &AccountEnd, event: &DecisionEvent) -> bool {
    let applies =
        budget.user_types.as_ref().is_none_or(|types| user_type(event).is_some_and(|own| types.contains(&own)));
    applies && matches!(whose(budget.per, event), Whose::Subject(subject) if subject == account.subject)
}

/// Number of the period that holds this time. Weeks and months are judged by their days: a run within a day is within
/// both.
fn period(period: Period, at_ms: u64) -> u64 {
    match period {
        Period::Minute => at_ms / 60_000,
        Period::Hour => at_ms / 3_600_000,
        Period::Day | Period::Week | Period::Month => at_ms / DAY_MS,
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::policy::Subject;

    use super::super::hand::{Hand, held, not_applicable, violation};
    use super::*;
    use crate::record::UnitUse;
    use crate::record::attempt::AttemptEnd::Succeeded;

    /// Three tasks of one principal, and what its account says.
    fn hand(unit: &str, spent: u64, held: u64) -> Hand {
        let mut hand =
            (0..3).fold(Hand::new(), |hand, n| hand.admitted("paid", n, 1, 10).ran(n, Some(n + 10), Succeeded));
        hand = hand.ended("succeeded", 20);
        let budget = Budget {
            unit: unit.to_owned(),
            amount: 3,
            period: Period::Day,
            per: Subject::Principal,
            default_estimate: 1,
            user_types: None,
        };
        hand.set_policy(0, |policy| _ = policy.budgets.insert("daily".to_owned(), budget));
        let (name, subject) = ("daily".to_owned(), "someone".to_owned());
        hand.ending().budgets.push(AccountEnd { name, subject, spent, held, amount: 3 });
        hand
    }

    #[test]
    fn an_account_holds_its_amount_and_no_more() {
        assert_eq!(held(&hand("requests", 3, 0), "budgets"), 4);
        assert_eq!(held(&hand("tokens", 3, 0), "budgets"), 2);
        assert!(violation(&hand("tokens", 4, 0), "budgets").what.ends_with("has 4 of 3, bound 0"));
        not_applicable(&Hand::new(), "budgets");
    }

    #[test]
    fn nothing_is_held_at_rest() {
        assert_eq!(violation(&hand("tokens", 2, 1), "budgets").what, "1 of budget daily are held at rest");
        let mut working = hand("tokens", 2, 1);
        working.ending().rested_us = None;
        held(&working, "budgets");
    }

    #[test]
    fn tasks_may_use_what_exceeds_their_estimates() {
        let uses = |spent, used, estimate| {
            let mut hand = hand("tokens", spent, 0);
            let (kind, unit) = ("chat".to_owned(), "tokens".to_owned());
            hand.record.uses.push(UnitUse { kind, unit, estimate, used });
            hand
        };
        held(&uses(9, 3, None), "budgets");
        violation(&uses(10, 3, None), "budgets");
        violation(&uses(9, 3, Some(2)), "budgets");
        let mut incomplete = uses(10, 3, None);
        incomplete.record.decisions_incomplete = true;
        held(&incomplete, "budgets");
    }

    #[test]
    fn no_period_passes_the_amount_whatever_stands_in_the_account_later() {
        let mut hand = hand("requests", 0, 0);
        hand.set_policy(0, |policy| policy.budgets.get_mut("daily").unwrap().amount = 2);
        // All of it in the day before the account began anew.
        for end in hand.ending().tasks.values_mut() {
            end.finished_ms = end.finished_ms.map(|finished_ms| finished_ms - DAY_MS);
        }
        assert!(violation(&hand, "budgets").what.ends_with("has spent 3 of 2 in one period"));
        hand.ending().tasks.get_mut("task-1").unwrap().status = Some("cancelled".to_owned());
        held(&hand, "budgets");
    }

    #[test]
    fn what_was_spent_before_the_run_is_not_missed() {
        let mut spent = hand("requests", 2, 0);
        violation(&spent, "budgets");
        spent.record.earlier_incomplete = true;
        held(&spent, "budgets");
    }

    #[test]
    fn a_budget_of_requests_has_spent_what_its_tasks_cost() {
        let lost = hand("requests", 2, 0);
        assert!(violation(&lost, "budgets").what.ends_with("has spent 2, its tasks cost 3"));
        let mut released = hand("requests", 2, 0);
        released.ending().tasks.get_mut("task-1").unwrap().status = Some("dead".to_owned());
        held(&released, "budgets");
        let mut over_midnight = hand("requests", 2, 0);
        over_midnight.record.decisions[0].at_ms -= DAY_MS;
        held(&over_midnight, "budgets");
    }
}
