//! Who takes part in the random histories, under which policy, and what their requests and outcomes look like.
//!
//! Responsible for every gate being met within a few dozen operations. Must never draw anything: that is
//! `operation.rs`.

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, Period, Subject};
use portcullis_lua::{AdmitRequest, Idempotency, Outcome, TaskError, TaskResult};

use super::operation::{Ask, End};
use super::stage::{limit, request, roomy};

/// User type, session and principal of each.
pub(crate) const CALLERS: [(&str, &str, &str); 6] = [
    ("anonymous", "s0", "guest-0"),
    ("anonymous", "s1", "guest-1"),
    ("registered", "s2", "ada"),
    ("registered", "s3", "ada"),
    ("paid", "s4", "bob"),
    ("privileged", "s5", "eve"),
];

/// A policy under which a few dozen operations meet every gate.
pub(crate) fn tight() -> Policy {
    let mut policy = Policy::shipped("t", "p");
    for (name, burst, hourly) in [("anonymous", 4, 9), ("registered", 6, 8), ("paid", 500, 5), ("privileged", 8, -1)] {
        limit(&mut policy, name, burst, 60, hourly);
    }
    let budgets = [
        ("minutely", "requests", 12, Period::Minute, Subject::Tenant),
        ("hourly", "tokens", 1500, Period::Hour, Subject::Session),
        ("daily", "tokens", 2000, Period::Day, Subject::Principal),
        ("weekly", "requests", 25, Period::Week, Subject::UserType),
        ("monthly", "tokens", 6000, Period::Month, Subject::Tenant),
    ];
    for (name, unit, amount, period, per) in budgets {
        let user_types = (per == Subject::Session).then(|| vec![super::stage::user_type("paid")]);
        let budget = Budget { unit: unit.to_owned(), amount, period, per, default_estimate: 50, user_types };
        policy.budgets.insert(name.to_owned(), budget);
    }
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.slow_call_rate) = (3, 2, 0.7);
    (breaker.slow_call_ms, breaker.open_seconds, breaker.window_seconds) = (5_000, 4, 20);
    (policy.queue.max_delayed, policy.queue.max_dead_letters) = (3, 3);
    policy.queue.lease_ms = 8_000;
    policy.limits.max_queue_size = 11;
    policy.monitoring.heartbeat_timeout_seconds = 60;
    policy
}

/// A policy that lets everybody in while the backend works, under which the breakers open and close all the time.
pub(crate) fn failing() -> Policy {
    let mut policy = roomy();
    policy.monitoring.heartbeat_timeout_seconds = 3_600;
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.failure_rate) = (2, 2, 0.4);
    (breaker.slow_call_ms, breaker.open_seconds, breaker.window_seconds) = (5_000, 1, 20);
    policy.queue.lease_ms = 8_000;
    policy
}

/// A request that only looks.
pub(crate) const LOOK: Ask =
    Ask { caller: 0, kind: 0, cost: 1, deadline_ms: None, delay_ms: 0, max_attempts: 1, key: None, tokens: None };

pub(crate) fn to_request(ask: &Ask) -> AdmitRequest {
    let (user_type, session, principal) = CALLERS[ask.caller];
    AdmitRequest {
        principal: principal.to_owned(),
        kind: format!("k{}", ask.kind),
        cost: ask.cost.max(1),
        deadline_ms: ask.deadline_ms,
        delay_ms: ask.delay_ms,
        max_attempts: ask.max_attempts,
        idempotency: ask.key.map(|(key, body)| Idempotency {
            key_hash: format!("{principal}-{key}"),
            body_hash: format!("body-{body}"),
        }),
        estimates: ask.tokens.map(|tokens| ("tokens".to_owned(), tokens)).into_iter().collect(),
        ..request(user_type, session)
    }
}

pub(crate) fn outcome(end: End) -> Outcome {
    let error = || TaskError { code: "handler_status".to_owned(), detail: "500".to_owned() };
    let usage = |tokens: Option<u64>| tokens.map(|tokens| ("tokens".to_owned(), tokens)).into_iter().collect();
    let result = || TaskResult { content_type: "text/plain".to_owned(), body: "done".into() };
    match end {
        End::Succeeded(tokens) => Outcome::Succeeded { result: result(), usage: usage(tokens) },
        End::Failed(tokens) => Outcome::Failed { error: error(), usage: usage(tokens) },
        End::Retry(after_ms) => Outcome::Retry { error: error(), after_ms },
        End::Cancelled => Outcome::Cancelled,
        End::Expired => Outcome::Expired,
        End::Dead => Outcome::Dead { error: error() },
        End::HandedBack => Outcome::HandedBack,
    }
}
