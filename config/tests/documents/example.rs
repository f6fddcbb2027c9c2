//! The commented example: it loads, and it shows everything.

use std::collections::BTreeSet;

use portcullis_config::{Component, TakesEffect};
use serde_json::Value;

use super::{leaves, loaded_for};

const EXAMPLE: &str = include_str!("../../gateway.example.yaml");
const SLICES: [&str; 2] = ["ingress", "proc"];

/// Every setting the document gives, null or not, with `*` for the author's own names.
fn given(value: &Value, place: &[&str], found: &mut BTreeSet<String>) {
    let Some(map) = value.as_object() else {
        found.insert(place.join("."));
        return;
    };
    let own_names = [
        &["rate_limits", "roles"][..],
        &["rate_limits", "named"],
        &["user_types"],
        &["budgets"],
        &["kinds"],
        &["route_classes"],
        &["route_classes", "*", "estimate"],
    ];
    for (key, inner) in map {
        if SLICES.contains(&key.as_str()) {
            given(inner, place, found);
        } else {
            let key = if own_names.contains(&place) { "*" } else { key };
            given(inner, &[place, &[key]].concat(), found);
        }
    }
}

#[test]
fn it_loads_for_both_components_without_a_warning() {
    for component in Component::ALL {
        assert_eq!(loaded_for(component, EXAMPLE).warnings, [], "{component}");
    }
}

#[test]
fn it_shows_every_setting_that_takes_effect() {
    let mut shown = BTreeSet::new();
    given(&serde_yaml_ng::from_str(EXAMPLE).unwrap(), &[], &mut shown);
    let takes_effect = |path: &str| TakesEffect::of(path) != Some(TakesEffect::Never);
    let missing: Vec<String> = leaves::all()
        .into_iter()
        .map(|leaf| leaf.path)
        .filter(|path| takes_effect(path) && !shown.contains(path))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
    for path in ["tenant", "project", "profile"] {
        assert!(shown.contains(path), "{path}");
    }
}

#[test]
fn what_it_says_is_what_the_policies_become() {
    let [ingress, proc] = Component::ALL.map(|component| loaded_for(component, EXAMPLE).policy);
    let limit = &ingress.rate_limits.named["tokens_per_minute"];
    assert_eq!((limit.unit.as_str(), limit.default_estimate), ("tokens", Some(1500)));
    assert_eq!((ingress.cost_of("report"), ingress.cost_of("chat")), (10, 1));
    assert_eq!((proc.max_attempts_of("report"), proc.breaker_of("report").half_open_probes), (2, 1));
    assert_eq!((proc.attempt_timeout_ms_of("chat"), proc.retry_of("chat").initial_ms), (300_000, 1000));
    assert_eq!(
        (ingress.response_timeout_ms_of("export"), ingress.response_timeout_ms_of("guarded")),
        (120_000, 30_000)
    );
    assert_eq!(ingress.estimates_of("export"), [("tokens".to_owned(), 500)]);
    assert_eq!((ingress.limits.max_sse_connections_per_instance, proc.limits.max_queue_size), (4000, 5000));
}

#[test]
fn when_each_setting_takes_effect_is_known() {
    let unknown: Vec<String> =
        leaves::all().into_iter().map(|leaf| leaf.path).filter(|path| TakesEffect::of(path).is_none()).collect();
    assert_eq!(unknown, Vec::<String>::new());
    assert_eq!(TakesEffect::of("queue.retry.factor"), Some(TakesEffect::AtOnce));
    assert_eq!(TakesEffect::of("guarded_rest_patterns[2]"), Some(TakesEffect::AtOnce));
    assert_eq!(TakesEffect::of("redis_url"), Some(TakesEffect::AfterRestart));
    assert_eq!(TakesEffect::of("redis.session_ttl"), Some(TakesEffect::Never));
    assert_eq!(TakesEffect::of("queues"), None);
}
