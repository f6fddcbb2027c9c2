//! What is somebody else's, and what is not there: for a caller they are the same.
//!
//! Responsible for every route that names an object, byte for byte. Must never compare answers to two different
//! callers.

use portcullis_loadtest::client::{Client, Submission};
use portcullis_lua::TaskId;
use serde_json::json;

use super::agent::mint;
use super::sight::Sight;
use super::terms::{Terms, with_api_key};
use crate::fixture::{PATIENCE, accepted, start};

/// What this caller is told of the task by each way of asking about it.
async fn sights(client: &Client, id: &str) -> Vec<Sight> {
    let path = format!("/v1/tasks/{id}");
    let mut answers = vec![client.get(&path).await, client.delete(&path).await];
    // Whoever is let into a stream gets no end of an answer.
    let stream = format!("{path}/events");
    answers.push(tokio::time::timeout(PATIENCE, client.get(&stream)).await.expect("an answer that ends"));
    answers.push(client.post(&path, &json!({})).await);
    answers.push(client.delete(&format!("/v1/decide/{id}")).await);
    let answers = answers.into_iter().map(|answer| answer.expect("an answer"));
    answers
        .map(|answer| {
            assert_eq!((answer.status, answer.code()), (404, "not_found"), "{id}: {}", answer.text);
            Sight::of(&answer)
        })
        .collect()
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_there() {
    let elsewhere = json!({ "scope": { "tenant": "other", "project": "place" } });
    let terms = Terms::new()
        .api_key("adaskey1", "acme:ada", "paid")
        .api_key("bobskey1", "acme:bob", "paid")
        .api_key("samekey1", "acme:ada", "registered")
        .api_key_with("foreign1", "acme:ada", "privileged", elsewhere)
        .api_key_with("narrow01", "acme:ada", "paid", json!({ "scopes": ["reports:read"] }));
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let queued = accepted(&ada, &Submission::new("demo", json!("hers"))).await;
    let over = accepted(&ada, &Submission::new("demo", json!("hers"))).await;
    assert_eq!(ada.cancel(&over).await.expect("an answer").status, 200);
    let agent = mint(&with_api_key(&anyone, "bobskey1"), "helper", &["*"], json!({ "max_depth": 1 })).await;
    let submitter = mint(&ada, "helper", &["tasks:submit:*"], json!({ "max_depth": 1 })).await;
    let others = [
        ("nobody", anyone.clone()),
        ("another principal", with_api_key(&anyone, "bobskey1")),
        ("its agent", anyone.bearer(agent.presented())),
        ("the same principal elsewhere", with_api_key(&anyone, "foreign1")),
        ("the principal with a narrow key", with_api_key(&anyone, "narrow01")),
        ("an agent who may only submit", anyone.bearer(submitter.presented())),
        ("the internal service", anyone.with_header("x-internal-token", terms.internal_token())),
        ("a development token", anyone.caller("privileged", "ada")),
    ];
    for (who, other) in &others {
        let missing = sights(other, &TaskId::generate().to_string()).await;
        for id in [queued.as_str(), &over, "0", "not-a-task", "01ARZ3NDEKTSV4RRFFQ69G5FAV0", "%00", "a%2Fb"] {
            assert_eq!(sights(other, id).await, missing, "{who} about {id}");
        }
    }
    // It was there all the time, and is untouched.
    for client in [&ada, &with_api_key(&anyone, "samekey1")] {
        let task = client.task(&queued).await.expect("an answer");
        assert_eq!((task.status, task.task_status()), (200, "queued"), "{}", task.text);
    }
}

#[tokio::test]
async fn an_operator_of_one_tenant_finds_nothing_of_another() {
    let elsewhere = json!({ "scope": { "tenant": "other", "project": "place" } });
    let terms = Terms::new()
        .api_key("operator", "acme:ada", "privileged")
        .api_key_with("explicit", "acme:ada", "privileged", json!({ "scopes": ["admin"] }))
        .api_key_with("foreign1", "acme:eve", "privileged", elsewhere)
        .api_key_with("noadmin1", "acme:ada", "privileged", json!({ "scopes": ["tasks:read"] }))
        .api_key("paidkey1", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let at = |id: &str| with_api_key(&cluster.admin_listener(0), id);
    let (tenant, project) = (cluster.scope().tenant(), cluster.scope().project());
    let queues = |tenant: &str, project: &str| format!("/admin/queues?tenant={tenant}&project={project}");
    let status = async |id: &str, path: &str| at(id).get(path).await.expect("an answer").status;
    for id in ["operator", "explicit"] {
        assert_eq!(status(id, &queues(tenant, project)).await, 200);
        assert_eq!(status(id, "/admin/queues").await, 200);
        assert_eq!(status(id, "/metrics").await, 404, "the process is nobody's");
    }
    assert_eq!(status("foreign1", "/admin/queues").await, 200, "its own");
    for (id, tenant, project) in [("operator", "other", "place"), ("foreign1", tenant, project)] {
        let foreign = at(id).get(&queues(tenant, project)).await.expect("an answer");
        let missing = at(id).get(&queues("no-such", "tenant")).await.expect("an answer");
        assert_eq!((foreign.status, Sight::of(&foreign)), (404, Sight::of(&missing)), "{id}");
        let patch = json!({ "tenant": tenant, "project": project, "limits": {} });
        assert_eq!(at(id).post("/admin/gateway/update-config", &patch).await.expect("an answer").status, 404);
    }
    for id in ["noadmin1", "paidkey1"] {
        assert_eq!(status(id, "/admin/queues").await, 401, "{id}");
    }
}
