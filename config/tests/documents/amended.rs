//! Amendments: what a patch or a whole document makes of the current one, and where its faults are told.

use portcullis_config::{
    Amended, Amendment, Component, LoadError, PolicyChange, Scope, TakesEffect, amend, for_scope, parse_value,
};
use serde_json::{Value, json};

use super::{env, loaded, loaded_for};

fn scope() -> Scope {
    Scope::new("acme", "shop").unwrap()
}

fn patched(base: &Value, patch: Value) -> Amended {
    amend(base, Amendment::Patch(patch), &scope(), &env).unwrap_or_else(|e| panic!("{e}"))
}

fn paths(changes: &[PolicyChange]) -> Vec<&str> {
    changes.iter().map(|change| change.path.as_str()).collect()
}

fn refused(base: &Value, amendment: Amendment) -> Vec<String> {
    match amend(base, amendment, &scope(), &env) {
        Err(LoadError::Invalid { faults, .. }) => faults.into_iter().map(|fault| fault.path).collect(),
        other => panic!("{other:?}"),
    }
}

fn for_proc(document: &Value) -> Value {
    parse_value(document.clone(), Component::Proc, &|_| None).unwrap().document
}

#[test]
fn a_patch_changes_what_it_names_and_says_what_that_was() {
    let base = json!({"tenant": "acme", "project": "shop", "queue": {"lease_ms": 5000, "max_attempts": 2}});
    let amended = patched(&base, json!({"queue": {"lease_ms": 6000}}));
    assert_eq!(amended.document["queue"], json!({"lease_ms": 6000, "max_attempts": 2}));
    let expected = PolicyChange {
        path: "queue.lease_ms".to_owned(),
        before: Some(json!(5000)),
        after: Some(json!(6000)),
        takes_effect: TakesEffect::AtOnce,
    };
    assert_eq!(amended.changes, [expected]);
    assert_eq!(amended.effective["queue"]["lease_ms"], 6000);
    assert_eq!(amended.effective["queue"]["max_attempts"], 2);
}

#[test]
fn null_takes_a_key_away_also_under_its_other_names() {
    let base = loaded(
        "user_types: { gold: { falls_back_to: paid } }\nrate_limits: { gold: { hourly: 9, burst: 3, burst_window: 5 }, \
         ingress: { paid: { burst: 9 } } }\nlimits: { max_integrations_concurrency: 4 }",
    )
    .written;
    let patch = json!({
        "tenant_id": null,
        "rate_limits": {"gold": null, "paid": null}, "limits": {"max_integrations_concurrency": null},
    });
    let amended = patched(&base, patch);
    let paths = paths(&amended.changes);
    assert_eq!(
        paths,
        ["limits.max_integrations_ops_concurrency", "rate_limits.ingress.roles.paid.burst", "rate_limits.roles.gold"]
    );
    assert_eq!(amended.effective["rate_limits"]["roles"]["paid"]["burst"], 150, "as shipped");
}

#[test]
fn a_value_for_both_components_goes_before_the_slices() {
    let base = json!({"backpressure": {"ingress": {"capacity_buffer": 0.1}, "worker": {"capacity_buffer": 0.3}}});
    let amended = patched(&base, json!({"gateway": {"backpressure": {"capacity_buffer": 0.4}}}));
    assert_eq!(amended.effective["backpressure"]["capacity_buffer"], 0.4);
    assert_eq!(for_proc(&amended.document)["backpressure"]["capacity_buffer"], 0.4);
    assert_eq!(
        paths(&amended.changes),
        ["backpressure.ingress.capacity_buffer", "backpressure.proc.capacity_buffer"],
        "each had another value before"
    );
}

#[test]
fn a_whole_document_replaces_all_that_was() {
    let base = json!({"queue": {"lease_ms": 5000}, "limits": {"max_queue_size": 7}});
    let whole = Amendment::Whole(json!({"gateway": {"limits": {"max_queue_size": 7}, "pools": null}}));
    let amended = amend(&base, whole, &scope(), &env).unwrap();
    assert_eq!(amended.document, json!({"tenant": "acme", "project": "shop", "limits": {"max_queue_size": 7}}));
    assert_eq!(paths(&amended.changes), ["queue.lease_ms"]);
    assert_eq!(refused(&base, Amendment::Whole(json!({"component": "proc"}))), ["component"]);
}

#[test]
fn nothing_changes_by_amending_with_what_is_there() {
    let base = json!({"limits": {"proc": {"max_queue_size": 7}}, "queue": {"lease_ms": 5000}});
    let first = patched(&base, json!({}));
    assert_eq!(first.changes, []);
    let again = patched(&first.document, json!({"queue": {"lease_ms": 5000}, "tenant": "acme"}));
    assert_eq!(again.changes, []);
    assert_eq!(again.document.to_string(), first.document.to_string());
}

#[test]
fn what_is_stored_names_its_scope_and_nothing_of_one_process() {
    let boot = json!({"tenant": "{{TENANT_ID}}", "instance_id": "a", "redis_url": "redis://:word@db"});
    let other = Scope::new("globex", "shop").unwrap();
    let patch = Amendment::Patch(json!({"tenant": "TENANT_ID", "instance_id": "b", "queue": {"lease_ms": 5000}}));
    let amended = amend(&boot, patch, &other, &env).unwrap();
    assert_eq!(amended.document, json!({"tenant": "globex", "project": "shop", "queue": {"lease_ms": 5000}}));
    assert_eq!(paths(&amended.changes), ["queue.lease_ms"]);
    let warned: Vec<&str> = amended.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warned, ["instance_id"]);
}

#[test]
fn another_scopes_names_and_credentials_are_faults() {
    let base = json!({});
    for (patch, path) in [
        (json!({"tenant": "globex"}), "tenant"),
        (json!({"tenant_id": "globex"}), "tenant"),
        (json!({"project": 5}), "project"),
        (json!({"tenant": "{{HOME_TENANT}}"}), "tenant"),
        (json!({"redis_url": "redis://:{{SECRET}}@db"}), "redis_url"),
        (json!({"redis_url": "redis://{{MISSING}}"}), "redis_url"),
    ] {
        let env = |name: &str| match name {
            "SECRET" => Some("canary".to_owned()),
            "HOME_TENANT" => Some("globex".to_owned()),
            _ => None,
        };
        let error = amend(&base, Amendment::Patch(patch.clone()), &scope(), &env).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
        let LoadError::Invalid { faults, .. } = error else { panic!("{patch}") };
        assert_eq!(faults.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(), [path], "{patch}");
    }
    let url = json!({"redis_url": "redis://{{HOST}}:6379"});
    let env = |name: &str| (name == "HOST").then(|| "db".to_owned());
    let amended = amend(&base, Amendment::Patch(url), &scope(), &env).unwrap();
    assert_eq!(amended.document["redis_url"], "redis://db:6379");
    assert_eq!(amended.changes[0].takes_effect, TakesEffect::AfterRestart);
}

#[test]
fn all_faults_are_told_where_the_author_of_the_patch_wrote_them() {
    let base = json!({
        "queue": {"max_attempts": 9}, "backpressure": {"worker": {"paid_pressure_threshold": 0.85}},
        "guarded_rest_patterns": ["^/jobs$"], "bypass_throttling_patterns": ["^/readyz$"],
    });
    let patch = json!({
        "component": "proc",
        "backpressure": {"hard_limit_threshold": 0.8, "capacity_bufer": 1},
        "guarded_rest_patterns": ["^/ok$", "("],
        "queue": {"max_attempts_limit": 5},
        "limits": 5,
        "redis": {"session_ttl": 0},
        "tenant": "globex",
    });
    let mut found = refused(&base, Amendment::Patch(patch));
    found.sort();
    assert_eq!(
        found,
        [
            "backpressure.capacity_bufer",
            "backpressure.hard_limit_threshold",
            "guarded_rest_patterns[1]",
            "limits",
            "queue.max_attempts_limit",
            "redis.session_ttl",
            "tenant",
        ]
    );
    let by_another_name = json!({"backpressure": {"proc": {"hard_limit_threshold": 0.8}}});
    assert_eq!(refused(&base, Amendment::Patch(by_another_name)), ["backpressure.proc.hard_limit_threshold"]);
    for no_document in [json!(5), json!([]), json!({"gateway": 5})] {
        assert_eq!(refused(&base, Amendment::Patch(no_document)), [""]);
    }
}

#[test]
fn a_document_of_more_than_its_bound_is_refused() {
    let of_bytes = |bytes: usize| json!({"backpressure": {"capacity_source_component": "x".repeat(bytes)}});
    assert_eq!(refused(&json!({}), Amendment::Patch(of_bytes(256 * 1024))), [""]);
    assert_eq!(patched(&json!({}), of_bytes(255 * 1024)).changes.len(), 1);
}

#[test]
fn a_document_that_can_no_longer_be_read_can_be_replaced() {
    let base = json!({"queue": {"from_a_newer_version": 1}});
    assert_eq!(refused(&base, Amendment::Patch(json!({}))), ["queue.from_a_newer_version"]);
    let amended = amend(&base, Amendment::Whole(json!({})), &scope(), &env).unwrap();
    assert_eq!(paths(&amended.changes), [""], "all of it is new");
}

#[test]
fn the_boot_document_is_the_default_of_other_scopes() {
    let text =
        "tenant: TENANT_ID\ninstance_id: a\nredis_url: redis://:word@db\nlimits: { proc: { max_queue_size: 7 } }";
    let other = Scope::new("globex", "lab").unwrap();
    for component in Component::ALL {
        let own = for_scope(&loaded_for(component, text), &other, component).unwrap();
        assert_eq!(own.policy.scope().unwrap(), other);
        assert_eq!((own.policy.limits.max_queue_size, own.policy.redis_url), (7, None));
        let written = json!({"tenant": "globex", "project": "lab", "limits": {"proc": {"max_queue_size": 7}}});
        assert_eq!(own.written, written);
    }
}
