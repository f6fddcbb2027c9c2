//! Tenants that share a deployment and nothing else.
//!
//! Responsible for where a caller's requests leave something in Redis: new keys, and changes of those that were there.
//! Must never name a key but those that processes write of their own accord: whatever there is has to be in the
//! caller's place.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_config::Scope;
use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::cluster::{open_store, stand_in_beat};
use portcullis_loadtest::probe::Probe;
use serde_json::json;

use super::agent::Agent;
use super::sight::who;
use super::terms::{Terms, with_api_key};
use crate::fixture::{Fixture, accepted, start};

/// Uses everything there is as this caller, through agents of these names; its task, and its session.
async fn use_everything(anyone: &Client, caller: &Client, agent: &str) -> (String, String) {
    let task = Submission::new("demo", json!(1));
    let task_id = accepted(caller, &task.clone().header("idempotency-key", "once")).await;
    let opened = caller.post("/v1/sessions", &json!({ "label": "everything" })).await.expect("an answer");
    assert_eq!(opened.status, 201, "{}", opened.text);
    let token = opened.body["token"].as_str().expect("a token").to_owned();
    let session = anyone.bearer(&token);
    let scopes = ["tasks:submit:*", "tasks:read", "tasks:cancel", "quota:read", "routes:call:*"];
    let agent = Agent::of(&session, agent, &scopes, json!({ "constraints": { "calls_per_min": 50 } })).await;
    let below = agent.below(&format!("{}-helper", agent.chain.leaf().claims().client_id));
    let agents_task = below.submit(anyone).await;
    assert_eq!(agents_task.status, 202, "{}", agents_task.text);
    for client in [caller, &session] {
        assert_eq!(client.limits().await.expect("an answer").status, 200);
        assert_eq!(client.get("/v1/decide").await.expect("an answer").status, 200);
        accepted(client, &task).await;
    }
    assert_eq!(agent.get(anyone, &format!("/v1/tasks/{}", agents_task.task_id())).await.status, 200);
    assert_eq!(agent.delete(anyone, &format!("/v1/tasks/{}", agents_task.task_id())).await.status, 200);
    let revoke = json!({ "chain": below.chain.presented() });
    assert_eq!(agent.post(anyone, "/v1/delegations/revoke", &revoke).await.status, 204);
    assert_eq!(below.submit(anyone).await.status, 401);
    let stream = caller.events(&task_id, None).await.expect("a stream").next().await.expect("an event");
    assert!(stream.is_some());
    assert_eq!(caller.cancel(&task_id).await.expect("an answer").status, 200);
    let left = Agent::of(&session, "last", &scopes, json!({})).await;
    assert_eq!(left.submit(anyone).await.status, 202);
    (task_id, token)
}

async fn all_keys(probe: &Probe) -> BTreeSet<String> {
    probe.keys("").await.expect("keys").into_iter().collect()
}

/// What gateways and processors write now and then, whoever calls: that they are there, and in the place of those who
/// name none how many were turned away before anybody knew who they were.
const OWN_ACCORD: [&str; 8] =
    ["statistics", "flush", "counted", "counted-head", "gateway", "beat", "processor", "scope"];

fn is_of_own_accord(key: &str) -> bool {
    OWN_ACCORD.contains(&key.split(':').nth(2).unwrap_or_default())
}

/// The keys of a place whose content is another.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |key: &&String| before.get(*key) != after.get(*key);
    names.into_iter().filter(differs).filter(|key| !is_of_own_accord(key)).cloned().collect()
}

/// Lets a scope have capacity without anybody who works.
async fn capacity_of(cluster: &Fixture, scope: &Scope) {
    let store = open_store(cluster.redis_url()).await.expect("a store").scope(scope);
    let beat = stand_in_beat("elsewhere".to_owned(), 100);
    store.heartbeat(&cluster.compiled_policy(), &beat).await.expect("an answer");
}

#[tokio::test]
async fn whatever_a_caller_does_leaves_traces_in_its_own_place_only() {
    let elsewhere = json!({ "scope": { "tenant": "other", "project": "place" } });
    let terms = Terms::new()
        .api_key("ownerkey", "acme:ada", "paid")
        .api_key_with("foreign1", "acme:ada", "paid", elsewhere.clone())
        .api_key_with("foreign2", "acme:eve", "paid", elsewhere);
    let patient = json!({ "monitoring": { "heartbeat_timeout_seconds": 600 } });
    let mut cluster = start(terms.cluster().policy(patient)).await;
    cluster.stand_in(100).await.expect("capacity");
    let probe = cluster.probe().await.expect("a connection");
    let anyone = cluster.gateway(0);
    let own = cluster.key_prefix();
    let (task_id, _) = use_everything(&anyone, &with_api_key(&anyone, "ownerkey"), "planner").await;
    let before = all_keys(&probe).await;
    assert!(before.len() > 10, "{before:?}");
    assert!(before.iter().all(|key| key.starts_with(&own)), "{before:?}");

    // Another principal and other agents, so that none of its keys can be there already.
    let untouched = probe.dump(&own).await.expect("a dump");
    let foreign = with_api_key(&anyone, "foreign1");
    capacity_of(&cluster, &Scope::new("other", "place").expect("a scope")).await;
    let (foreign_task, token) = use_everything(&anyone, &with_api_key(&anyone, "foreign2"), "searcher").await;
    let after = all_keys(&probe).await;
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.iter().filter(|key| key.starts_with("{other:place}")).count() > 10, "{new:?}");
    let expected = |key: &str| key.starts_with("{other:place}") || key.starts_with(&own) && is_of_own_accord(key);
    let elsewhere = |key: &&&String| !expected(key);
    let strays: Vec<&&String> = new.iter().filter(elsewhere).collect();
    assert!(strays.is_empty(), "outside of its own place: {strays:?}");
    let touched = changed(&untouched, &probe.dump(&own).await.expect("a dump"));
    assert!(touched.is_empty(), "changed in the place of another: {touched:?}");
    // The same principal of the same name is another one there, and so is its session.
    assert_eq!(foreign.task(&task_id).await.expect("an answer").status, 404);
    let here = with_api_key(&anyone, "ownerkey");
    assert_eq!(here.task(&foreign_task).await.expect("an answer").status, 404);
    let (bare, place) = token.split_once('.').expect("a session of another place says so");
    assert_eq!(place, "other/place");
    assert_eq!(who(&anyone.bearer(&token)).await, "acme:eve by session as paid");
    for moved in [bare.to_owned(), format!("{bare}.{}", cluster.scope()), format!("{bare}.other/elsewhere")] {
        assert_eq!(who(&anyone.bearer(&moved)).await, "401", "{moved}");
    }
}
