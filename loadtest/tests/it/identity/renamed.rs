//! Agents under other names: whoever holds a delegation names the agents below it as it likes, without asking anybody.
//!
//! Responsible for what is counted per agent being counted on a name that the deployment gave. Must never take a name
//! from a token that an agent signed for the one that counts.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use super::agent::{Agent, mint};
use super::terms::{Terms, with_api_key};
use crate::fixture::start;

const SCOPES: [&str; 2] = ["tasks:submit:demo", "quota:read"];
const REVOKE: &str = "/v1/delegations/revoke";

#[tokio::test]
async fn a_limit_of_an_agent_holds_whatever_it_calls_those_it_hands_on_to() {
    let limit = json!({ "per": "agent", "unit": "requests", "limit": 2, "window_seconds": 3600 });
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let policy = json!({ "rate_limits": { "named": { "per_agent": limit } } });
    let mut cluster = start(terms.cluster().gateways(2).policy(policy)).await;
    cluster.stand_in(100).await.expect("capacity");
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let ada = with_api_key(&here, "adaskey1");
    let agent = Agent::of(&ada, "orchestrator", &SCOPES, json!({})).await;
    let task = Submission::new("demo", json!(1));
    assert_eq!(agent.submit(&here).await.status, 202);
    let helper = here.bearer(agent.bearer("another-name").presented());
    assert_eq!(helper.submit(&task).await.expect("an answer").status, 202);
    let deeper = agent.below("deeper").bearer("deepest");
    for client in [there.bearer(agent.bearer("a-third-name").presented()), here.bearer(deeper.presented()), helper] {
        let answer = client.submit(&task).await.expect("an answer");
        let limit = answer.body["limit"].as_str().expect("the limit's name");
        assert_eq!((answer.status, limit), (429, "per_agent"), "{}", answer.text);
    }
    let other = mint(&ada, "somebody-else", &SCOPES, json!({ "max_depth": 1 })).await;
    let answer = there.bearer(other.presented()).submit(&task).await.expect("an answer");
    assert_eq!(answer.status, 202, "another agent of the same principal: {}", answer.text);
    assert_eq!(ada.submit(&task).await.expect("an answer").status, 202, "who has no agent has no such limit");
}

#[tokio::test]
async fn an_agent_changes_things_no_more_often_under_other_names_and_not_at_the_cost_of_anothers() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid").api_key("bobskey1", "acme:bob", "paid");
    let cluster = start(terms.cluster().policy(json!({ "writes": { "per_minute": 2, "per_hour": 2 } }))).await;
    let here = cluster.gateway(0);
    let agent_of = async |key: &str| Agent::of(&with_api_key(&here, key), "orchestrator", &SCOPES, json!({})).await;
    let (adas, bobs) = (agent_of("adaskey1").await, agent_of("bobskey1").await);
    let take_back = async |agent: &Agent| {
        let taking_back = json!({ "chain": agent.bearer("helper").presented(), "reason": "done" });
        agent.post(&here, REVOKE, &taking_back).await.status
    };
    let children = ["one", "two", "three"].map(|name| adas.below(name));
    assert_eq!([take_back(&children[0]).await, take_back(&children[1]).await], [204, 204]);
    assert_eq!([take_back(&children[2]).await, take_back(&adas).await], [429, 429]);
    assert_eq!(take_back(&bobs).await, 204, "an agent of the same name, but of another principal");
}
