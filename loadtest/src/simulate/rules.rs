//! The policies of a simulated scope: small numbers, so that every gate is met within seconds.
//!
//! Responsible for policies that differ in everything that may change while tasks are under way. Must never leave out
//! a bound on how long a task can take to end: that is what a run waits for.

use std::sync::{Arc, LazyLock};

use portcullis_config::policy::{Budget, NamedLimit, Period, Retry, Subject};
use portcullis_config::{Policy, UserType};

/// How many policies there are; the first is the one everybody was started with.
pub(super) const POLICIES: u64 = 6;

static ALL: LazyLock<Vec<Arc<Policy>>> = LazyLock::new(|| (0..POLICIES).map(|number| Arc::new(make(number))).collect());

/// The policy of this number.
pub(super) fn policy(number: u64) -> Arc<Policy> {
    Arc::clone(&ALL[(number % POLICIES) as usize])
}

/// The document of the policy of this number: all that a simulated replica reads of one.
pub(super) fn document(number: u64) -> String {
    number.to_string()
}

/// The policy a document stands for.
pub(super) fn read(document: &str) -> Arc<Policy> {
    policy(document.parse().unwrap_or(0))
}

/// A user type of the shipped policy.
pub(super) fn user_type(name: &str) -> UserType {
    UserType::new(name).unwrap_or_else(|_| UserType::anonymous())
}

fn make(number: u64) -> Policy {
    let mut policy = Policy::shipped("t", "p");
    for (nth, role) in (0..).zip(policy.rate_limits.roles.values_mut()) {
        (role.burst, role.burst_window, role.hourly) = (4 + 2 * nth + number % 3, 2, 60 - 10 * (number as i64 % 3));
    }
    let limit = NamedLimit {
        per: Subject::Principal,
        unit: "tokens".to_owned(),
        limit: 900 - 100 * (number % 4),
        window_seconds: 5,
        default_estimate: Some(10),
        user_types: None,
        kinds: None,
    };
    policy.rate_limits.named.insert("tokens".to_owned(), limit);
    let budgets = [
        ("tokens", Period::Minute, Subject::Principal, 1_800 - 200 * (number % 3)),
        ("requests", Period::Hour, Subject::Tenant, 900),
    ];
    for (unit, period, per, amount) in budgets {
        let budget = Budget { unit: unit.to_owned(), amount, period, per, default_estimate: 10, user_types: None };
        policy.budgets.insert(format!("{unit}_budget"), budget);
    }
    policy.queue.lease_ms = [2_000, 1_000, 4_000][(number % 3) as usize];
    policy.queue.attempt_timeout_ms = 4_000;
    policy.queue.retry = Retry { initial_ms: 200, factor: 2.0, max_ms: 1_000 };
    (policy.queue.max_delayed, policy.queue.max_dead_letters) = (20, 10);
    policy.service_capacity.concurrent_requests_per_process = 3 + number % 2;
    policy.service_capacity.avg_processing_time_seconds = 0.3;
    policy.backpressure.queue_depth_multiplier = 2.0 + (number % 2) as f64;
    policy.monitoring.heartbeat_timeout_seconds = 2 + number % 2;
    policy.limits.max_queue_size = if number == 3 { 10 } else { 0 };
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.failure_rate) = (5, 2, 0.6);
    (breaker.slow_call_ms, breaker.open_seconds, breaker.window_seconds) = (2_500, 1, 10);
    policy
}

/// The largest amount that any of the policies gives a budget.
pub(super) fn largest_amount(budget: &str) -> u64 {
    ALL.iter().filter_map(|policy| policy.budgets.get(budget)).map(|budget| budget.amount).max().unwrap_or(0)
}
