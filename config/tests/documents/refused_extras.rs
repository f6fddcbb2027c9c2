//! Documents whose named limits, kinds or patterns are refused, and those their authors are told about.

use portcullis_config::{Component, parse};

use super::refused::each;
use super::{env, faults, loaded};

#[test]
fn named_limits_must_make_sense() {
    let limit = |fields: &str| {
        format!("rate_limits: {{ named: {{ n: {{ per: agent, limit: 9, window_seconds: 60, {fields} }} }} }}")
    };
    for (fields, path, word) in [
        ("unit: tokens", "default_estimate", "no estimate"),
        ("unit: tokens, default_estimate: 10", "default_estimate", "limit (9)"),
        ("unit: Tokens, default_estimate: 1", "unit", "Tokens"),
        ("unit: requests, user_types: []", "user_types", "leave it out"),
        ("unit: requests, user_types: [paid, payed]", "user_types[1]", "\"paid\""),
        ("unit: requests, kinds: []", "kinds", "leave it out"),
        ("unit: requests, kinds: [chat, 'Chat']", "kinds[1]", "match"),
        ("unit: requests, cost: 1", "cost", "unknown key"),
    ] {
        let found = faults(&limit(fields));
        let path = format!("rate_limits.named.n.{path}");
        assert_eq!(found.keys().collect::<Vec<_>>(), [&path], "{fields}: {found:?}");
        assert!(found[&path].contains(word), "{found:?}");
    }
    each(&[
        (
            "rate_limits: { named: { burst: { per: agent, unit: requests, limit: 9, window_seconds: 60 } } }",
            "rate_limits.named.burst",
            "every session",
        ),
        (
            "rate_limits: { named: { hourly: { per: agent, unit: requests, limit: 9, window_seconds: 60 } } }",
            "rate_limits.named.hourly",
            "every session",
        ),
        (
            "rate_limits: { named: { n: { per: user, unit: requests, limit: 9, window_seconds: 60 } } }",
            "rate_limits.named.n.per",
            "\"user_type\"",
        ),
        (
            "rate_limits: { named: { n: { per: agent, unit: requests, limit: 9 } } }",
            "rate_limits.named.n.window_seconds",
            "missing",
        ),
    ]);
    let agrees =
        faults(&limit("unit: tokens, default_estimate: 9, user_types: [paid], kinds: [never.declared-kind_1]"));
    assert!(agrees.is_empty(), "{agrees:?}");
}

#[test]
fn kinds_must_fit_what_holds_for_all() {
    each(&[
        ("kinds: { Chat: {} }", "kinds.Chat", "valid name"),
        ("kinds: { '_x': {} }", "kinds._x", "valid name"),
        ("kinds: { chat: { cots: 1 } }", "kinds.chat.cots", "\"cost\""),
        ("kinds: { chat: { cost: 0 } }", "kinds.chat.cost", "at least 1"),
        ("kinds: { chat: { max_attempts: 26 } }", "kinds.chat.max_attempts", "(25)"),
        ("kinds: { chat: { retry: { initial_ms: 60001 } } }", "kinds.chat.retry.initial_ms", "max_ms (60000)"),
        ("kinds: { chat: { retry: { max_ms: 499 } } }", "kinds.chat.retry.max_ms", "initial_ms (500)"),
        (
            "kinds: { chat: { circuit_breaker: { failure_rate: 2 } } }",
            "kinds.chat.circuit_breaker.failure_rate",
            "at most 1",
        ),
        (
            "kinds: { chat: { retry: { max_ms: 600 } } }\nqueue: { retry: { initial_ms: 700 } }",
            "kinds.chat.retry.max_ms",
            "initial_ms (700)",
        ),
    ]);
    assert!(faults("kinds: { chat.v2_x-y: { retry: { initial_ms: 70000, max_ms: 70000 } }, '9': {} }").is_empty());
}

#[test]
fn what_never_passes_or_counts_for_nothing_is_told() {
    let limit = "per: tenant, unit: requests, window_seconds: 60";
    let text = format!(
        "kinds: {{ report: {{ cost: 11 }} }}
rate_limits: {{ named: {{
  a: {{ {limit}, limit: 10 }}, b: {{ {limit}, limit: 10, kinds: [chat] }},
  c: {{ {limit}, limit: 11, default_estimate: 3 }} }} }}
budgets: {{ d: {{ unit: requests, amount: 10, period: day, per: tenant, default_estimate: 1 }} }}"
    );
    let warnings = loaded(&text).warnings;
    let told: Vec<(&str, &str)> = ["burst of anonymous", "limit a", "budget d", "without an estimate"]
        .into_iter()
        .filter_map(|word| Some((word, warnings.iter().find(|w| w.message.contains(word))?.path.as_str())))
        .collect();
    assert_eq!(
        told,
        [
            ("burst of anonymous", "kinds.report.cost"),
            ("limit a", "kinds.report.cost"),
            ("budget d", "kinds.report.cost"),
            ("without an estimate", "rate_limits.named.c.default_estimate"),
        ]
    );
    assert_eq!(warnings.len(), 4, "{warnings:?}");
}

#[test]
fn a_document_that_would_lock_out_administration_is_refused() {
    each(&[
        ("guarded_rest_patterns: ['^/x$', '^/']", "guarded_rest_patterns[1]", "/admin/gateway/update-config"),
        ("guarded_rest_patterns: ['.*']", "guarded_rest_patterns[0]", "/admin/gateway/update-config"),
        ("guarded_rest_patterns: ['^.*/system$']", "guarded_rest_patterns[0]", "/monitoring/system"),
        ("guarded_rest_patterns: ['^/(health|ready)z$']", "guarded_rest_patterns[0]", "/healthz"),
        (
            "guarded_rest_patterns: { proc: ['^/gateway/reset-config$'] }",
            "guarded_rest_patterns.proc[0]",
            "reset-config",
        ),
        (
            "route_classes: { all: { patterns: ['^/x$', '^/'], max_concurrent: 9 } }",
            "route_classes.all.patterns[1]",
            "/admin/gateway/update-config",
        ),
        (
            "guarded_rest_patterns: ['^/']\nbypass_throttling_patterns: ['^/(admin|monitoring)/', '^/healthz$']",
            "guarded_rest_patterns[0]",
            "/readyz",
        ),
    ]);
    let reachable = "guarded_rest_patterns: ['^/', '^/administrators$']\n\
                     bypass_throttling_patterns: ['^/(admin|monitoring)/', '^/(health|ready)z$']";
    assert!(parse(reachable, Component::Ingress, &env).is_ok());
}

#[test]
fn route_classes_must_be_told_apart_and_match_something() {
    let class = |fields: &str| format!("route_classes: {{ reports: {{ {fields} }} }}");
    for (fields, path, word) in [
        ("methods: [GET]", "patterns", "missing"),
        ("patterns: []", "patterns", "names no path"),
        ("patterns: ['^/ok$', '(']", "patterns[1]", "not a usable regular expression"),
        ("patterns: ['/r$'], methods: []", "methods", "leave it out"),
        ("patterns: ['/r$'], methods: [get]", "methods[0]", "match"),
        ("patterns: ['/r$'], max_concurrent: 0", "max_concurrent", "at least 1"),
        ("patterns: ['/r$'], estimate: { tokens: -1 }", "estimate.tokens", "at least 0"),
        ("patterns: ['/r$'], estimate: { Tokens: 1 }", "estimate.Tokens", "valid name"),
        ("patterns: ['/r$'], cost: 3", "cost", "unknown key"),
    ] {
        let found = faults(&class(fields));
        let path = format!("route_classes.reports.{path}");
        assert_eq!(found.keys().collect::<Vec<_>>(), [&path], "{fields}: {found:?}");
        assert!(found[&path].contains(word), "{found:?}");
    }
    each(&[
        ("route_classes: { guarded: { patterns: ['/x$'] } }", "route_classes.guarded", "a class already"),
        ("route_classes: { bypass: { patterns: ['/x$'] } }", "route_classes.bypass", "a class already"),
        ("route_classes: { Reports: { patterns: ['/x$'] } }", "route_classes.Reports", "valid name"),
        ("proxy: { ingress: { lease_ms: 500 } }", "proxy.ingress", "no slices"),
        ("proxy: { lease_ms: 199 }", "proxy.lease_ms", "at least 200"),
        ("proxy: { timeout_ms: 199 }", "proxy.timeout_ms", "\"idle_timeout_ms\""),
    ]);
}

#[test]
fn classes_that_hide_each_other_and_pools_that_let_nobody_in_are_told() {
    let text = "route_classes:
  a: { patterns: ['/x$', '/y$'] }
  b: { patterns: ['/z$', '/y$'], max_concurrent: 1 }
  c: { patterns: ['/w$', '/w$'], max_concurrent: 2 }";
    let warnings = loaded(text).warnings;
    let told: Vec<(&str, &str)> = ["pattern of a too", "b takes in", "anonymous callers are never admitted to it"]
        .into_iter()
        .filter_map(|word| Some((word, warnings.iter().find(|w| w.message.contains(word))?.path.as_str())))
        .collect();
    assert_eq!(
        told,
        [
            ("pattern of a too", "route_classes.b.patterns[1]"),
            ("b takes in", "route_classes.b.max_concurrent"),
            ("anonymous callers are never admitted to it", "route_classes.b.max_concurrent"),
        ]
    );
    assert!(!warnings.iter().any(|warning| warning.path.starts_with("route_classes.c")), "{warnings:?}");
}

#[test]
fn origins_are_whole_and_open_to_all_only_without_cookies() {
    each(&[
        ("cors: { allowed_origins: ['https://a.example', 'https://b.example/'] }", "cors.allowed_origins[1]", "slash"),
        ("cors: { allowed_origins: ['https://*.example'] }", "cors.allowed_origins[0]", "pattern"),
        ("cors: { allowed_origins: ['null'] }", "cors.allowed_origins[0]", "sandbox"),
        ("cors: { allowed_origins: ['*'], allow_credentials: true }", "cors.allow_credentials", "any page"),
        ("cors: { allowed_origins: ['*', 'https://a.example'] }", "cors.allowed_origins", "every origin"),
        ("cors: { max_age_seconds: 86401 }", "cors.max_age_seconds", "at most 86400"),
        ("cors: { allowed_origin: [] }", "cors.allowed_origin", "\"allowed_origins\""),
    ]);
    assert!(faults("cors: { allowed_origins: ['*'] }").is_empty());
}
