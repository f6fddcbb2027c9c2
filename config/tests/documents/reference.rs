//! Documents in the shapes that the reference system publishes: its deployed file, its samples for the environment, and
//! what its console sends to the admin interface.

use portcullis_config::{Amendment, Component, Scope, amend, parse_value};
use serde_json::{Value, json};

use super::{env, loaded, loaded_for};

/// The shape of the deployed file: bare placeholders, roles directly in the slices, lists by component, slices beside
/// shared keys, a whole section for one component only.
const DEPLOYED: &str = r#"
gateway:
  tenant: "TENANT_ID"
  project: "PROJECT_ID"
  profile: "development"
  guarded_rest_patterns:
    ingress: ["^.*/threads/[^/]+/[^/]+/fetch$", "^.*/search$"]
    proc: ["^.*/apps/[^/]+/public/[^/]+(?:/.*)?$", "^.*/static/[^/]+/.*$"]
  bypass_throttling_patterns: { ingress: ["^.*/webhooks/billing$"], proc: [] }
  service_capacity:
    ingress: { processes_per_instance: 1 }
    proc: { concurrent_requests_per_process: 12, processes_per_instance: 2, avg_processing_time_seconds: 9 }
  backpressure:
    capacity_source_component: "proc"
    ingress: &pressure
      capacity_buffer: 0.12
      queue_depth_multiplier: 4
      anonymous_pressure_threshold: 0.55
      registered_pressure_threshold: 0.84
      paid_pressure_threshold: 0.91
      hard_limit_threshold: 0.97
    proc: *pressure
  rate_limits:
    ingress: &roles
      anonymous: { hourly: 90, burst: 9, burst_window: 30 }
      registered: { hourly: 3300, burst: 120, burst_window: 60 }
      paid: { hourly: 6600, burst: 210, burst_window: 60 }
      privileged: { hourly: -1, burst: 390, burst_window: 60 }
    proc: *roles
  data_bus:
    ingress:
      publish_limits:
        anonymous: { packages_per_minute: 30, messages_per_minute: 300, window_seconds: 60 }
        privileged: { packages_per_minute: -1, bytes_per_minute: -1, max_package_bytes: 999999, enabled: false }
  pools:
    ingress: { pg_pool_min_size: 0, pg_pool_max_size: 3, redis_max_connections: 15 }
    proc: { pg_pool_min_size: 0, pg_pool_max_size: 6, redis_max_connections: 30 }
    pg_max_connections: 90
  limits:
    ingress: { max_sse_connections_per_instance: 150 }
    proc: { max_integrations_ops_concurrency: 120, max_queue_size: 80 }
  redis: { sse_stats_ttl_seconds: 45, sse_stats_max_age_seconds: 90 }
"#;

/// The shape of the samples for `GATEWAY_CONFIG_JSON`: the other names of the scope, lists for both components.
fn sample() -> Value {
    json!({
        "tenant_id": "acme", "project_id": "shop",
        "guarded_rest_patterns": ["^/search$", "^/apps/[^/]+/operations/[^/]+$"],
        "service_capacity": {
            "ingress": {"concurrent_requests_per_process": 6, "avg_processing_time_seconds": 20},
            "proc": {"concurrent_requests_per_process": 9, "avg_processing_time_seconds": 20},
        },
        "backpressure": {
            "ingress": {"capacity_buffer": 0.2, "registered_pressure_threshold": 0.8, "paid_pressure_threshold": 0.8},
            "proc": {"capacity_buffer": 0.1, "queue_depth_multiplier": 3.0, "hard_limit_threshold": 0.98},
        },
        "rate_limits": {
            "ingress": {"anonymous": {"hourly": 110, "burst": 11, "burst_window": 60}},
            "proc": {"privileged": {"hourly": -1, "burst": 280, "burst_window": 60}},
        },
        "limits": {
            "ingress": {"max_sse_connections_per_instance": 150}, "proc": {"max_integrations_ops_concurrency": 15},
        },
    })
}

/// What its console sends for one component: flat sections, and whose they are.
fn from_its_console(component: &str) -> Value {
    json!({
        "tenant": "acme", "project": "shop", "component": component,
        "service_capacity": {"concurrent_requests_per_process": 7, "processes_per_instance": 2},
        "backpressure": {"capacity_buffer": 0.25, "hard_limit_threshold": 0.99},
        "rate_limits": {"roles": {"registered": {"hourly": 1500, "burst": 75, "burst_window": 60}}},
        "pools": {"pg_pool_max_size": 5},
        "guarded_rest_patterns": ["^/reports$"],
    })
}

fn amended(base: &Value, patch: Value) -> Value {
    amend(base, Amendment::Patch(patch), &Scope::new("acme", "shop").unwrap(), &env)
        .unwrap_or_else(|e| panic!("{e}"))
        .document
}

fn effective(document: &Value, component: Component) -> Value {
    parse_value(document.clone(), component, &|_| None).unwrap_or_else(|e| panic!("{e}")).document
}

#[test]
fn the_deployed_file_loads_for_both_components() {
    let [ingress, proc] = Component::ALL.map(|component| loaded_for(component, DEPLOYED).policy);
    assert_eq!(ingress.scope().unwrap().to_string(), "acme/shop");
    assert_eq!(ingress.rate_limits, proc.rate_limits);
    assert_eq!(ingress.rate_limits.roles["privileged"].burst, 390);
    assert_eq!((ingress.service_capacity.concurrent_requests_per_process, ingress.limits.max_queue_size), (5, 80));
    assert_eq!((proc.service_capacity.concurrent_requests_per_process, proc.limits.max_queue_size), (12, 80));
    assert_eq!(proc.pools.pg_max_connections, Some(90));
    assert_eq!((ingress.data_bus.publish_limits.len(), proc.data_bus.publish_limits.len()), (2, 0));
    assert_eq!((ingress.guarded_rest_patterns.len(), proc.guarded_rest_patterns.len()), (2, 2));
    assert_eq!(ingress.redis.sse_stats_max_age_seconds, 90);
}

#[test]
fn a_sample_for_the_environment_loads_also_where_it_repeats_itself() {
    let text = sample().to_string();
    let repeated = text.replacen('{', &format!("{{\"limits\": {},", sample()["limits"]), 1);
    for component in Component::ALL {
        let policy = loaded_for(component, &text).policy;
        assert_eq!(loaded_for(component, &repeated).policy, policy);
        assert_eq!(policy.guarded_rest_patterns.len(), 2, "{component}");
    }
    assert_eq!(loaded(&text).policy.service_capacity.concurrent_requests_per_process, 6);
}

#[test]
fn a_whole_document_with_empty_slices_changes_only_what_it_gives() {
    let empty = json!({"ingress": {}, "proc": {}});
    let whole = json!({
        "tenant": "acme", "project": "shop", "profile": "testing",
        "service_capacity": {"ingress": {"processes_per_instance": 2}, "proc": {"concurrent_requests_per_process": 9}},
        "backpressure": {"capacity_source_component": "proc", "ingress": {}, "proc": {}},
        "rate_limits": empty, "pools": empty, "limits": empty,
    });
    let amended = amend(&json!({}), Amendment::Whole(whole), &Scope::new("acme", "shop").unwrap(), &env).unwrap();
    let paths: Vec<&str> = amended.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "profile",
            "service_capacity.ingress.processes_per_instance",
            "service_capacity.proc.concurrent_requests_per_process"
        ]
    );
}

#[test]
fn what_its_console_sends_for_a_component_leaves_the_other_alone() {
    let base = loaded(DEPLOYED).written;
    let before = amended(&base, json!({}));
    for (name, component, other) in [
        ("ingress", Component::Ingress, Component::Proc),
        ("chat-rest", Component::Ingress, Component::Proc),
        ("proc", Component::Proc, Component::Ingress),
        ("worker", Component::Proc, Component::Ingress),
    ] {
        let after = amended(&base, from_its_console(name));
        assert_eq!(effective(&after, other), effective(&before, other), "{name}");
        let shown = effective(&after, component);
        assert_eq!(shown["rate_limits"]["roles"]["registered"]["burst"], 75, "{name}");
        assert_eq!(shown["rate_limits"]["roles"]["paid"]["burst"], 210, "{name}: roles it does not name stay");
        assert_eq!(shown["backpressure"]["hard_limit_threshold"], 0.99, "{name}");
        assert_eq!(shown["backpressure"]["queue_depth_multiplier"], 4.0, "{name}");
        assert_eq!(shown["guarded_rest_patterns"], json!(["^/reports$"]), "{name}");
    }
}

#[test]
fn a_patch_with_slices_and_flat_sections_takes_effect_on_a_sliced_document() {
    let patch = json!({
        "tenant": "acme", "project": "shop",
        "service_capacity": {"ingress": {"processes_per_instance": 3}, "proc": {"avg_processing_time_seconds": 11}},
        "backpressure": {"capacity_buffer": 0.3, "registered_pressure_threshold": 0.9},
        "limits": {"proc": {"max_queue_size": 60}},
    });
    let after = amended(&loaded(DEPLOYED).written, patch);
    for component in Component::ALL {
        let shown = effective(&after, component);
        assert_eq!(shown["backpressure"]["capacity_buffer"], 0.3, "{component}");
        assert_eq!(shown["backpressure"]["registered_pressure_threshold"], 0.9, "{component}");
        assert_eq!(shown["backpressure"]["hard_limit_threshold"], 0.97, "{component}");
        assert_eq!(shown["limits"]["max_queue_size"], 60, "{component}");
        assert_eq!(shown["service_capacity"]["avg_processing_time_seconds"], 11.0, "{component}");
    }
}
