//! What becomes known of a caller behind the gateway: to whoever does the work, and to whoever looks back later.
//!
//! Responsible for handlers being told who it is and never being handed its credential, and for every hop being on
//! record with its reason. Must never read the record anywhere but where operators do.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use portcullis_loadtest::client::Submission;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::agent::Agent;
use super::terms::{Terms, api_key, with_api_key};
use crate::fixture::{accepted, ended, start};

#[tokio::test]
async fn who_does_the_work_is_told_for_whom_and_gets_no_credential() {
    let seen = Arc::<Mutex<Vec<HeaderMap>>>::default();
    let keep = seen.clone();
    let handler = post(move |headers: HeaderMap| async move {
        keep.lock().expect("no panic").push(headers);
        "done"
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/work", listener.local_addr().expect("an address"));
    let mut serving = JoinSet::new();
    serving.spawn(async move { drop(axum::serve(listener, Router::new().route("/work", handler)).await) });

    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let cluster = start(terms.cluster().processors(1).handler("work", &url)).await;
    let ada = with_api_key(&cluster.gateway(0), "adaskey1");
    let agent = Agent::of(&ada, "orchestrator", &["tasks:submit:work"], json!({})).await;
    let task = Submission::new("work", json!(1));
    let path = "/v1/tasks";
    let by_agent = agent.at(&cluster.gateway(0), "POST", path).with_header("x-actor", "root");
    for client in [by_agent, ada.with_header("x-actor", "root").with_header("x-principal", "root")] {
        let task_id = accepted(&client, &task).await;
        assert_eq!(ended(&ada, &task_id).await.task_status(), "succeeded");
    }
    let calls = seen.lock().expect("no panic").clone();
    let text = |call: &HeaderMap, name: &str| call.get(name).map(|value| value.to_str().expect("text").to_owned());
    let told: Vec<_> =
        calls.iter().map(|call| ["x-principal", "x-user-type", "x-actor"].map(|name| text(call, name))).collect();
    let said = |principal: &str, user_type: &str, actor: Option<&str>| {
        [Some(principal.to_owned()), Some(user_type.to_owned()), actor.map(str::to_owned)]
    };
    assert_eq!(told, [said("acme:ada", "paid", Some("orchestrator")), said("acme:ada", "paid", None)]);
    for call in &calls {
        for name in ["authorization", "dpop", "cookie", "x-api-key", "x-internal-token"] {
            assert!(!call.contains_key(name), "{name}");
        }
        let all = format!("{call:?}");
        assert!(!all.contains(&api_key("adaskey1")) && !all.contains(agent.chain.presented()));
    }
}

#[tokio::test]
async fn every_hop_is_on_record_with_its_reason() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let ada = with_api_key(&cluster.gateway(0), "adaskey1");
    let root = Agent::of(&ada, "orchestrator", &["tasks:submit:*"], json!({})).await;
    let researcher = root.below("researcher");
    let leaf = researcher.bearer("leaf");
    let admitted = accepted(&cluster.gateway(0).bearer(leaf.presented()), &Submission::new("demo", json!(1))).await;
    let decisions = cluster.admin(0).get("/admin/decisions?limit=100").await.expect("an answer");
    let about = |event: &&Value| event["task_id"] == admitted.as_str();
    let events: Vec<&Value> = decisions.body["decisions"].as_array().expect("a list").iter().filter(about).collect();
    let [event] = &events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((&event["principal"], &event["actor"]), (&json!("acme:ada"), &json!("leaf")));
    assert_eq!((&event["source"], &event["outcome"]), (&json!("delegation"), &json!("admitted")));
    let hops: Vec<[&str; 3]> = event["hops"]
        .as_array()
        .expect("hops")
        .iter()
        .map(|hop| ["client_id", "reason", "hash"].map(|name| hop[name].as_str().expect("text")))
        .collect();
    let hashes: Vec<&str> = leaf.tokens().iter().map(portcullis_delegation::Token::hash).collect();
    assert_eq!(
        hops,
        [
            ["orchestrator", "plans the work", hashes[0]],
            ["researcher", "researcher helps", hashes[1]],
            ["leaf", "leaf helps", hashes[2]],
        ]
    );
    // Credentials are given out on record too, and nowhere in it is one of them.
    let audit = cluster.admin(0).get("/admin/audit?limit=100").await.expect("an answer");
    assert!(audit.text.contains("delegation.minted") && audit.text.contains("plans the work"), "{}", audit.text);
    let signature = leaf.root().compact().rsplit_once('.').expect("a signature").1;
    for text in [&audit.text, &decisions.text] {
        assert!(!text.contains(signature) && !text.contains(&api_key("adaskey1")));
    }
}
