//! User types: each is known, and each ends up with a limit, a weight and a threshold.
//!
//! Must never check what a type may do elsewhere than here, so that no gate has to ask whether a type is complete.

use std::collections::BTreeSet;

use super::Findings;
use crate::fault::Path;
use crate::identity::UserType;
use crate::policy::Policy;
use crate::shape::unknown;

/// Checks every relation in which a user type takes part, but for budgets.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    let roles = Path::of("rate_limits.roles");
    for (name, limit) in &policy.rate_limits.roles {
        let place = roles.key(name.as_str());
        known(policy, name, &place, findings);
        if limit.hourly == 0 {
            findings.error(&[place.key("hourly")], "must be above 0, or -1 for unlimited");
        } else if limit.hourly > 0 && limit.burst > limit.hourly as u64 {
            let message =
                format!("burst ({}) is above hourly ({}), so it can never be used up", limit.burst, limit.hourly);
            findings.warning(&[place.key("burst"), place.key("hourly")], message);
        }
    }
    for name in policy.data_bus.publish_limits.keys() {
        known(policy, name, &Path::of("data_bus.publish_limits").key(name.as_str()), findings);
    }
    thresholds(policy, findings);
    let broken = fallbacks(policy, findings);
    complete(policy, &broken, findings);
}

/// A name that is no user type's grants nothing to anybody: it is a slip.
pub(super) fn known(policy: &Policy, name: &UserType, place: &Path, findings: &mut Findings) {
    if !is_known(policy, name) {
        let types = policy.known_types();
        let message = unknown("user type", name.as_str(), types.iter().map(UserType::as_str));
        let declaration = Path::of("user_types").key(name.as_str());
        findings.error(&[place.clone(), declaration], format!("{message}; declare new ones in user_types"));
    }
}

fn is_known(policy: &Policy, name: &UserType) -> bool {
    UserType::BUILT_IN.contains(&name.as_str()) || policy.user_types.contains_key(name)
}

/// One home for each threshold, and none above the limit at which everybody is refused.
fn thresholds(policy: &Policy, findings: &mut Findings) {
    let hard = policy.backpressure.hard_limit_threshold;
    for (name, settings) in &policy.user_types {
        let Some(threshold) = settings.pressure_threshold else { continue };
        let place = Path::of("user_types").key(name.as_str()).key("pressure_threshold");
        let home = match name.as_str() {
            "privileged" => Some("hard_limit_threshold".to_owned()),
            own @ ("anonymous" | "registered" | "paid") => Some(format!("{own}_pressure_threshold")),
            _ => None,
        };
        if let Some(home) = home {
            findings.error(&[place], format!("stands in backpressure.{home}"));
        } else if threshold > hard {
            let message =
                format!("pressure_threshold of {name} ({threshold}) must be at most hard_limit_threshold ({hard})");
            findings.error(&[place, Path::of("backpressure.hard_limit_threshold")], message);
        }
    }
}

/// Fallbacks lead to known types and never in a circle; returns the types whose fallback does not.
fn fallbacks(policy: &Policy, findings: &mut Findings) -> BTreeSet<UserType> {
    let mut broken = BTreeSet::new();
    let fallback_of = |name: &UserType| Path::of("user_types").key(name.as_str()).key("falls_back_to");
    let next = |name: &UserType| policy.user_types.get(name).and_then(|settings| settings.falls_back_to.as_ref());
    for name in policy.user_types.keys() {
        let mut chain = vec![name];
        while let Some(target) = next(chain[chain.len() - 1]) {
            if !is_known(policy, target) {
                if chain.len() == 1 {
                    known(policy, target, &fallback_of(name), findings);
                }
                broken.insert(name.clone());
                break;
            }
            if chain.contains(&target) {
                // Told once, by the first of its members.
                if target == name && chain.iter().all(|member| *member >= name) {
                    let circle: Vec<&str> = chain.iter().map(|t| t.as_str()).chain([name.as_str()]).collect();
                    let places: Vec<Path> = chain.iter().map(|member| fallback_of(member)).collect();
                    findings.error(&places, format!("goes in a circle: {}", circle.join(" -> ")));
                }
                broken.insert(name.clone());
                break;
            }
            chain.push(target);
        }
    }
    broken
}

/// Every type that may be given to a caller has all that the gates ask for.
fn complete(policy: &Policy, broken: &BTreeSet<UserType>, findings: &mut Findings) {
    for name in policy.known_types().into_iter().filter(|name| !broken.contains(name)) {
        let place = Path::of("user_types").key(name.as_str());
        let role = Path::of("rate_limits.roles").key(name.as_str());
        let lacking = [
            (policy.limits_of(&name).is_none(), "a rate limit", role.to_string(), role),
            (policy.weight_of(&name).is_none(), "a weight", place.key("weight").to_string(), place.key("weight")),
            (
                policy.threshold_of(&name).is_none(),
                "a pressure threshold",
                place.key("pressure_threshold").to_string(),
                place.key("pressure_threshold"),
            ),
        ];
        for (_, what, given_by, other) in lacking.into_iter().filter(|(lacks, ..)| *lacks) {
            let message = format!("has neither {what} ({given_by}) nor a falls_back_to that has one");
            findings.error(&[place.clone(), other], message);
        }
    }
}
