//! Agents that operate a scope for a privileged principal.
//!
//! Responsible for how far they reach and for what stands in the audit of them: whatever an agent is called, it is
//! known whom it acted for and who let it. Must never ask with the admin token what an agent should be refused.

use portcullis_loadtest::client::Answer;
use serde_json::{Value, json};

use super::agent::Agent;
use super::terms::{Terms, with_api_key};
use crate::fixture::start;

fn refusal(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn an_agent_that_operates_is_known_by_whom_it_acts_for_whatever_it_is_called() {
    let terms = Terms::new().api_key("bosskey1", "acme:boss", "privileged").api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster()).await;
    let admin = cluster.admin_listener(0);
    let [boss, ada] = ["bosskey1", "adaskey1"].map(|id| with_api_key(&cluster.gateway(0), id));
    let onlooker = Agent::of(&boss, "onlooker", &["quota:read"], json!({})).await;
    let upstart = Agent::of(&ada, "upstart", &["admin"], json!({})).await;
    for agent in [&onlooker, &upstart] {
        assert_eq!(refusal(&agent.get(&admin, "/admin/gateway/config").await), (401, "unauthenticated"));
    }

    let deployer = Agent::of(&boss, "deployer", &["admin"], json!({})).await;
    // As the records call the bearer of the token.
    let impostor = deployer.below("admin_token");
    assert_eq!(impostor.get(&admin, "/admin/gateway/config").await.status, 200);
    assert_eq!(refusal(&impostor.get(&admin, "/metrics").await), (404, "not_found"));
    let path = "/admin/gateway/update-config";
    let mut change = json!({ "queue": { "lease_ms": 20_000 }, "reason": "longer" });
    assert_eq!(refusal(&impostor.post(&admin, path, &change).await), (428, "expected_revision_required"));
    change["expected_revision"] = json!(0);
    let changed = impostor.post(&admin, path, &change).await;
    assert_eq!((changed.status, &changed.body["revision"]), (200, &json!(1)), "{}", changed.text);
    let wish = json!({ "kind": "agent", "id": "indexer", "reason": "no longer used" });
    assert_eq!(impostor.post(&admin, "/admin/revocations", &wish).await.status, 200);
    assert_eq!(deployer.post(&admin, "/admin/revocations/acknowledge", &json!({ "reason": "seen" })).await.status, 200);

    let audit = cluster.admin(0).get("/admin/audit").await.expect("an answer");
    let events = audit.body["events"].as_array().expect("events");
    let hops = |event: &Value| -> Vec<(String, String)> {
        let chain = event["about"]["acting_for"]["chain"].as_array().expect("a chain");
        let text = |hop: &Value, name: &str| hop[name].as_str().expect("a text").to_owned();
        chain.iter().map(|hop| (text(hop, "client_id"), text(hop, "reason"))).collect()
    };
    let [root, below] = [("deployer", "plans the work"), ("admin_token", "admin_token helps")]
        .map(|(agent, reason)| (agent.to_owned(), reason.to_owned()));
    for (name, by, chain) in [
        ("policy_revised", "agent:admin_token", vec![root.clone(), below.clone()]),
        ("delegation.revoked", "agent:admin_token", vec![root.clone(), below]),
        ("revocations.acknowledged", "agent:deployer", vec![root]),
    ] {
        let event = events.iter().find(|event| event["event"] == name).expect(name);
        assert_eq!((&event["by"], hops(event)), (&json!(by), chain), "{name}");
        assert_eq!(event["about"]["acting_for"]["principal"], "acme:boss", "{name}");
    }
    let minted = events.iter().find(|event| event["event"] == "delegation.minted").expect("a grant");
    assert_eq!(minted["about"]["acting_for"], Value::Null, "she acts for herself");
}
