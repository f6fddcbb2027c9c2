//! Named limits and budgets: whom they apply to, and what a request without an estimate counts for.
//!
//! Responsible for finding those that would count nothing, or that nothing could ever pass. Must never judge an amount
//! by itself: how much is right is its author's business.

use super::Findings;
use super::user_types::known;
use crate::fault::Path;
use crate::identity::UserType;
use crate::policy::{Budget, NamedLimit, Policy};

/// The unit that is counted without an estimate.
pub(super) const REQUESTS: &str = "requests";

/// Names that the two windows of a session have.
const TAKEN: [&str; 2] = ["burst", "hourly"];

/// Checks every relation in which a named limit or a budget takes part, but for the cost of kinds.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    for (name, limit) in &policy.rate_limits.named {
        named_limit(policy, name, limit, findings);
    }
    for (name, spending) in &policy.budgets {
        budget(policy, name, spending, findings);
    }
}

fn named_limit(policy: &Policy, name: &str, limit: &NamedLimit, findings: &mut Findings) {
    let place = Path::of("rate_limits.named").key(name);
    if TAKEN.contains(&name) {
        let message = "is the name of a window that every session has, so that refusals could not be told apart";
        findings.error(std::slice::from_ref(&place), message);
    }
    match limit.default_estimate {
        Some(_) if limit.unit == REQUESTS => {
            let message = "has no effect: requests are counted by the cost of their kind, without an estimate";
            findings.warning(&[place.key("default_estimate")], message);
        }
        Some(estimate) if estimate > limit.limit => {
            let message = format!("default_estimate ({estimate}) must be at most limit ({})", limit.limit);
            findings.error(&[place.key("default_estimate"), place.key("limit")], message);
        }
        None if limit.unit != REQUESTS => {
            let message =
                format!("missing: without it, a request that gives no estimate of {} is not limited", limit.unit);
            findings.error(&[place.key("default_estimate")], message);
        }
        _ => {}
    }
    user_types(policy, limit.user_types.as_deref(), &place, findings);
    if limit.kinds.as_ref().is_some_and(Vec::is_empty) {
        findings.error(&[place.key("kinds")], "names no kind; leave it out to mean all of them");
    }
}

/// A request without an estimate holds the default one, so it must fit.
fn budget(policy: &Policy, name: &str, budget: &Budget, findings: &mut Findings) {
    let place = Path::of("budgets").key(name);
    if budget.default_estimate > budget.amount {
        let message =
            format!("default_estimate ({}) must be at most amount ({})", budget.default_estimate, budget.amount);
        findings.error(&[place.key("default_estimate"), place.key("amount")], message);
    }
    user_types(policy, budget.user_types.as_deref(), &place, findings);
}

/// User types must exist, or nobody is limited.
fn user_types(policy: &Policy, types: Option<&[UserType]>, place: &Path, findings: &mut Findings) {
    let place = place.key("user_types");
    if types.is_some_and(<[_]>::is_empty) {
        findings.error(std::slice::from_ref(&place), "names no user type; leave it out to mean all of them");
    }
    for (index, user_type) in types.into_iter().flatten().enumerate() {
        known(policy, user_type, &place.index(index), findings);
    }
}
