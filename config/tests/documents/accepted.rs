//! Documents that load, and what they become.

use portcullis_config::{Component, Loaded, RedisUrl, Source, UserType, load, parse_value};
use serde_json::json;

use super::{env, loaded, loaded_for};

/// The shape the reference system documents: a top-level `gateway`, sections sliced by component beside shared keys.
const SLICED: &str = r#"
gateway:
  tenant: "{{TENANT_ID}}"
  project: DEFAULT_PROJECT_NAME
  profile: production
  rate_limits:
    ingress:
      roles:
        anonymous: { hourly: 60, burst: 5, burst_window: 30 }
        registered: { hourly: 777, burst: 77, burst_window: 60 }
    processor:
      paid: { hourly: 900, burst: 9, burst_window: 60 }
  service_capacity:
    ingress: { processes_per_instance: 2 }
    proc: { concurrent_requests_per_process: 8, processes_per_instance: 4, avg_processing_time_seconds: 12 }
  backpressure:
    capacity_buffer: 0.1
    capacity_source_component: proc
    ingress: { hard_limit_threshold: 0.98 }
    worker: { queue_depth_multiplier: 3 }
  pools:
    pg_max_connections: 100
    ingress: { pg_pool_min_size: 1, pg_pool_max_size: 4, redis_max_connections: 20 }
    proc: { pg_pool_min_size: 2, pg_pool_max_size: 8, redis_max_connections: 40 }
  limits:
    ingress: { max_sse_connections_per_instance: 200 }
    proc: { max_integrations_concurrency: 10, max_queue_size: 100 }
  guarded_rest_patterns:
    ingress: ["^/resources/link-preview$"]
    proc: ["^/integrations/.*$", "^/jobs$"]
  bypass_throttling_patterns:
    proc: ["^/webhooks/stripe$"]
  monitoring: { heartbeat_timeout_seconds: 45 }
  redis: { session_ttl: 600 }
  data_bus:
    publish_limits:
      registered: { enabled: true, packages_per_minute: 60, window_seconds: 60 }
"#;

fn user_type(name: &str) -> UserType {
    UserType::new(name).unwrap()
}

#[test]
fn a_documented_sliced_document_loads_for_the_ingress() {
    let Loaded { policy, document, .. } = loaded(SLICED);
    assert_eq!(policy.scope().unwrap().to_string(), "acme/shop");
    assert_eq!(policy.limits_of(&user_type("registered")).unwrap().hourly, 777);
    assert_eq!(policy.limits_of(&user_type("external")).unwrap().burst_window, 30);
    assert_eq!(
        policy.limits_of(&user_type("paid")).unwrap().hourly,
        4000,
        "the other slice's limit does not count here"
    );
    assert_eq!(policy.service_capacity.processes_per_instance, 2);
    assert_eq!(document["backpressure"]["hard_limit_threshold"], 0.98);
    assert_eq!(document["backpressure"]["queue_depth_multiplier"], 2.0);
    assert_eq!(policy.guarded_rest_patterns, ["^/resources/link-preview$"]);
    assert!(policy.bypass_throttling_patterns.is_empty());
    assert_eq!(policy.limits.max_sse_connections_per_instance, 200);
    assert_eq!(policy.monitoring.heartbeat_timeout_seconds, 45);
}

#[test]
fn the_same_document_loads_for_the_processor() {
    let Loaded { policy, document, .. } = loaded_for(Component::Proc, SLICED);
    assert_eq!(policy.limits_of(&user_type("paid")).unwrap().burst, 9);
    assert_eq!(policy.limits_of(&user_type("registered")).unwrap().hourly, 2000);
    assert_eq!(policy.service_capacity.concurrent_requests_per_process, 8);
    assert_eq!(document["backpressure"]["queue_depth_multiplier"], 3.0);
    assert_eq!(document["backpressure"]["hard_limit_threshold"], 0.95);
    assert_eq!(policy.limits.max_integrations_ops_concurrency, Some(10));
    assert_eq!(policy.limits.max_sse_connections_per_instance, 10_000);
    assert_eq!(policy.guarded_rest_patterns.len(), 2);
    assert_eq!(policy.bypass_throttling_patterns, ["^/webhooks/stripe$"]);
}

#[test]
fn siblings_of_slices_hold_for_both_components() {
    for component in Component::ALL {
        let Loaded { policy, document, .. } = loaded_for(component, SLICED);
        assert_eq!(document["backpressure"]["capacity_buffer"], 0.1, "{component}");
        assert_eq!(policy.pools.pg_max_connections, Some(100), "{component}");
    }
}

#[test]
fn what_the_processors_slice_says_of_the_queue_holds_at_the_ingress_that_decides() {
    assert_eq!(loaded(SLICED).policy.limits.max_queue_size, 100);
    assert_eq!(loaded(SLICED).document["service_capacity"]["avg_processing_time_seconds"], 12.0);
    let own = "limits: { max_queue_size: 7, proc: { max_queue_size: 100 } }";
    assert_eq!(loaded(own).policy.limits.max_queue_size, 7, "but what it is told itself goes first");
}

#[test]
fn json_and_yaml_with_and_without_the_top_level_key_say_the_same() {
    let yaml = loaded(SLICED);
    let inner = yaml.written.clone();
    for document in [json!({ "gateway": inner }), inner] {
        let from_json = loaded(&document.to_string());
        assert_eq!(from_json.policy, yaml.policy);
        assert_eq!(parse_value(document, Component::Ingress, &env).unwrap().written, yaml.written);
    }
}

#[test]
fn the_flat_shape_with_the_other_spellings_loads() {
    let text = r#"{"tenant_id": "t", "project_id": "p", "profile": "load_test",
        "rate_limits": {"anonymous": {"hourly": 9, "burst": 3, "burst_window": 10}, "paid": {"hourly": -1}},
        "limits": {"max_integrations_concurrency": 4}, "pools": {"pg_pool_max_size": null}, "monitoring": null}"#;
    let policy = loaded(text).policy;
    assert_eq!(policy.scope().unwrap().to_string(), "t/p");
    assert_eq!(policy.limits_of(&user_type("anonymous")).unwrap().burst, 3);
    let paid = policy.limits_of(&user_type("paid")).unwrap();
    assert_eq!((paid.hourly, paid.burst), (-1, 150), "what is left out stays as shipped");
    assert_eq!(policy.limits.max_integrations_ops_concurrency, Some(4));
    assert_eq!(policy.monitoring.heartbeat_timeout_seconds, 5);
}

#[test]
fn an_empty_environment_means_the_shipped_policy_without_a_warning() {
    let shipped = load(&env, Component::Ingress).unwrap();
    assert_eq!(shipped.source, Source::Shipped);
    assert_eq!(shipped.policy, portcullis_config::Policy::shipped("acme", "shop"));
    assert_eq!(shipped.warnings, []);
    assert_eq!(shipped.written, json!({}));
}

#[test]
fn the_effective_document_is_a_document_of_the_same_policy() {
    let first = loaded(SLICED);
    let second = parse_value(first.document.clone(), Component::Ingress, &env).unwrap();
    assert_eq!(second.policy, first.policy);
}

#[test]
fn the_effective_document_masks_the_password_the_policy_keeps() {
    let written = loaded("redis_url: redis://user:p@ss@host:6379/1");
    assert_eq!(written.policy.redis_url.as_ref().map(RedisUrl::expose), Some("redis://user:p@ss@host:6379/1"));
    assert_eq!(written.document["redis_url"], "redis://user:***@host:6379/1");
}

#[test]
fn declared_types_and_budgets_load() {
    let policy = loaded(
        "user_types:\n  gold: { falls_back_to: paid, weight: 6, pressure_threshold: 0.92 }\n\
         budgets:\n  daily: { unit: tokens, amount: 10, period: day, per: principal, default_estimate: 1, \
         user_types: [gold] }\n",
    )
    .policy;
    assert_eq!(policy.limits_of(&user_type("gold")).unwrap().burst, 150);
    assert_eq!(policy.budgets_of(&user_type("gold")).count(), 1);
    assert_eq!(policy.budgets_of(&user_type("paid")).count(), 0);
}

#[test]
fn warnings_name_what_the_document_itself_gives() {
    let text = "
service_capacity:
  { concurrent_requests_per_process: 2, processes_per_instance: 20, concurrent_requests_per_instance: 5 }
backpressure: { queue_depth_multiplier: 0.5, capacity_source_component: ingress }
rate_limits: { roles: { anonymous: { hourly: 100000, burst: 200000 } } }
";
    let paths: Vec<String> = loaded(text).warnings.into_iter().map(|warning| warning.path).collect();
    for path in [
        "service_capacity.concurrent_requests_per_instance",
        "service_capacity.processes_per_instance",
        "backpressure.queue_depth_multiplier",
        "backpressure.capacity_source_component",
        "rate_limits.roles.anonymous.burst",
        "rate_limits.roles.anonymous.hourly",
    ] {
        assert!(paths.iter().any(|p| p == path), "{path} in {paths:?}");
    }
    assert_eq!(loaded("queue: { lease_ms: 5000 }").warnings, []);
}

#[test]
fn a_capacity_that_lets_a_type_in_never_is_told() {
    let text =
        "service_capacity: { concurrent_requests_per_process: 1 }\nbackpressure: { queue_depth_multiplier: 1.0 }";
    let warnings = loaded(text).warnings;
    assert!(warnings.iter().any(|w| w.message.contains("anonymous callers are never admitted")), "{warnings:?}");
}
