//! `circuit_breakers.tasks` and `kinds.*.circuit_breaker`: a kind that fails closes its own way in, by its own numbers.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::Submission;
use serde_json::{Value, json};

use super::{everywhere, refused};
use crate::fixture::{accepted, cluster, ended, start, until};

const KINDS: [&str; 3] = ["frail", "sturdy", "brief"];

/// Tasks of this kind fail, and are told apart from a caller's fault.
async fn fail(client: &Client, kind: &str, times: usize) {
    let failing = Submission::new(kind, json!({ "status": 500 })).field("max_attempts", 1);
    for _ in 0..times {
        let task_id = accepted(client, &failing).await;
        assert_eq!(ended(client, &task_id).await.task_status(), "dead");
    }
}

/// What the operator sees of the breaker of this kind.
async fn breaker(admin: &Client, kind: &str) -> Value {
    let body = admin.get("/admin/circuit-breakers").await.expect("an answer").body;
    let list = body["circuit_breakers"].as_array().unwrap_or_else(|| panic!("no list: {body}"));
    let found = list.iter().find(|breaker| breaker["name"] == json!(kind)).cloned();
    found.unwrap_or_else(|| panic!("no {kind}: {body}"))
}

#[tokio::test]
async fn a_failing_kind_opens_only_its_own_breaker_and_at_its_own_volume() {
    let builder = KINDS.into_iter().fold(cluster(), |builder, kind| builder.handler(kind, "builtin:sleep"));
    let mut long_open = json!({ "circuit_breakers": { "tasks": { "open_seconds": 3600 } } });
    long_open["rate_limits"] = json!({ "roles": { "privileged": { "burst": 1000 } } });
    let cluster = start(builder.gateways(2).processors(1).slots(4).policy(long_open)).await;
    let (admin, client) = (cluster.admin(0), cluster.gateway(1).caller("privileged", "ada"));
    let sound = |kind: &str| Submission::new(kind, json!({ "ms": 1 }));

    // The shipped volume is twenty calls: so few failures open nothing.
    fail(&client, "frail", 3).await;
    accepted(&client, &sound("frail")).await;
    let frail = json!({ "kinds": { "frail": { "circuit_breaker": { "minimum_calls": 2, "failure_rate": 0.5 } } } });
    everywhere(&admin, &frail).await;
    fail(&client, "frail", 1).await;
    let refusal = refused(&client, &sound("frail"), "circuit_open").await;
    assert_eq!((refusal.status, refusal.step()), (503, "circuit_breaker"));
    fail(&client, "sturdy", 3).await;
    accepted(&client, &sound("sturdy")).await;

    everywhere(&admin, &json!({ "circuit_breakers": { "tasks": { "minimum_calls": 4, "failure_rate": 0.6 } } })).await;
    fail(&client, "sturdy", 1).await;
    refused(&client, &sound("sturdy"), "circuit_open").await;

    let brief = json!({ "minimum_calls": 2, "open_seconds": 1, "half_open_probes": 1 });
    everywhere(&admin, &json!({ "kinds": { "brief": { "circuit_breaker": brief } } })).await;
    fail(&client, "brief", 2).await;
    assert_ne!(breaker(&admin, "brief").await["state"], json!("closed"));
    // Without its own `open_seconds` it would stay open for an hour.
    until("a probe is let through", || async {
        client.submit(&sound("brief")).await.expect("an answer").is_accepted().then_some(())
    })
    .await;
    until("one success closes it", || async {
        (breaker(&admin, "brief").await["state"] == json!("closed")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn slow_calls_open_a_breaker_by_the_numbers_of_the_moment() {
    let cluster = start(cluster().processors(1).slots(4)).await;
    let (admin, client) = (cluster.admin(0), cluster.gateway(0).caller("privileged", "ada"));
    let slow = Submission::new("slow", json!({ "ms": 20 }));
    let run = async || {
        let task_id = accepted(&client, &slow).await;
        assert_eq!(ended(&client, &task_id).await.task_status(), "succeeded");
    };
    run().await;
    let limits = json!({ "slow_call_ms": 10, "slow_call_rate": 0.5, "minimum_calls": 2 });
    everywhere(&admin, &json!({ "circuit_breakers": { "tasks": limits } })).await;
    // One of two was slow: the first was not, when it ended.
    run().await;
    refused(&client, &slow, "circuit_open").await;
    accepted(&client, &super::task()).await;
}
