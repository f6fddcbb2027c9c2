//! Who operates a scope without the admin token: privileged callers, and the agents they let act for them.
//!
//! Responsible for an agent changing nothing that it has not looked at, and for nobody getting onto the admin listener
//! by way of another credential who may not be there with its own. Must never use the admin token for what is tested.

use portcullis_loadtest::client::Client;
use serde_json::{Value, json};

use super::agent::{Agent, mint};
use super::terms::{Terms, with_api_key};
use crate::fixture::{Fixture, start};

const UPDATE: &str = "/admin/gateway/update-config";
const RESET: &str = "/admin/gateway/reset-config";
const ROLLBACK: &str = "/admin/gateway/config/rollback";

async fn revision(cluster: &Fixture, index: usize) -> u64 {
    let answer = cluster.admin(index).get("/admin/gateway/config").await.expect("an answer");
    answer.body["revision"].as_u64().unwrap_or_else(|| panic!("a revision: {}", answer.text))
}

fn longer(seconds: u64) -> Value {
    json!({ "queue": { "idempotency_ttl_seconds": seconds } })
}

#[tokio::test]
async fn an_agent_changes_nothing_that_it_has_not_looked_at() {
    let terms = Terms::new().api_key("operator", "acme:ada", "privileged");
    let cluster = start(terms.cluster().gateways(2)).await;
    let ada = with_api_key(&cluster.gateway(0), "operator");
    let agent = Agent::of(&ada, "tuner", &["admin"], json!({})).await;
    let [here, there] = [cluster.admin_listener(0), cluster.admin_listener(1)];
    let first = with_api_key(&here, "operator").post(UPDATE, &longer(7200)).await.expect("an answer");
    assert_eq!(first.status, 200, "a person may go without looking: {}", first.text);
    let current = first.body["revision"].as_u64().expect("a revision");

    for (path, body) in [(UPDATE, longer(3600)), (RESET, json!({})), (ROLLBACK, json!({ "revision": current }))] {
        for listener in [&here, &there] {
            let unseen = agent.post(listener, path, &body).await;
            assert_eq!((unseen.status, unseen.code()), (428, "expected_revision_required"), "{path}: {}", unseen.text);
        }
    }
    let dry = json!({ "queue": { "idempotency_ttl_seconds": 3600 }, "dry_run": true });
    assert_eq!(agent.post(&here, UPDATE, &dry).await.status, 200, "to look is to change nothing");
    assert_eq!([revision(&cluster, 0).await, revision(&cluster, 1).await], [current, current], "nothing was changed");

    let seen = |revision: u64| json!({ "queue": { "idempotency_ttl_seconds": 3600 }, "expected_revision": revision });
    let stale = agent.post(&there, UPDATE, &seen(current - 1)).await;
    assert_eq!((stale.status, stale.code(), &stale.body["current"]), (409, "revision_conflict", &json!(current)));
    let changed = agent.post(&there, UPDATE, &seen(current)).await;
    assert_eq!((changed.status, &changed.body["revision"]), (200, &json!(current + 1)), "{}", changed.text);
    let listed = cluster.admin(0).get("/admin/gateway/config/revisions").await.expect("an answer");
    assert_eq!(listed.body["revisions"][0]["actor"], json!("agent:tuner"), "{}", listed.text);
}

#[tokio::test]
async fn a_development_token_does_not_operate_by_way_of_a_session_or_a_delegation() {
    let terms = Terms::new().api_key("operator", "acme:ada", "privileged");
    let cluster = start(terms.cluster()).await;
    let (public, admin) = (cluster.gateway(0), cluster.admin_listener(0));
    let status = async |client: &Client| client.get("/admin/queues").await.expect("an answer").status;
    let root = with_api_key(&public, "operator");
    for (caller, expected) in [(&root, 200), (&public.caller("privileged", "root"), 401)] {
        let chain = mint(caller, "tuner", &["admin"], json!({ "max_depth": 1 })).await;
        assert_eq!(status(&admin.bearer(chain.presented())).await, expected, "by a delegation");
        let opened = caller.post("/v1/sessions", &json!({})).await.expect("an answer");
        let token = opened.body["token"].as_str().unwrap_or_else(|| panic!("a session: {}", opened.text));
        assert_eq!(status(&admin.bearer(token)).await, expected, "by a session");
    }
    assert_eq!(status(&admin.caller("privileged", "root")).await, 401, "by itself");
}
