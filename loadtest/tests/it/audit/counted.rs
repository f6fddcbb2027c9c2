//! A thousand mixed requests, and what the audit says of them.
//!
//! Responsible for equality by cause: every answer of a gate is told of once. Must never let one cause make up for
//! another.

use std::collections::BTreeMap;

use portcullis_delegation::Chain;
use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::credentials::{Credentials, Granted, handed_on, principal_of, random_text, secret_key};
use portcullis_lua::{DecisionEvent, ScopeStore, TaskId};
use serde_json::json;

use super::export::{export, verdict};
use crate::fixture::{Fixture, accepted, cluster, start, until};

const REQUESTS: usize = 1000;
/// Room in the queue, of which everybody gets a part before it is full.
const QUEUE: u64 = 150;
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
/// More than a gateway remembers at once.
const MOST: u32 = 100_000;

/// By cause: `admitted`, `replayed`, or the code of a refusal.
type Causes = BTreeMap<String, u64>;

struct Crowd {
    credentials: Credentials,
    cluster: Fixture,
    helper: Chain,
    /// The token of an agent that may only look at limits.
    onlooker: String,
    paid: String,
    registered: String,
}

async fn crowd() -> Crowd {
    let credentials = Credentials::new(&json!({ "failed_attempts": { "per_minute": 1000 } })).await;
    let credentials = credentials.expect("credentials");
    let policy = json!({
        "rate_limits": { "roles": {
            "anonymous": { "burst": 20, "burst_window": 3600, "hourly": -1 },
            "registered": { "burst": 30, "burst_window": 3600, "hourly": -1 },
            "paid": { "burst": 100_000, "hourly": -1 },
        } },
        "limits": { "max_queue_size": QUEUE },
        "guarded_rest_patterns": ["^/reports$"],
        "writes": { "per_minute": 6, "per_hour": 100 },
    });
    let mut cluster = start(credentials.believed_by(cluster()).gateways(2).policy(policy)).await;
    cluster.stand_in(100_000).await.expect("capacity");
    let [paid, registered] = [("ada", &["paid"][..]), ("bob", &[])]
        .map(|(subject, groups)| credentials.jwt(subject, groups).expect("a token"));
    let wish = json!({ "agent": "onlooker", "scopes": ["quota:read"], "reason": "watches" });
    let minted = cluster.gateway(0).bearer(&paid).post("/v1/delegations", &wish).await.expect("an answer");
    assert_eq!(minted.status, 201, "{}", minted.text);
    let onlooker = minted.body["token"].as_str().expect("a token").to_owned();
    let helper = chain(&credentials, &cluster);
    Crowd { credentials, cluster, helper, onlooker, paid, registered }
}

/// Ada lets a planner act for her, the planner a searcher, the searcher a helper.
fn chain(credentials: &Credentials, cluster: &Fixture) -> Chain {
    let (planner, searcher) = (secret_key().expect("a key"), secret_key().expect("a key"));
    let principal = principal_of("ada");
    let granted = Granted {
        scope: cluster.scope(),
        principal: &principal,
        agent: "planner",
        holder: Some(&planner),
        reason: "plan the week",
    };
    let root = credentials.mint(&granted).expect("a root");
    let key = Some(searcher.public_key());
    let searching = handed_on(&root, &planner, "searcher", key, "find a venue").expect("a chain");
    handed_on(&searching, &searcher, "helper", None, "read one page").expect("a chain")
}

/// The answer of a gate, by its cause; `None`: no gate was asked.
async fn send(crowd: &Crowd, number: usize) -> Option<(String, Answer)> {
    let client: Client = crowd.cluster.gateway(number);
    let task = Submission::new("demo", json!(number));
    let submit = async |token: &str, task: &Submission| client.bearer(token).submit(task).await.expect("an answer");
    let answer = match number % 16 {
        0 => submit(&crowd.paid, &task).await,
        1 => submit(&crowd.registered, &task).await,
        2 => submit(&random_text(), &task).await,
        3 => submit(&crowd.onlooker, &task).await,
        4 => submit(crowd.helper.presented(), &task).await,
        5 => {
            let missing = format!("/v1/tasks/{}", TaskId::generate());
            let answer = client.bearer(&crowd.paid).get(&missing).await.expect("an answer");
            assert_eq!((answer.status, answer.code()), (404, "not_found"));
            return None;
        }
        6 => client.submit(&task).await.expect("an answer"),
        7 => submit(&crowd.paid, &Submission::new("no such kind!", json!(1))).await,
        8 => {
            submit(&crowd.paid, &Submission::new("demo", json!(1)).header("idempotency-key", "one and the same")).await
        }
        // A read with a credential that is worth nothing is turned away by the first gate.
        9 => client.bearer(&random_text()).get("/v1/sessions/current").await.expect("an answer"),
        // So is a credential that was given for something else, whatever it is shown for.
        10 => client.bearer(&crowd.onlooker).get("/v1/decide").await.expect("an answer"),
        11 => client.bearer(&crowd.onlooker).post("/v1/sessions", &json!({})).await.expect("an answer"),
        12 => {
            let wish = json!({ "agent": "another", "scopes": ["tasks:read"], "reason": "reads" });
            client.bearer(crowd.helper.presented()).post("/v1/delegations", &wish).await.expect("an answer")
        }
        13 => client.bearer(&crowd.paid).get("/v1/decide").await.expect("an answer"),
        14 => {
            let answer = client.bearer(&crowd.registered).post("/v1/sessions", &json!({})).await.expect("an answer");
            if answer.status == 201 {
                return None;
            }
            answer
        }
        // And so is whoever tries to operate without being an operator.
        _ => crowd.cluster.admin(number).bearer(&random_text()).get("/admin/queues").await.expect("an answer"),
    };
    let cause = match answer.status {
        202 if answer.header("idempotent-replayed").is_some() => "replayed".to_owned(),
        200 | 202 => "admitted".to_owned(),
        _ => answer.code().to_owned(),
    };
    Some((cause, answer))
}

/// What the decision events and the counts beside them say.
pub(crate) async fn told(store: &ScopeStore) -> Causes {
    let mut causes = Causes::new();
    for event in store.decisions(MOST).await.expect("decisions") {
        *causes.entry(event.code.unwrap_or(event.outcome)).or_default() += 1;
    }
    for event in store.counted(MOST).await.expect("counts") {
        for (field, count) in event.about["counts"].as_object().expect("counts") {
            let (code, _) = field.split_once(':').expect("a code and a user type");
            *causes.entry(code.to_owned()).or_default() += count.as_u64().expect("a number");
        }
    }
    causes
}

#[tokio::test]
async fn every_answer_of_a_gate_is_told_of_once() {
    let crowd = crowd().await;
    let store = crowd.cluster.store().await.expect("a store");
    let (mut answers, mut statuses) = (Causes::new(), BTreeMap::<u16, u64>::new());
    for number in 0..REQUESTS {
        if let Some((cause, answer)) = send(&crowd, number).await {
            assert!(!cause.is_empty(), "{} {}", answer.status, answer.text);
            *answers.entry(cause).or_default() += 1;
            *statuses.entry(answer.status).or_default() += 1;
        }
    }
    for status in [202, 400, 401, 403, 429, 503] {
        assert!(statuses.contains_key(&status), "{status} is missing: {statuses:?}");
    }
    assert!(answers.contains_key("rate_limit"), "credentials were given out without end: {answers:?}");
    let all: u64 = answers.values().sum();
    until("every answer has been told of", || async {
        (told(&store).await.values().sum::<u64>() >= all).then_some(())
    })
    .await;
    assert_eq!(told(&store).await, answers);
    for stream in ["decision", "counted", "audit"] {
        let lines = export(&crowd.cluster, stream).await;
        let (content, said) = verdict(&lines).await;
        assert!(content && lines.len() > 1, "{stream}: {said}");
    }
}

#[tokio::test]
async fn an_agents_decision_names_every_hop_in_order_and_why() {
    let crowd = crowd().await;
    let task = Submission::new("demo", json!(1));
    let traced = |client: Client| client.with_header("traceparent", &format!("00-{TRACE_ID}-b7ad6b7169203331-01"));
    let helper = traced(crowd.cluster.gateway(0).bearer(crowd.helper.presented()));
    let task_id = accepted(&helper, &task).await;
    let ada = crowd.cluster.gateway(0).bearer(&crowd.credentials.jwt("ada", &["paid"]).expect("a token"));
    accepted(&ada, &task).await;
    let asking =
        traced(ada).with_header("x-original-uri", "/reports?for=ada").with_header("x-original-method", "PATCH");
    assert_eq!(asking.get("/v1/decide").await.expect("an answer").status, 200);
    let store = crowd.cluster.store().await.expect("a store");
    let events = store.decisions(10).await.expect("decisions");
    let event = events.iter().find(|event| event.task_id.as_deref() == Some(&task_id)).expect("it is told of");
    assert_eq!((event.principal.as_str(), event.actor.as_deref()), ("idp:ada", Some("helper")));
    assert_eq!(event.origin.source.as_deref(), Some("delegation"));
    let hops: Vec<(&str, &str)> =
        event.origin.hops.iter().map(|hop| (hop.client_id.as_str(), hop.reason.as_str())).collect();
    let expected = [("planner", "plan the week"), ("searcher", "find a venue"), ("helper", "read one page")];
    assert_eq!(hops, expected);
    for (hop, token) in event.origin.hops.iter().zip(crowd.helper.tokens()) {
        assert_eq!((hop.hash.as_str(), &hop.jti, hop.exp), (token.hash(), &token.claims().jti, token.claims().exp));
    }
    let own = events.iter().find(|event| event.actor.is_none() && event.pass.is_none()).expect("her own");
    assert_eq!((own.origin.source.as_deref(), own.origin.hops.len()), (Some("jwt"), 0));
    let by = |event: &DecisionEvent| {
        [event.origin.method.clone(), event.origin.route.clone()].map(Option::unwrap_or_default)
    };
    for event in events.iter().filter(|event| event.pass.is_none()) {
        assert_eq!(by(event), ["POST", "/v1/tasks"]);
    }
    let asked = events.iter().find(|event| event.pass.is_some()).expect("the question");
    let named = [event, asked, own].map(|event| event.origin.trace_id.as_deref());
    assert_eq!(named, [Some(TRACE_ID), Some(TRACE_ID), None]);
    assert!(events.iter().all(|event| event.origin.latency_us.is_some_and(|latency_us| latency_us > 0)), "{events:?}");
    assert_eq!(by(asked), ["PATCH", "/v1/decide"], "never an address, which may say more");
}
