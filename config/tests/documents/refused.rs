//! Documents that are refused: one fault each with the path and the word it must name, and all of them at once.

use portcullis_config::{Component, LoadError, parse};
use serde_json::json;

use super::{env, faults};

/// Document, path of its one fault, a word its message must hold.
pub(crate) type Case = (&'static str, &'static str, &'static str);

pub(crate) fn each(cases: &[Case]) {
    for (text, path, word) in cases {
        let found = faults(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), [path], "{text}: {found:?}");
        assert!(found[*path].contains(word), "{text}: {found:?}");
    }
}

#[test]
fn unknown_keys_name_the_nearest_known_one() {
    each(&[
        ("rate_limit: {}", "rate_limit", "\"rate_limits\""),
        ("rate_limits: { roles: { paid: { brust: 1 } } }", "rate_limits.roles.paid.brust", "\"burst\""),
        ("rate_limits: { rolls: {} }", "rate_limits.rolls", "\"roles\""),
        ("queue: { lease: 1 }", "queue.lease", "\"lease_ms\""),
        ("queue: { retry: { initial: 1 } }", "queue.retry.initial", "\"initial_ms\""),
        ("circuit_breakers: { tasks: { failurerate: 1 } }", "circuit_breakers.tasks.failurerate", "\"failure_rate\""),
        ("circuit_breakers: { auth_treshold: 1 }", "circuit_breakers.auth_treshold", "auth_"),
        ("limits: { ingress: { max_queue: 1 } }", "limits.ingress.max_queue", "\"max_queue_size\""),
        ("guarded_rest_patterns: { inress: [] }", "guarded_rest_patterns", "a list"),
        ("profile: prod", "profile", "\"production\""),
        ("profile: Development", "profile", "\"development\""),
    ]);
}

#[test]
fn wrong_types_are_told_with_their_path() {
    each(&[
        ("rate_limits: 5", "rate_limits", "an object"),
        ("rate_limits: { roles: [] }", "rate_limits.roles", "an object"),
        ("rate_limits: { roles: { paid: 5 } }", "rate_limits.roles.paid", "an object"),
        ("rate_limits: { roles: { paid: { burst: many } } }", "rate_limits.roles.paid.burst", "a whole number"),
        ("rate_limits: { roles: { paid: { burst: 1.5 } } }", "rate_limits.roles.paid.burst", "a whole number"),
        ("backpressure: { capacity_buffer: '0.2' }", "backpressure.capacity_buffer", "a number"),
        ("guarded_rest_patterns: ^/x$", "guarded_rest_patterns", "a list"),
        ("guarded_rest_patterns: [^/x$, 5]", "guarded_rest_patterns[1]", "a string"),
        ("monitoring: { queue_analytics_enabled: yes please }", "monitoring.queue_analytics_enabled", "true or false"),
        ("tenant: 5", "tenant", "a string"),
        ("budgets: { b: 5 }", "budgets.b", "an object"),
        ("user_types: { gold: { falls_back_to: 5 } }", "user_types.gold.falls_back_to", "a string"),
        (
            "data_bus: { publish_limits: { paid: { enabled: 1 } } }",
            "data_bus.publish_limits.paid.enabled",
            "true or false",
        ),
    ]);
}

#[test]
fn values_out_of_their_bounds_are_told_with_the_bound() {
    each(&[
        ("rate_limits: { roles: { paid: { hourly: 0 } } }", "rate_limits.roles.paid.hourly", "above 0"),
        ("rate_limits: { roles: { paid: { hourly: -2 } } }", "rate_limits.roles.paid.hourly", "at least -1"),
        ("rate_limits: { roles: { paid: { burst: 0 } } }", "rate_limits.roles.paid.burst", "at least 1"),
        ("rate_limits: { roles: { paid: { burst: -1 } } }", "rate_limits.roles.paid.burst", "at least 1"),
        ("rate_limits: { roles: { paid: { burst_window: 0 } } }", "rate_limits.roles.paid.burst_window", "at least 1"),
        (
            "rate_limits: { roles: { paid: { burst_window: 86401 } } }",
            "rate_limits.roles.paid.burst_window",
            "at most 86400",
        ),
        (
            "service_capacity: { concurrent_requests_per_process: 0 }",
            "service_capacity.concurrent_requests_per_process",
            "1",
        ),
        ("service_capacity: { processes_per_instance: 0 }", "service_capacity.processes_per_instance", "at least 1"),
        (
            "service_capacity: { avg_processing_time_seconds: 0 }",
            "service_capacity.avg_processing_time_seconds",
            "above 0",
        ),
        ("backpressure: { capacity_buffer: 0 }", "backpressure.capacity_buffer", "above 0"),
        ("backpressure: { capacity_buffer: 1 }", "backpressure.capacity_buffer", "below 1"),
        ("backpressure: { queue_depth_multiplier: 0 }", "backpressure.queue_depth_multiplier", "above 0"),
        ("backpressure: { anonymous_pressure_threshold: 0 }", "backpressure.anonymous_pressure_threshold", "above 0"),
        ("backpressure: { hard_limit_threshold: 1.1 }", "backpressure.hard_limit_threshold", "at most 1"),
        ("backpressure: { capacity_source_component: '' }", "backpressure.capacity_source_component", "empty"),
        ("circuit_breakers: { auth_failure_threshold: 0 }", "circuit_breakers.auth_failure_threshold", "at least 1"),
        ("circuit_breakers: { tasks: { failure_rate: 0 } }", "circuit_breakers.tasks.failure_rate", "above 0"),
        ("circuit_breakers: { tasks: { slow_call_rate: 1.01 } }", "circuit_breakers.tasks.slow_call_rate", "at most 1"),
        ("circuit_breakers: { tasks: { minimum_calls: 0 } }", "circuit_breakers.tasks.minimum_calls", "at least 1"),
        (
            "circuit_breakers: { tasks: { half_open_probes: 0 } }",
            "circuit_breakers.tasks.half_open_probes",
            "at least 1",
        ),
        ("pools: { redis_max_connections: 0 }", "pools.redis_max_connections", "at least 1"),
        ("pools: { pg_pool_min_size: -1 }", "pools.pg_pool_min_size", "at least 0"),
        ("limits: { max_queue_size: -1 }", "limits.max_queue_size", "at least 0"),
        ("limits: { max_sse_connections_per_instance: -1 }", "limits.max_sse_connections_per_instance", "at least 0"),
        ("monitoring: { heartbeat_timeout_seconds: 0 }", "monitoring.heartbeat_timeout_seconds", "at least 1"),
        ("monitoring: { max_audit_events: 999 }", "monitoring.max_audit_events", "at least 1000"),
        ("queue: { lease_ms: 199 }", "queue.lease_ms", "at least 200"),
        ("queue: { max_attempts_limit: 101 }", "queue.max_attempts_limit", "at most 100"),
        ("queue: { retry: { factor: 0.9 } }", "queue.retry.factor", "at least 1"),
        ("queue: { max_delay_ms: 18446744073709551615 }", "queue.max_delay_ms", "at most"),
        ("queue: { max_delay_ms: 1e300 }", "queue.max_delay_ms", "whole number"),
        ("user_types: { paid: { weight: 0 } }", "user_types.paid.weight", "above 0"),
        (
            "data_bus: { publish_limits: { paid: { window_seconds: 0 } } }",
            "data_bus.publish_limits.paid.window_seconds",
            "1",
        ),
        (
            "data_bus: { publish_limits: { paid: { bytes_per_minute: -2 } } }",
            "data_bus.publish_limits.paid.bytes_per_minute",
            "-1",
        ),
    ]);
}

#[test]
fn relations_that_do_not_hold_are_told_where_the_document_breaks_them() {
    each(&[
        ("backpressure: { anonymous_pressure_threshold: 0.8 }", "backpressure.anonymous_pressure_threshold", "above"),
        (
            "backpressure: { registered_pressure_threshold: 0.5 }",
            "backpressure.registered_pressure_threshold",
            "anonymous",
        ),
        (
            "backpressure: { paid_pressure_threshold: 0.7 }",
            "backpressure.paid_pressure_threshold",
            "at least registered",
        ),
        ("backpressure: { hard_limit_threshold: 0.9 }", "backpressure.hard_limit_threshold", "above paid"),
        ("pools: { pg_pool_min_size: 5, pg_pool_max_size: 4 }", "pools.pg_pool_max_size", "pg_pool_min_size (5)"),
        ("queue: { max_attempts: 30 }", "queue.max_attempts", "max_attempts_limit (25)"),
        ("queue: { max_attempts_limit: 2 }", "queue.max_attempts_limit", "max_attempts (3)"),
        ("queue: { retry: { initial_ms: 70000 } }", "queue.retry.initial_ms", "max_ms (60000)"),
        ("guarded_rest_patterns: ['^/ok$', '^/(']", "guarded_rest_patterns[1]", "unclosed group"),
        ("bypass_throttling_patterns: ['(?=x)']", "bypass_throttling_patterns[0]", "look-around"),
        (r"guarded_rest_patterns: ['(\w{500}){500}']", "guarded_rest_patterns[0]", "size"),
        ("tenant: 'a}b'", "tenant", "a}b"),
        ("project: 'a b'", "project", "a b"),
    ]);
}

#[test]
fn user_types_must_be_known_and_complete() {
    each(&[
        (
            "rate_limits: { roles: { regsitered: { hourly: 1, burst: 1, burst_window: 1 } } }",
            "rate_limits.roles.regsitered",
            "\"registered\"",
        ),
        ("data_bus: { publish_limits: { payed: {} } }", "data_bus.publish_limits.payed", "\"paid\""),
        ("user_types: { gold: { falls_back_to: piad } }", "user_types.gold.falls_back_to", "\"paid\""),
        ("user_types: { gold: { falls_back_to: gold } }", "user_types.gold.falls_back_to", "gold -> gold"),
        ("user_types: { anonymous: { falls_back_to: external } }", "user_types.anonymous.falls_back_to", "circle"),
        ("user_types: { Gold: { falls_back_to: paid } }", "user_types.Gold", "valid name"),
        (
            "user_types: { paid: { pressure_threshold: 0.5 } }",
            "user_types.paid.pressure_threshold",
            "backpressure.paid_pressure_threshold",
        ),
        (
            "user_types: { privileged: { pressure_threshold: 0.5 } }",
            "user_types.privileged.pressure_threshold",
            "hard_limit",
        ),
        (
            "user_types: { external: { pressure_threshold: 0.99 } }",
            "user_types.external.pressure_threshold",
            "hard_limit",
        ),
        ("user_types: { gold: { weight: 1, pressure_threshold: 0.5 } }", "user_types.gold", "a rate limit"),
        (
            "user_types: { gold: { weight: 1 } }\nrate_limits: { gold: { hourly: 1, burst: 1, burst_window: 1 } }",
            "user_types.gold",
            "a pressure threshold",
        ),
        (
            "user_types: { gold: { falls_back_to: paid } }\nrate_limits: { gold: { hourly: 1, burst: 1 } }",
            "rate_limits.roles.gold.burst_window",
            "missing",
        ),
    ]);
    let cycle = faults("user_types: { a: { falls_back_to: b }, b: { falls_back_to: c }, c: { falls_back_to: b } }");
    assert_eq!(cycle.keys().collect::<Vec<_>>(), ["user_types.b.falls_back_to"]);
}

#[test]
fn budgets_must_make_sense() {
    each(&[
        (
            "budgets: { b: { unit: tokens, amount: 0, period: day, per: tenant, default_estimate: 0 } }",
            "budgets.b.amount",
            "at least 1",
        ),
        (
            "budgets: { b: { unit: Tokens, amount: 1, period: day, per: tenant, default_estimate: 0 } }",
            "budgets.b.unit",
            "Tokens",
        ),
        (
            "budgets: { b: { unit: tokens, amount: 1, period: daily, per: tenant, default_estimate: 0 } }",
            "budgets.b.period",
            "\"day\"",
        ),
        (
            "budgets: { b: { unit: tokens, amount: 1, period: day, per: user, default_estimate: 0 } }",
            "budgets.b.per",
            "\"user_type\"",
        ),
        (
            "budgets: { b: { unit: tokens, amount: 1, period: day, per: tenant, default_estimate: 2 } }",
            "budgets.b.default_estimate",
            "amount (1)",
        ),
        (
            "budgets: { b: { unit: tokens, amount: 1, period: day, per: tenant, default_estimate: 1, \
             user_types: [] } }",
            "budgets.b.user_types",
            "leave it out",
        ),
        (
            "budgets: { b: { unit: tokens, amount: 1, period: day, per: tenant, default_estimate: 1, \
             user_types: [paid, gold] } }",
            "budgets.b.user_types[1]",
            "gold",
        ),
        (
            "budgets: { b: { unit: tokens, period: day, per: tenant, default_estimate: 1 } }",
            "budgets.b.amount",
            "missing",
        ),
        (
            "budgets: { 'a.b': { unit: tokens, amount: 1, period: day, per: tenant, default_estimate: 1 } }",
            "budgets[\"a.b\"]",
            "valid name",
        ),
    ]);
}

#[test]
fn both_slices_are_checked_whichever_component_reads() {
    each(&[
        ("rate_limits: { proc: { paid: { burst: 0 } } }", "rate_limits.proc.roles.paid.burst", "at least 1"),
        (
            "backpressure: { worker: { hard_limit_threshold: 0.5 } }",
            "backpressure.worker.hard_limit_threshold",
            "above paid",
        ),
        (
            "backpressure: { ingress: { hard_limit: 0.5 } }",
            "backpressure.ingress.hard_limit",
            "\"hard_limit_threshold\"",
        ),
        ("guarded_rest_patterns: { ingress: [], proc: ['('] }", "guarded_rest_patterns.proc[0]", "unclosed"),
        ("limits: { proc: { max_queue_size: -1 } }", "limits.proc.max_queue_size", "at least 0"),
        ("limits: { max_queue_size: -1, proc: {} }", "limits.max_queue_size", "at least 0"),
        ("limits: { proc: 5 }", "limits.proc", "an object"),
        ("guarded_rest_patterns: { proc: {} }", "guarded_rest_patterns.proc", "a list"),
        ("limits: { proc: {}, worker: {} }", "limits.worker", "same slice"),
        ("circuit_breakers: { proc: {} }", "circuit_breakers.proc", "no slices"),
        ("monitoring: { ingress: {} }", "monitoring.ingress", "no slices"),
        ("redis: { worker: {} }", "redis.worker", "no slices"),
        ("queue: { processor: {} }", "queue.processor", "no slices"),
    ]);
}

#[test]
fn all_faults_are_told_at_once_and_none_that_only_follows_from_another() {
    let found = faults(
        "tenant_id: a
tenant: b
rate_limits: { roles: { paid: { burst: x, hourly: 0 }, gold: { hourly: 1 } } }
backpressure: { anonymous_pressure_threshold: 0.85, registered_pressure_threshold: high, paid_pressure_threshold: 0.99 }
limits: { proc: { max_queue_size: -1 } }
guarded_rest_patterns: ['(', '[']
queue: { max_attempts: 99, leas_ms: 1 }
monitoring: { proc: {} }
",
    );
    let paths: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        [
            "backpressure.paid_pressure_threshold",
            "backpressure.registered_pressure_threshold",
            "guarded_rest_patterns[0]",
            "guarded_rest_patterns[1]",
            "limits.proc.max_queue_size",
            "monitoring.proc",
            "queue.leas_ms",
            "queue.max_attempts",
            "rate_limits.roles.gold.burst",
            "rate_limits.roles.gold.burst_window",
            "rate_limits.roles.paid.burst",
            "rate_limits.roles.paid.hourly",
            "tenant_id",
        ]
    );
}

#[test]
fn a_scope_that_nobody_names_is_a_fault() {
    for text in ["{}", "tenant: '{{TENANT_ID}}'\nproject: PROJECT", "tenant: ''"] {
        let Err(LoadError::Invalid { faults, .. }) = parse(text, Component::Ingress, &|_| None) else {
            panic!("{text} was accepted")
        };
        let paths: Vec<&str> = faults.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["tenant", "project"], "{text}");
    }
}

#[test]
fn what_cannot_be_read_or_is_no_object_is_refused() {
    for text in ["{\"a\": ", "a: [", "a: 1\na: 2"] {
        assert!(matches!(parse(text, Component::Ingress, &env), Err(LoadError::Unreadable { .. })), "{text}");
    }
    for text in ["", "[]", "just words", "gateway: 5"] {
        assert_eq!(faults(text).keys().collect::<Vec<_>>(), [""], "{text}");
    }
}

#[test]
fn every_list_and_map_has_a_bound() {
    let patterns = vec!["/x"; 257];
    let types: serde_json::Map<_, _> = (0..65).map(|n| (format!("t{n}"), json!({ "falls_back_to": "paid" }))).collect();
    for (document, path) in [
        (json!({ "guarded_rest_patterns": patterns }), "guarded_rest_patterns"),
        (json!({ "user_types": types }), "user_types"),
    ] {
        let found = faults(&document.to_string());
        assert_eq!(found.keys().collect::<Vec<_>>(), [path], "{found:?}");
        assert!(found[path].contains("at most"), "{found:?}");
    }
}

#[test]
fn the_error_lists_every_fault_with_its_path() {
    let error = parse("queue: { lease_ms: 1 }\nlimits: 5", Component::Ingress, &env).unwrap_err().to_string();
    assert!(error.starts_with("document: 2 faults\n"), "{error}");
    assert!(error.contains("\n  limits: ") && error.contains("\n  queue.lease_ms: "), "{error}");
}
