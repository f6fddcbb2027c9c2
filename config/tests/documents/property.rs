//! Properties over many documents: one changes what it names and nothing else; nothing makes the loader panic.

use portcullis_config::{Component, Policy, parse, parse_value};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{env, loaded};

/// Values that may be changed alone, whatever the others are as shipped.
fn change() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        (121_i64..1_000_000).prop_map(|n| ("/rate_limits/roles/anonymous/hourly", json!(n))),
        (1_u64..1_000_000).prop_map(|n| ("/rate_limits/roles/privileged/burst", json!(n))),
        (1_u64..86_400).prop_map(|n| ("/rate_limits/roles/paid/burst_window", json!(n))),
        (0.01_f64..0.79).prop_map(|x| ("/backpressure/anonymous_pressure_threshold", json!(x))),
        (0.001_f64..0.999).prop_map(|x| ("/backpressure/capacity_buffer", json!(x))),
        (200_u64..3_600_000).prop_map(|n| ("/queue/lease_ms", json!(n))),
        (1_u64..60_000).prop_map(|n| ("/queue/retry/initial_ms", json!(n))),
        (1.0_f64..100.0).prop_map(|x| ("/queue/retry/factor", json!(x))),
        (0.001_f64..1.0).prop_map(|x| ("/circuit_breakers/tasks/failure_rate", json!(x))),
        (0_u64..1_000_000_000).prop_map(|n| ("/limits/max_queue_size", json!(n))),
        (0.001_f64..1000.0).prop_map(|x| ("/user_types/paid/weight", json!(x))),
        any::<bool>().prop_map(|b| ("/monitoring/queue_analytics_enabled", json!(b))),
        prop::collection::vec("/x[a-z]{1,8}", 0..4).prop_map(|list| ("/guarded_rest_patterns", json!(list))),
    ]
}

/// A document that holds one value at this place and nothing else.
fn document_with(pointer: &str, value: &Value) -> Value {
    pointer
        .split('/')
        .skip(1)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .fold(value.clone(), |inner, key| json!({ key: inner }))
}

/// Any value at all, small.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|x| json!(x)),
        "[a-z{}/(]{0,6}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "gateway",
        "tenant",
        "rate_limits",
        "roles",
        "paid",
        "burst",
        "proc",
        "ingress",
        "worker",
        "limits",
        "queue",
        "retry",
        "user_types",
        "gold",
        "falls_back_to",
        "budgets",
        "redis_url",
        "guarded_rest_patterns",
        "backpressure",
        "data_bus",
        "publish_limits",
        "x.y",
        "",
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn a_document_of_one_value_leaves_the_rest_as_shipped((pointer, value) in change()) {
        let changed = loaded(&document_with(pointer, &value).to_string());
        let mut expected = serde_json::to_value(Policy::shipped("acme", "shop")).unwrap();
        *expected.pointer_mut(pointer).unwrap() = value;
        prop_assert_eq!(changed.document, expected);
    }

    #[test]
    fn any_document_is_accepted_or_refused_and_what_is_accepted_is_accepted_again(document in anything()) {
        for component in Component::ALL {
            if let Ok(loaded) = parse_value(document.clone(), component, &env) {
                let again = parse_value(loaded.document.clone(), component, &env);
                prop_assert!(again.is_ok(), "{:?}", again);
            }
        }
    }

    #[test]
    fn any_text_is_accepted_or_refused(text in "\\PC{0,80}") {
        let _ = parse(&text, Component::Proc, &env);
    }
}
