//! An update over HTTP changes what it names and nothing else, for everybody, and can be undone.

use portcullis_loadtest::Client;
use portcullis_lua::ScopeStore;
use serde_json::{Value, json};

use super::operator::{
    accepted, audit, config, number, reset, revision, revisions, rollback, strings, update, updated,
};
use crate::fixture::{Fixture, cluster, start, until};

/// What a pointer names becomes this value.
fn with(document: &Value, pointer: &str, value: Value) -> Value {
    let mut changed = document.clone();
    *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {document}")) = value;
    changed
}

/// The effective policy at this gateway, without the name of its process, which no stored document has.
async fn effective(admin: &Client) -> Value {
    let mut config = config(admin).await;
    let effective = config["effective"].as_object_mut().expect("a policy");
    effective.shift_remove("instance_id");
    config["effective"].take()
}

/// The gateway comes to hold this revision; its policy then.
async fn comes_to_hold(admin: &Client, wanted: u64) -> Value {
    until("the gateway holds it", || async {
        let config = config(admin).await;
        (number(&config) == wanted).then_some(config)
    })
    .await
}

/// The document of the scope with these sections.
fn document(cluster: &Fixture, sections: &Value) -> Value {
    let mut document = json!({ "tenant": cluster.scope().tenant(), "project": cluster.scope().project() });
    for (name, section) in sections.as_object().expect("sections") {
        document[name] = section.clone();
    }
    document
}

/// The policy as a processor of the scope reads it.
async fn as_processor(store: &ScopeStore) -> Value {
    let stored = store.stored_policy().await.expect("an answer").expect("a stored policy");
    let loaded = portcullis_config::parse(&stored.document, portcullis_config::Component::Proc, &|_| None);
    serde_json::to_value(loaded.expect("a sound document").policy).expect("JSON")
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_leaves_the_rest_alone_on_every_gateway() {
    let cluster = start(cluster().gateways(2)).await;
    let [one, other] = [cluster.admin(0), cluster.admin(1)];
    assert_eq!(number(&config(&one).await), 0, "nothing is stored yet");
    let before = effective(&one).await;

    let patch = json!({ "rate_limits": { "roles": { "paid": { "burst": 77 } } }, "expected_revision": 0 });
    let answer = updated(&one, &patch).await;
    assert_eq!((number(&answer), strings(&answer["changed"])), (1, vec!["rate_limits.roles.paid.burst"]), "{answer}");
    let expected = with(&before, "/rate_limits/roles/paid/burst", json!(77));
    let after = config(&one).await;
    assert_eq!((number(&after), &after["effective"]), (1, &expected));
    assert_eq!(comes_to_hold(&other, 1).await["effective"], expected);

    // Another part, through the other gateway: the first change stays.
    let patch = json!({ "queue": { "retry": { "factor": 3.5 } }, "budgets": { "daily": {
        "unit": "tokens", "amount": 9, "period": "day", "per": "principal", "default_estimate": 1 } } });
    let answer = updated(&other, &patch).await;
    assert_eq!((number(&answer), strings(&answer["changed"])), (2, vec!["budgets.daily", "queue.retry.factor"]));
    let after = comes_to_hold(&one, 2).await;
    let mut expected = with(&expected, "/queue/retry/factor", json!(3.5));
    expected["budgets"] = after["effective"]["budgets"].clone();
    assert_eq!(after["effective"], expected);
    assert_eq!(after["effective"]["budgets"]["daily"]["amount"], json!(9));

    // Null takes a key away, which leaves it as shipped.
    let answer = updated(&one, &json!({ "budgets": null, "queue": null, "rate_limits": null })).await;
    assert_eq!(number(&answer), 3);
    assert_eq!(effective(&one).await, before);
    assert_eq!(config(&one).await["document"], document(&cluster, &json!({})), "{answer}");
}

#[tokio::test]
async fn payloads_in_the_shapes_of_the_reference_system_mean_what_they_meant() {
    let cluster = start(cluster()).await;
    let (admin, store) = (cluster.admin(0), cluster.store().await.expect("a store"));
    let roles = json!({ "registered": { "hourly": 777, "burst": 77, "burst_window": 60 } });
    updated(&admin, &json!({ "rate_limits": { "roles": roles } })).await;
    let (ingress, proc) = (config(&admin).await["effective"].clone(), as_processor(&store).await);

    // The component beside the sections says whose slice is meant.
    let answer = updated(&admin, &json!({ "component": "ingress", "backpressure": { "capacity_buffer": 0.3 } })).await;
    assert_eq!(strings(&answer["changed"]), ["backpressure.ingress.capacity_buffer"]);
    let ingress = with(&ingress, "/backpressure/capacity_buffer", json!(0.3));
    assert_eq!(config(&admin).await["effective"], ingress, "limits of user types included");
    assert_eq!(as_processor(&store).await, proc);

    // Slices in the section itself; an alias of the component.
    let slice = json!({ "concurrent_requests_per_process": 9, "processes_per_instance": 4 });
    let sliced = json!({ "service_capacity": { "processor": slice } });
    let answer = updated(&admin, &sliced).await;
    let paths =
        ["service_capacity.proc.concurrent_requests_per_process", "service_capacity.proc.processes_per_instance"];
    assert_eq!(strings(&answer["changed"]), paths);
    assert_eq!(strings(&answer["restart_required"]), paths[1..]);
    let proc = with(&proc, "/service_capacity/concurrent_requests_per_process", json!(9));
    assert_eq!(as_processor(&store).await, with(&proc, "/service_capacity/processes_per_instance", json!(4)));
    assert_eq!(config(&admin).await["effective"], ingress);

    // A full configuration under its key, with the roles right below the section, as older documents have them.
    let names = (cluster.scope().tenant(), cluster.scope().project());
    let full = json!({ "tenant": names.0, "project": names.1, "gateway_config": {
        "tenant_id": names.0, "project_id": names.1, "rate_limits": { "registered": { "hourly": 555 } } } });
    updated(&admin, &full).await;
    let effective = config(&admin).await["effective"].clone();
    assert_eq!(effective["rate_limits"]["roles"]["registered"]["hourly"], json!(555));
    assert_ne!(
        effective["backpressure"]["capacity_buffer"],
        json!(0.3),
        "what a full document leaves out is as shipped"
    );
}

#[tokio::test]
async fn a_whole_document_replaces_the_one_before() {
    let cluster = start(cluster()).await;
    let admin = cluster.admin(0);
    updated(&admin, &json!({ "limits": { "max_queue_size": 5 }, "profile": "testing" })).await;
    let sections = json!({ "queue": { "lease_ms": 20_000 } });
    let answer = updated(&admin, &json!({ "config": sections })).await;
    assert_eq!(strings(&answer["changed"]), ["limits.max_queue_size", "profile", "queue.lease_ms"], "{answer}");
    assert_eq!(strings(&answer["without_effect"]), ["profile"]);
    assert_eq!(config(&admin).await["document"], document(&cluster, &sections));
    let both = json!({ "config": {}, "limits": { "max_queue_size": 5 } });
    assert_eq!(update(&admin, &both).await.status, 400, "a patch or a document, not both");
    assert_eq!(number(&config(&admin).await), 2);
}

#[tokio::test]
async fn rollback_and_reset_make_new_revisions_of_old_content_and_everything_is_told_afterwards() {
    let boot = json!({ "limits": { "max_queue_size": 1000 } });
    let cluster = start(cluster().gateways(2).policy(boot.clone())).await;
    let [one, other] = [cluster.admin(0), cluster.admin(1)];
    let at_boot = effective(&one).await;
    let size = |number: u64| json!({ "limits": { "max_queue_size": number } });
    updated(&one, &json!({ "limits": { "max_queue_size": 1001 }, "reason": "the first" })).await;
    let first = config(&one).await;
    updated(&one, &size(1002)).await;
    comes_to_hold(&other, 2).await;

    let back = accepted(rollback(&other, 1, json!({ "reason": "it was better", "expected_revision": 2 })).await);
    assert_eq!((number(&back), strings(&back["changed"])), (3, vec!["limits.max_queue_size"]), "{back}");
    let now = config(&other).await;
    assert_eq!((&now["document"], &now["effective"]), (&first["document"], &first["effective"]));
    comes_to_hold(&one, 3).await;

    let at_last = accepted(reset(&one, &json!({ "reason": "from the beginning" })).await);
    assert_eq!(number(&at_last), 4);
    let now = config(&one).await;
    assert_eq!((&now["document"], &now["effective"]), (&document(&cluster, &boot), &at_boot));

    for answer in [rollback(&one, 99, json!({})).await, revision(&one, 99).await, revision(&one, 0).await] {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{}", answer.text);
    }
    assert_eq!(number(&config(&one).await), 4);

    let list = revisions(&one).await;
    let told = |field: &str| list.iter().map(|revision| revision[field].clone()).collect::<Vec<_>>();
    assert_eq!(told("revision"), [json!(4), json!(3), json!(2), json!(1)]);
    assert_eq!(told("origin"), ["reset", "rollback", "update", "update"].map(Value::from));
    let reasons = [json!("from the beginning"), json!("it was better"), json!(null), json!("the first")];
    assert_eq!(told("reason"), reasons);
    assert!(list.iter().all(|revision| revision["actor"].as_str().is_some_and(|actor| !actor.is_empty())), "{list:?}");
    assert_eq!(list[1]["rolled_back_to"], json!(1));

    // Each begins with what the one before ended with.
    let mut before = Value::Null;
    for (index, size) in [1001, 1002, 1001, 1000].into_iter().enumerate() {
        let record = accepted(revision(&one, index as u64 + 1).await);
        assert_eq!(record["before"], before, "revision {}", index + 1);
        assert_eq!(record["after"]["limits"]["max_queue_size"], json!(size));
        assert_eq!(strings(&record["changed"]), ["limits.max_queue_size"]);
        before = record["after"].clone();
    }
    let events = audit(&one).await;
    let of = |field: &str| events.iter().map(|event| event[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("revision"), [json!(4), json!(3), json!(2), json!(1)]);
    assert!(of("event").iter().all(|event| event == "policy_revised"), "{events:?}");
}
