//! Who takes part in the random histories, under which policy, and what their requests and outcomes look like.
//!
//! Responsible for every gate being met within a few dozen operations. Must never draw anything: that is
//! `operation.rs`.

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, KindBreaker, KindSettings, Period, RouteClassSettings, Subject};
use portcullis_lua::{AdmitRequest, Idempotency, Once, Outcome, Provenance, TaskError, TaskResult};

use super::operation::{Ask, End};
use super::stage::{limit, named_limit, request, roomy, user_type};

/// Longer than any test: it lapses by the clock of Redis, whatever time is injected.
const DAY_MS: u32 = 86_400_000;

/// Somebody who calls.
pub(crate) struct Caller {
    user_type: &'static str,
    session: &'static str,
    principal: &'static str,
    address: Option<&'static str>,
    agent: Option<&'static str>,
}

const fn caller(user_type: &'static str, session: &'static str, principal: &'static str) -> Caller {
    Caller { user_type, session, principal, address: None, agent: None }
}

/// Two of a principal, three behind an address, an agent of two principals.
pub(crate) const CALLERS: [Caller; 6] = [
    Caller { address: Some("office"), ..caller("anonymous", "s0", "guest-0") },
    Caller { address: Some("office"), ..caller("anonymous", "s1", "guest-1") },
    Caller { agent: Some("clerk"), ..caller("registered", "s2", "ada") },
    Caller { address: Some("office"), ..caller("registered", "s3", "ada") },
    Caller { address: Some("home"), agent: Some("clerk"), ..caller("paid", "s4", "bob") },
    caller("privileged", "s5", "eve"),
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
        ("of_agents", "requests", 9, Period::Day, Subject::Agent),
        ("of_addresses", "tokens", 3000, Period::Day, Subject::ClientAddress),
    ];
    for (name, unit, amount, period, per) in budgets {
        let user_types = (per == Subject::Session).then(|| vec![user_type("paid")]);
        let budget = Budget { unit: unit.to_owned(), amount, period, per, default_estimate: 50, user_types };
        policy.budgets.insert(name.to_owned(), budget);
    }
    named_limits(&mut policy);
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.slow_call_rate) = (3, 2, 0.7);
    (breaker.slow_call_ms, breaker.open_seconds, breaker.window_seconds) = (5_000, 4, 20);
    (policy.queue.max_delayed, policy.queue.max_dead_letters) = (3, 3);
    policy.kinds.insert("k1".to_owned(), own_breaker());
    policy.kinds.insert("k3".to_owned(), own_breaker());
    pools(&mut policy, [7, 4]);
    policy.queue.lease_ms = 8_000;
    policy.limits.max_queue_size = 11;
    policy.monitoring.heartbeat_timeout_seconds = 60;
    policy
}

/// One for each subject, in every shape a window can have.
fn named_limits(policy: &mut Policy) {
    let limits = [
        ("all", Subject::Tenant, "requests", 14, 20),
        ("of_type", Subject::UserType, "tokens", 4_000, 7_200),
        ("of_principal", Subject::Principal, "tokens", 700, 60),
        ("of_session", Subject::Session, "tokens", 1_000_000_000, 86_400),
        ("of_address", Subject::ClientAddress, "requests", 8, 3_600),
        ("of_agent", Subject::Agent, "requests", 5, 90),
    ];
    for (name, per, unit, limit, window_seconds) in limits {
        named_limit(policy, name, per, unit, limit, window_seconds);
    }
    let named = &mut policy.rate_limits.named;
    let of_principal = named.get_mut("of_principal").expect("one of them");
    of_principal.user_types = Some(["anonymous", "registered"].map(user_type).to_vec());
    of_principal.default_estimate = Some(60);
    named.get_mut("of_agent").expect("one of them").kinds = Some(vec!["k1".to_owned()]);
}

/// Stricter, shorter and sooner closed than the one all kinds have.
fn own_breaker() -> KindSettings {
    let breaker = KindBreaker {
        minimum_calls: Some(2),
        half_open_probes: Some(1),
        open_seconds: Some(2),
        window_seconds: Some(7),
        slow_call_ms: Some(3_000),
        failure_rate: Some(0.9),
        slow_call_rate: None,
    };
    KindSettings { circuit_breaker: Some(breaker), ..KindSettings::default() }
}

/// A policy that lets everybody in while the backend works, under which the breakers open and close all the time.
pub(crate) fn failing() -> Policy {
    let mut policy = roomy();
    policy.monitoring.heartbeat_timeout_seconds = 3_600;
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.failure_rate) = (2, 2, 0.4);
    (breaker.slow_call_ms, breaker.open_seconds, breaker.window_seconds) = (5_000, 1, 20);
    policy.kinds.insert("k1".to_owned(), own_breaker());
    policy.kinds.insert("k3".to_owned(), own_breaker());
    pools(&mut policy, [100, 100]);
    policy.queue.lease_ms = 8_000;
    policy
}

/// Passes of k2 and k3 have pools of their own, those of other kinds count as load of the scope.
fn pools(policy: &mut Policy, places: [u64; 2]) {
    for (name, max_concurrent) in ["k2", "k3"].into_iter().zip(places) {
        let class = RouteClassSettings {
            patterns: vec![format!("/{name}$")],
            methods: None,
            estimate: None,
            max_concurrent: Some(max_concurrent),
            timeout_ms: None,
            max_request_bytes: None,
            throttled: None,
        };
        policy.route_classes.insert(name.to_owned(), class);
    }
}

/// A request that only looks.
pub(crate) const LOOK: Ask = Ask {
    caller: 0,
    kind: 0,
    cost: 1,
    deadline_ms: None,
    delay_ms: 0,
    max_attempts: 1,
    key: None,
    tokens: None,
    pass: None,
    proof: None,
};

pub(crate) fn to_request(ask: &Ask) -> AdmitRequest {
    let Caller { user_type, session, principal, address, agent } = CALLERS[ask.caller];
    AdmitRequest {
        principal: principal.to_owned(),
        actor: agent.map(str::to_owned),
        client_address: address.map(str::to_owned),
        kind: format!("k{}", ask.kind),
        pass: ask.pass,
        cost: ask.cost.max(1),
        deadline_ms: ask.deadline_ms,
        delay_ms: ask.delay_ms,
        max_attempts: ask.max_attempts,
        idempotency: ask.key.map(|(key, body)| Idempotency {
            key_hash: format!("{principal}-{key}"),
            body_hash: format!("body-{body}"),
        }),
        provenance: Provenance {
            once: ask.proof.map(|id| Once::new(&id.to_string(), DAY_MS)),
            ..Provenance::default()
        },
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
