//! How often somebody may ask for credentials.
//!
//! Responsible for the count being of callers, and of nothing a caller chooses. Must never wait for a window to pass.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use portcullis_loadtest::client::{Answer, Client};
use serde_json::json;

use super::agent::{Agent, mint, wish};
use super::terms::{Terms, with_api_key};
use crate::fixture::start;

async fn open(client: &Client) -> Answer {
    client.post("/v1/sessions", &json!({})).await.expect("an answer")
}

fn assert_enough(answer: &Answer) {
    assert_eq!((answer.status, answer.code(), answer.step()), (429, "rate_limit", "rate_limit"), "{}", answer.text);
    assert_eq!(answer.body["limit"], "writes");
    assert!(answer.retry_after().is_some_and(|wait| wait.as_secs() >= 1));
    assert!(answer.header("set-cookie").is_none() && answer.body["token"].is_null());
}

#[tokio::test]
async fn credentials_are_counted_by_whom_they_are_asked_for() {
    let terms = Terms::new()
        .api_key("adaskey1", "acme:ada", "paid")
        .api_key("adaskey2", "acme:ada", "privileged")
        .api_key("bobskey1", "acme:bob", "paid");
    let few = json!({ "writes": { "per_minute": 6, "per_hour": 100 } });
    let cluster = start(terms.cluster().gateways(2).policy(few)).await;
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let ada = with_api_key(&here, "adaskey1");
    assert_eq!(open(&ada).await.status, 201);
    let agent = Agent::of(&ada, "orchestrator", &["quota:read"], json!({})).await;
    let doomed = mint(&ada, "doomed", &["quota:read"], json!({ "max_depth": 1 })).await;
    let revoke = json!({ "chain": doomed.presented() });
    assert_eq!(ada.post("/v1/delegations/revoke", &revoke).await.expect("an answer").status, 204);
    // What is refused for another reason is not counted.
    let faulty = wish("helper", &[], json!({}));
    assert_eq!(ada.post("/v1/delegations", &faulty).await.expect("an answer").status, 400);
    // Two more, however many ask at once and as what they say they are.
    let clients: Vec<Client> = (0..20)
        .map(|index| {
            let client = with_api_key([&here, &there][index % 2], ["adaskey1", "adaskey2"][index / 2 % 2]);
            client.with_header("x-agent-id", &format!("agent-{index}")).with_header("user-agent", &index.to_string())
        })
        .collect();
    let answers = join_all(clients.iter().map(open)).await;
    let opened = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(opened, 2, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    answers.iter().filter(|answer| answer.status != 201).for_each(assert_enough);
    let wished = wish("helper", &["quota:read"], json!({ "max_depth": 1 }));
    assert_enough(&ada.post("/v1/delegations", &wished).await.expect("an answer"));
    let again = json!({ "chain": agent.chain.presented() });
    assert_enough(&ada.post("/v1/delegations/revoke", &again).await.expect("an answer"));
    assert_eq!(agent.get(&here, "/v1/limits").await.status, 200, "nothing was taken back");
    assert_eq!(open(&with_api_key(&there, "bobskey1")).await.status, 201, "nobody else suffers");
    // Agents are counted apart from who lets them act, or one could keep her from taking back what she gave.
    let below = agent.bearer("helper");
    let revoke = json!({ "chain": below.presented() });
    assert_eq!(agent.post(&here, "/v1/delegations/revoke", &revoke).await.status, 204);
}

#[tokio::test]
async fn agents_are_counted_together_however_many_there_are_and_whatever_they_are_called() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid").api_key("bobskey1", "acme:bob", "paid");
    let few = json!({ "writes": { "per_minute": 6, "per_hour": 100 } });
    let cluster = start(terms.cluster().gateways(2).policy(few)).await;
    let gateways = [cluster.gateway(0), cluster.gateway(1)];
    let [ada, bob] = ["adaskey1", "bobskey1"].map(|id| with_api_key(&gateways[0], id));
    // Two that she let in herself, and with each four that it named as it liked.
    let mut agents = Vec::new();
    for name in ["planner", "searcher"] {
        let agent = Agent::of(&ada, name, &["quota:read"], json!({})).await;
        agents.extend((0..4).map(|index| agent.below(&format!("{name}-{index}"))));
    }
    let mut statuses = BTreeMap::new();
    for (index, agent) in agents.iter().enumerate() {
        let revoke = json!({ "chain": agent.bearer("helper").presented() });
        let answer = agent.post(&gateways[index % 2], "/v1/delegations/revoke", &revoke).await;
        if answer.status == 429 {
            assert_enough(&answer);
        }
        *statuses.entry(answer.status).or_insert(0) += 1;
    }
    assert_eq!(statuses, BTreeMap::from([(204, 6), (429, 2)]));
    let theirs = Agent::of(&bob, "planner", &["quota:read"], json!({})).await;
    let revoke = json!({ "chain": theirs.bearer("helper").presented() });
    assert_eq!(theirs.post(&gateways[0], "/v1/delegations/revoke", &revoke).await.status, 204, "of the same name");
    // She is not kept from taking back what she gave.
    let revoke = json!({ "chain": agents[0].chain.presented() });
    assert_eq!(ada.post("/v1/delegations/revoke", &revoke).await.expect("an answer").status, 204);
}
