//! Delegations that are taken back, by whom they may be and by nobody else.
//!
//! Responsible for a chain dying with any part of it, everywhere, from the moment of the answer. Must never wait for a
//! gateway to hear of it where it has to ask Redis anyway.

use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_lua::{Grounds, Member, Revocation};
use serde_json::{Value, json};

use super::agent::{Agent, mint};
use super::sight::{Sight, who};
use super::terms::{Terms, with_api_key};
use crate::fixture::{Fixture, accepted, ended, start, until};

const SCOPES: [&str; 2] = ["tasks:submit:*", "quota:read"];
const REVOKE: &str = "/v1/delegations/revoke";

fn terms() -> Terms {
    Terms::new().api_key("adaskey1", "acme:ada", "paid").api_key("bobskey1", "acme:bob", "paid")
}

fn taking_back(chain: &portcullis_delegation::Chain) -> Value {
    json!({ "chain": chain.presented(), "reason": "not needed any more" })
}

async fn submit(client: &Client) -> u16 {
    client.submit(&Submission::new("demo", json!(1))).await.expect("an answer").status
}

/// Whoever acts under a chain is refused: at once where Redis is asked, soon where it is not.
async fn dead(cluster: &Fixture, agent: &Agent) {
    for index in 0..2 {
        let listener = cluster.gateway(index);
        let refused = agent.submit(&listener).await;
        assert_eq!((refused.status, refused.code()), (401, "unauthenticated"), "{}", refused.text);
        let helper = listener.bearer(agent.bearer("helper").presented());
        until("it is known everywhere", || async { (who(&helper).await == "401").then_some(()) }).await;
    }
}

#[tokio::test]
async fn what_is_taken_back_takes_along_what_descends_from_it_and_nothing_else() {
    let mut cluster = start(terms().cluster().gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let (ada, bob) = (with_api_key(&here, "adaskey1"), with_api_key(&here, "bobskey1"));
    let root = Agent::of(&ada, "orchestrator", &SCOPES, json!({})).await;
    let (elder, younger) = (root.below("elder"), root.below("younger"));
    let (grandchild, nephew) = (elder.below("grandchild"), younger.below("nephew"));
    let beside = Agent::of(&ada, "orchestrator", &SCOPES, json!({})).await.below("elder").below("grandchild");
    let bearer = root.bearer("bearer");
    for agent in [&root, &elder, &younger, &grandchild] {
        assert_eq!([agent.submit(&here).await.status, agent.submit(&there).await.status], [202, 202]);
    }

    // Neither what is beside it, nor what is above it, nor itself: for an agent none of them is there.
    let nothing = bob.post(REVOKE, &json!({ "chain": "nonsense" })).await.expect("an answer");
    assert_eq!((nothing.status, nothing.code()), (404, "not_found"));
    let absent = elder.post(&here, REVOKE, &json!({ "chain": "nonsense" })).await;
    for (what, chain) in [
        ("sibling", &younger.chain),
        ("child of a sibling", &nephew.chain),
        ("grandchild by the same names, from another root", &beside.chain),
        ("parent", &root.chain),
        ("itself", &elder.chain),
    ] {
        let refused = elder.post(&here, REVOKE, &taking_back(chain)).await;
        assert_eq!(Sight::of(&refused), Sight::of(&absent), "{what}");
        assert_eq!(refused.status, 404);
    }
    for chain in [&root.chain, &grandchild.chain] {
        let refused = bob.post(REVOKE, &taking_back(chain)).await.expect("an answer");
        assert_eq!(Sight::of(&refused), Sight::of(&nothing), "another principal's");
    }
    let anonymous = here.post(REVOKE, &taking_back(&root.chain)).await.expect("an answer");
    assert_eq!((anonymous.status, anonymous.code()), (404, "not_found"), "{}", anonymous.text);
    let leaf = here.bearer(bearer.presented());
    assert_eq!(leaf.post(REVOKE, &taking_back(&bearer)).await.expect("an answer").status, 404);
    for agent in [&root, &elder, &younger, &grandchild, &nephew, &beside] {
        assert_eq!(agent.submit(&there).await.status, 202, "nothing was taken back");
    }

    assert_eq!(elder.post(&here, REVOKE, &taking_back(&grandchild.chain)).await.status, 204);
    dead(&cluster, &grandchild).await;
    assert_eq!(elder.submit(&there).await.status, 202, "its parent is none the worse");
    assert_eq!(root.post(&there, REVOKE, &taking_back(&elder.chain)).await.status, 204);
    dead(&cluster, &elder).await;
    assert_eq!([younger.submit(&here).await.status, root.submit(&here).await.status], [202, 202]);
    assert_eq!(submit(&there.bearer(bearer.presented())).await, 202);
    let again = root.post(&there, REVOKE, &taking_back(&elder.chain)).await;
    assert_eq!(again.status, 204, "twice is once: {}", again.text);

    assert_eq!(ada.post(REVOKE, &taking_back(&root.chain)).await.expect("an answer").status, 204);
    dead(&cluster, &root).await;
    dead(&cluster, &younger).await;
    assert_eq!(submit(&there.bearer(bearer.presented())).await, 401);
    assert_eq!(submit(&ada).await, 202, "ada is still ada");
    assert_eq!(Agent::of(&ada, "orchestrator", &SCOPES, json!({})).await.submit(&there).await.status, 202);
}

async fn revoke(cluster: &Fixture, member: Member<'_>) {
    let revocation = Revocation { member: member.to_string(), lasts_ms: 3_600_000, spares_later: false };
    let grounds = Grounds { by: "test", reason: "stolen", max_audit_events: 100 };
    cluster.store().await.expect("a store").revoke(&[revocation], grounds).await.expect("an answer");
}

#[tokio::test]
async fn a_chain_dies_with_its_principal_its_session_any_agent_and_any_key_of_it() {
    let mut cluster = start(terms().cluster().gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let here = cluster.gateway(0);
    let ada = with_api_key(&here, "adaskey1");
    let fresh = async |name: &str| Agent::of(&ada, name, &SCOPES, json!({})).await;
    let survivor = fresh("survivor").await;

    let agent = fresh("doomed").await;
    let below = agent.below("innocent");
    assert_eq!(below.submit(&here).await.status, 202);
    revoke(&cluster, Member::Agent("doomed")).await;
    dead(&cluster, &below).await;
    let again = fresh("doomed").await;
    dead(&cluster, &again).await;

    let agent = fresh("keyed").await;
    let below = agent.below("innocent");
    assert_eq!(below.submit(&here).await.status, 202);
    revoke(&cluster, Member::Key(&agent.key.public().thumbprint())).await;
    dead(&cluster, &below).await;

    let opened = ada.post("/v1/sessions", &json!({})).await.expect("an answer");
    let session = here.bearer(opened.body["token"].as_str().expect("a token"));
    let of_session = Agent::of(&session, "from-a-session", &SCOPES, json!({})).await;
    assert_eq!(of_session.submit(&here).await.status, 202);
    assert_eq!(session.delete("/v1/sessions/current").await.expect("an answer").status, 204);
    dead(&cluster, &of_session).await;

    assert_eq!(survivor.submit(&here).await.status, 202, "nothing was ever said of it");
    let bob = Agent::of(&with_api_key(&here, "bobskey1"), "orchestrator", &SCOPES, json!({})).await;
    revoke(&cluster, Member::Principal("acme:ada")).await;
    dead(&cluster, &survivor).await;
    assert_eq!(submit(&ada).await, 401, "ada's key as well");
    assert_eq!(bob.submit(&here).await.status, 202);
}

#[tokio::test]
async fn what_was_queued_under_a_chain_is_not_run_once_it_is_taken_back() {
    let mut cluster = start(terms().cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let here = cluster.gateway(0);
    let ada = with_api_key(&here, "adaskey1");
    let doomed = mint(&ada, "doomed", &SCOPES, json!({ "max_depth": 1 })).await;
    let task = Submission::new("demo", json!("work"));
    let theirs = accepted(&here.bearer(doomed.presented()), &task).await;
    let own = accepted(&ada, &task).await;
    assert_eq!(ada.post(REVOKE, &taking_back(&doomed)).await.expect("an answer").status, 204);
    cluster.add_processor().await.expect("a processor");
    let (own, theirs): (Answer, Answer) = (ended(&ada, &own).await, ended(&ada, &theirs).await);
    assert_eq!((own.task_status(), theirs.task_status()), ("succeeded", "cancelled"), "{}", theirs.text);
    assert_eq!(theirs.body["error"]["code"], "revoked", "{}", theirs.text);
}
