//! Task kinds: what one says of itself against what holds for all.
//!
//! Responsible for relations in which a kind takes part. Must never ask for a kind to be declared: a kind that is not
//! has what holds for all.

use super::Findings;
use super::spending::REQUESTS;
use crate::fault::Path;
use crate::policy::Policy;

/// Checks every relation in which a kind takes part.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    for (kind, settings) in &policy.kinds {
        let place = Path::of("kinds").key(kind);
        if let Some(own) = settings.max_attempts.filter(|own| *own > policy.queue.max_attempts_limit) {
            let limit = policy.queue.max_attempts_limit;
            let message = format!("max_attempts of {kind} ({own}) must be at most queue.max_attempts_limit ({limit})");
            findings.error(&[place.key("max_attempts"), Path::of("queue.max_attempts_limit")], message);
        }
        backoff(policy, kind, &place.key("retry"), findings);
        if settings.cost.is_some() {
            never_admitted(policy, kind, &place.key("cost"), findings);
        }
    }
}

/// What a kind leaves out comes from the queue, and the two together must still make sense.
fn backoff(policy: &Policy, kind: &str, place: &Path, findings: &mut Findings) {
    let Some(own) = policy.kinds.get(kind).and_then(|settings| settings.retry.as_ref()) else { return };
    let merged = policy.retry_of(kind);
    let says_either = own.initial_ms.is_some() || own.max_ms.is_some();
    if says_either && merged.initial_ms > merged.max_ms {
        let part = |own: Option<u64>, key: &str| {
            if own.is_some() { place.key(key) } else { Path::of("queue.retry").key(key) }
        };
        let message = format!(
            "max_ms ({}) must be at least initial_ms ({}) in the retry of {kind} and of the queue together",
            merged.max_ms, merged.initial_ms
        );
        let mut places = [part(own.initial_ms, "initial_ms"), part(own.max_ms, "max_ms")];
        places.sort_by_key(|path| !path.overlaps(place));
        findings.error(&places, message);
    }
}

/// A request that costs more than a window or budget ever holds is refused for good; that may be meant for some types.
fn never_admitted(policy: &Policy, kind: &str, place: &Path, findings: &mut Findings) {
    let cost = policy.cost_of(kind);
    let mut warn = |holder: Path, holds: u64, what: &str| {
        if cost > holds {
            let message = format!("{kind} costs {cost} requests, more than {what} holds ({holds}): it never passes");
            findings.warning(&[place.clone(), holder], message);
        }
    };
    for (user_type, limit) in &policy.rate_limits.roles {
        let role = Path::of("rate_limits.roles").key(user_type.as_str());
        warn(role.key("burst"), limit.burst, &format!("the burst of {user_type}"));
        if let Ok(hourly @ 1..) = u64::try_from(limit.hourly) {
            warn(role.key("hourly"), hourly, &format!("the hour of {user_type}"));
        }
    }
    let applies = |kinds: &Option<Vec<String>>| kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|k| k == kind));
    for (name, limit) in &policy.rate_limits.named {
        if limit.unit == REQUESTS && applies(&limit.kinds) {
            warn(Path::of("rate_limits.named").key(name).key("limit"), limit.limit, &format!("the limit {name}"));
        }
    }
    for (name, budget) in policy.budgets.iter().filter(|(_, budget)| budget.unit == REQUESTS) {
        warn(Path::of("budgets").key(name).key("amount"), budget.amount, &format!("the budget {name}"));
    }
}
