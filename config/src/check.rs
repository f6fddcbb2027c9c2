//! Relations between the values of a policy, each with the reason it must hold.
//!
//! Responsible for what no single value shows. Errors are relations without which a gate would decide wrongly or a
//! process could not start; warnings are what the author most likely did not mean. Must never bound a value by itself:
//! that is done by its type (`policy.rs`), which the published schema shows too.

use crate::fault::Path;
use crate::identity::Scope;
use crate::policy::Policy;

mod user_types;
mod spending;
mod kinds;
mod lockout;
mod routes;
mod capacity;
mod cors;

/// A relation that does not hold.
#[derive(Debug)]
pub(crate) struct Finding {
    /// The places it is between; it is reported at the first of them that the document gives.
    pub(crate) places: Vec<Path>,
    /// What does not hold.
    pub(crate) message: String,
}

/// All relations that do not hold.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Those for which the policy is refused.
    pub(crate) errors: Vec<Finding>,
    /// Those its author should know of.
    pub(crate) warnings: Vec<Finding>,
}

impl Findings {
    fn error(&mut self, places: &[Path], message: impl Into<String>) {
        self.errors.push(Finding { places: places.to_vec(), message: message.into() });
    }

    fn warning(&mut self, places: &[Path], message: impl Into<String>) {
        self.warnings.push(Finding { places: places.to_vec(), message: message.into() });
    }
}

/// Checks every relation.
pub(crate) fn relations(policy: &Policy) -> Findings {
    let mut findings = Findings::default();
    scope(policy, &mut findings);
    user_types::check(policy, &mut findings);
    thresholds(policy, &mut findings);
    spending::check(policy, &mut findings);
    queue(policy, &mut findings);
    kinds::check(policy, &mut findings);
    pools(policy, &mut findings);
    routes::check(policy, &mut findings);
    lockout::check(policy, &mut findings);
    capacity::check(policy, &mut findings);
    cors::check(policy, &mut findings);
    findings
}

/// Both names become the hash tag of every key.
fn scope(policy: &Policy, findings: &mut Findings) {
    const ELSE: &str = "x";
    for (place, scope) in
        [("tenant", Scope::new(policy.tenant.as_str(), ELSE)), ("project", Scope::new(ELSE, policy.project.as_str()))]
    {
        if let Err(e) = scope {
            findings.error(&[Path::of(place)], format!("{e}: 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
    }
}

/// A higher type must not be refused before a lower one, and everybody at the hard limit.
fn thresholds(policy: &Policy, findings: &mut Findings) {
    let pressure = &policy.backpressure;
    let place = |name: &str| Path::of("backpressure").key(name);
    let ladder = [
        ("anonymous_pressure_threshold", pressure.anonymous_pressure_threshold),
        ("registered_pressure_threshold", pressure.registered_pressure_threshold),
        ("paid_pressure_threshold", pressure.paid_pressure_threshold),
        ("hard_limit_threshold", pressure.hard_limit_threshold),
    ];
    for (rung, pair) in ladder.windows(2).enumerate() {
        let ((lower, low), (higher, high)) = (pair[0], pair[1]);
        // Registered and paid may share a threshold, as the reference system's documents do.
        let may_equal = rung == 1;
        if high < low || (high <= low && !may_equal) {
            let relation = if may_equal { "at least" } else { "above" };
            findings
                .error(&[place(higher), place(lower)], format!("{higher} ({high}) must be {relation} {lower} ({low})"));
        }
    }
}

/// A default that its own limit would refuse cannot be used.
fn queue(policy: &Policy, findings: &mut Findings) {
    let (queue, retry) = (&policy.queue, &policy.queue.retry);
    let place = Path::of("queue");
    if queue.max_attempts > queue.max_attempts_limit {
        let message = format!(
            "max_attempts ({}) must be at most max_attempts_limit ({})",
            queue.max_attempts, queue.max_attempts_limit
        );
        findings.error(&[place.key("max_attempts"), place.key("max_attempts_limit")], message);
    }
    if retry.max_ms < retry.initial_ms {
        let message = format!("max_ms ({}) must be at least initial_ms ({})", retry.max_ms, retry.initial_ms);
        findings.error(&[place.key("retry").key("max_ms"), place.key("retry").key("initial_ms")], message);
    }
}

/// Carried only, but a document with a pool that cannot be would fail where it came from.
fn pools(policy: &Policy, findings: &mut Findings) {
    if let (Some(least), Some(most)) = (policy.pools.pg_pool_min_size, policy.pools.pg_pool_max_size)
        && most < least
    {
        let place = Path::of("pools");
        let message = format!("pg_pool_max_size ({most}) must be at least pg_pool_min_size ({least})");
        findings.error(&[place.key("pg_pool_max_size"), place.key("pg_pool_min_size")], message);
    }
}
