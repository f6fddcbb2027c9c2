//! What acting for somebody costs, and whom.
//!
//! Responsible for agents spending what their principal has, and being what their principal is now. Must never count on
//! times: limits here are counts within windows far longer than a test.

use portcullis_delegation::{Constraint, Narrowing};
use portcullis_loadtest::client::{Answer, Client, Submission};
use serde_json::{Value, json};

use super::agent::{Agent, mint, narrowing};
use super::key::{Key, now_seconds};
use super::key_server::KeyServer;
use super::sight::who;
use super::terms::{Terms, with_api_key};
use crate::fixture::{accepted, record, start, until};

const SUBMIT: [&str; 2] = ["tasks:submit:demo", "quota:read"];

async fn submit(client: &Client) -> Answer {
    client.submit(&Submission::new("demo", json!(1))).await.expect("an answer")
}

fn five_an_hour() -> Value {
    let five = json!({ "burst": 5, "burst_window": 3600, "hourly": -1 });
    json!({ "rate_limits": { "roles": { "paid": five } } })
}

#[tokio::test]
async fn agents_spend_what_their_principal_has_and_sessions_and_keys_do_not_multiply_it() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid").api_key("adaskey2", "acme:ada", "paid");
    let mut cluster = start(terms.cluster().gateways(2).policy(five_an_hour())).await;
    cluster.stand_in(100).await.expect("capacity");
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let ada = with_api_key(&here, "adaskey1");
    let opened = ada.post("/v1/sessions", &json!({})).await.expect("an answer");
    let session = here.bearer(opened.body["token"].as_str().expect("a token"));
    let agent = Agent::of(&ada, "orchestrator", &SUBMIT, json!({})).await;
    let from_session = mint(&session, "helper", &SUBMIT, json!({ "max_depth": 1 })).await;
    let helper = there.bearer(agent.bearer("helper").presented());
    let answers = [
        submit(&ada).await,
        submit(&session).await,
        agent.submit(&here).await,
        submit(&helper).await,
        submit(&there.bearer(from_session.presented())).await,
    ];
    let sessions: Vec<Option<&str>> = answers.iter().map(|answer| answer.header("x-session-id")).collect();
    for answer in &answers {
        assert_eq!((answer.status, answer.header("x-session-id")), (202, sessions[0]), "{}", answer.text);
    }
    let another = mint(&ada, "another", &SUBMIT, json!({ "max_depth": 1 })).await;
    let clients = [ada.clone(), session, helper, with_api_key(&there, "adaskey2"), here.bearer(another.presented())];
    for client in &clients {
        let answer = submit(client).await;
        assert_eq!((answer.status, answer.code()), (429, "burst_limit"), "{}", answer.text);
    }
    let answer = agent.submit(&there).await;
    assert_eq!((answer.status, answer.code()), (429, "burst_limit"), "{}", answer.text);
}

#[tokio::test]
async fn a_bound_on_calls_holds_for_all_who_act_under_it_together() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let agent = Agent::of(&ada, "orchestrator", &SUBMIT, json!({ "constraints": { "calls_per_hour": 3 } })).await;
    let helpers = ["one", "two", "three"].map(|name| anyone.bearer(agent.bearer(name).presented()));
    assert_eq!(agent.submit(&anyone).await.status, 202);
    assert_eq!(submit(&helpers[0]).await.status, 202);
    assert_eq!(submit(&helpers[1]).await.status, 202);
    let fresh = anyone.bearer(agent.below("four").bearer("five").presented());
    for client in helpers.iter().chain([&fresh]) {
        let answer = submit(client).await;
        let limit = answer.body["limit"].as_str().expect("the limit's name");
        assert_eq!((answer.status, answer.code(), limit), (429, "rate_limit", "chain:0:calls_per_hour"));
    }
    assert_eq!(agent.submit(&anyone).await.status, 429);
    assert_eq!(submit(&ada).await.status, 202, "who grants is not bound by what it grants");
    let other = Agent::of(&ada, "orchestrator", &SUBMIT, json!({ "constraints": { "calls_per_hour": 3 } })).await;
    assert_eq!(other.submit(&anyone).await.status, 202, "another delegation has its own");
}

/// The names in a field of limits, in their order.
fn names<'a>(answer: &'a Answer, field: &str) -> Vec<&'a str> {
    answer.header(field).unwrap_or_default().split('"').skip(1).step_by(2).collect()
}

#[tokio::test]
async fn what_a_chain_has_left_is_told_to_who_acts_under_it_and_to_nobody_else() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let mut cluster = start(terms.cluster().policy(five_an_hour())).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let agent = Agent::of(&ada, "orchestrator", &SUBMIT, json!({ "constraints": { "calls_per_min": 50 } })).await;
    let tighter = vec![Constraint { key: "calls_per_min".to_owned(), max: 40 }];
    let chain = agent.narrowed(Narrowing { constraints: tighter, ..narrowing("helper") });
    let (helper, other) = (anyone.bearer(chain.presented()), anyone.bearer(agent.bearer("other").presented()));
    let answer = submit(&helper).await;
    let own = ["burst", "chain:0:calls_per_min", "chain:1:calls_per_min"];
    assert_eq!((answer.status, names(&answer, "ratelimit")), (202, own.to_vec()), "{}", answer.text);
    assert_eq!(names(&answer, "ratelimit-policy"), own);
    let shown = helper.limits().await.expect("an answer");
    let left =
        |name: &str| shown.body["limits"].as_array()?.iter().find(|limit| limit["name"] == name)?["remaining"].as_u64();
    assert_eq!(own.map(left), [Some(4), Some(49), Some(39)], "{}", shown.text);

    // Answers that decide nothing repeat what was told last, each to its own.
    let current = async |client: &Client| client.get("/v1/sessions/current").await.expect("an answer");
    assert_eq!(names(&current(&helper).await, "ratelimit-policy"), own);
    for (client, policy) in [(&ada, &["burst"][..]), (&other, &own)] {
        let answer = current(client).await;
        assert_eq!((names(&answer, "ratelimit"), names(&answer, "ratelimit-policy")), (vec![], policy.to_vec()));
    }
    for _ in 0..4 {
        assert_eq!(submit(&helper).await.status, 202);
    }
    for (client, may_see) in [(&helper, true), (&ada, false), (&helper, true), (&ada, false)] {
        let answer = submit(client).await;
        assert_eq!((answer.status, answer.code()), (429, "burst_limit"), "{}", answer.text);
        let told = names(&answer, "ratelimit");
        assert!(told.contains(&"burst") && (may_see || told == ["burst"]), "{told:?}");
    }
}

#[tokio::test]
async fn a_credential_reaches_as_far_as_it_was_given_and_no_further() {
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid");
    let mut cluster = start(terms.cluster()).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let ada = with_api_key(&anyone, "adaskey1");
    let task_id = accepted(&ada, &Submission::new("demo", json!(1))).await;
    let path = format!("/v1/tasks/{task_id}");
    for scopes in
        [&["tasks:submit:demo"][..], &["tasks:read"], &["tasks:cancel", "tasks:read"], &["quota:read"], &["*"]]
    {
        let chain = mint(&ada, "helper", scopes, json!({ "max_depth": 1 })).await;
        let helper = anyone.bearer(chain.presented());
        let may = |scope: &str| scopes.contains(&scope) || scopes == ["*"];
        let submitted = submit(&helper).await;
        let expected = if may("tasks:submit:demo") { (202, "") } else { (403, "insufficient_scope") };
        assert_eq!((submitted.status, submitted.code()), expected, "{scopes:?}");
        let limits = helper.limits().await.expect("an answer");
        let expected = if may("quota:read") { (200, "") } else { (403, "insufficient_scope") };
        assert_eq!((limits.status, limits.code()), expected, "{scopes:?}");
        // Where an object is named there is none for who may not see it.
        let read = helper.get(&path).await.expect("an answer");
        let expected = if may("tasks:read") { (200, "") } else { (404, "not_found") };
        assert_eq!((read.status, read.code()), expected, "{scopes:?}");
        let other = helper.submit(&Submission::new("slow", json!(1))).await.expect("an answer");
        assert_eq!(other.status, if scopes == ["*"] { 202 } else { 403 }, "{scopes:?}");
        if !may("tasks:cancel") {
            assert_eq!(helper.delete(&path).await.expect("an answer").status, 404, "{scopes:?}");
            assert_eq!(ada.task(&task_id).await.expect("an answer").task_status(), "queued");
        }
    }
}

/// What the issuer `one` said of this subject so many seconds ago.
pub(super) fn token_of(issuer: &Key, subject: &str, groups: &[&str], age_seconds: u64) -> String {
    let (head, now) = (json!({ "alg": "EdDSA", "typ": "JWT", "kid": "one" }), now_seconds() - age_seconds);
    let claims = json!({
        "iss": "https://one.test", "sub": subject, "aud": "portcullis", "iat": now, "exp": now + 600,
        "cognito:groups": groups,
    });
    issuer.sign(&head, &claims)
}

#[tokio::test]
async fn who_has_become_less_is_less_whatever_else_it_delegated_meanwhile() {
    let issuer = Key::generate();
    let keys = KeyServer::start(vec![issuer.published("one")]).await;
    let map = json!({ "user_types": { "paid": "paid" } });
    let terms = Terms::new().issuer("https://one.test", "one:", keys.url(), map);
    let terms = terms.api_key("adaskey1", "one:ada", "registered");
    let mut cluster = start(terms.cluster().gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let key = with_api_key(&here, "adaskey1");
    let as_paid = here.bearer(&token_of(&issuer, "ada", &["paid"], 200));
    let agent = Agent::of(&as_paid, "orchestrator", &SUBMIT, json!({})).await;
    let helper = there.bearer(agent.bearer("helper").presented());
    // By a key that never was worth more.
    mint(&key, "other", &SUBMIT, json!({ "max_depth": 1 })).await;
    assert_eq!(who(&helper).await, "one:ada by delegation as paid");
    assert_eq!(who(&here.bearer(&token_of(&issuer, "ada", &[], 100))).await, "one:ada by jwt as registered");
    until("the agent is less as well", || async {
        (who(&helper).await == "one:ada by delegation as registered").then_some(())
    })
    .await;
    // What a key says of itself is no newer word of the provider's, nor does it make an older one heard again.
    mint(&key, "other", &SUBMIT, json!({ "max_depth": 1 })).await;
    assert_eq!(who(&there.bearer(&token_of(&issuer, "ada", &["paid"], 150))).await, "one:ada by jwt as paid");
    for listener in [&here, &there] {
        assert_eq!(agent.submit(listener).await.header("x-user-type"), Some("registered"));
    }
}

#[tokio::test]
async fn who_has_become_less_is_less_through_its_agents_too() {
    let issuer = Key::generate();
    let keys = KeyServer::start(vec![issuer.published("one")]).await;
    let map = json!({ "user_types": { "paid": "paid" } });
    let terms = Terms::new().issuer("https://one.test", "one:", keys.url(), map);
    let mut cluster = start(terms.cluster().gateways(2)).await;
    cluster.stand_in(100).await.expect("capacity");
    let [here, there] = [cluster.gateway(0), cluster.gateway(1)];
    let token = |subject: &str, groups: &[&str]| token_of(&issuer, subject, groups, 0);
    let paid = here.bearer(&token("ada", &["paid"]));
    let ada = Agent::of(&paid, "orchestrator", &SUBMIT, json!({})).await;
    let bob = Agent::of(&here.bearer(&token("bob", &["paid"])), "orchestrator", &SUBMIT, json!({})).await;
    for listener in [&here, &there] {
        let answer = ada.submit(listener).await;
        assert_eq!((answer.status, answer.header("x-user-type")), (202, Some("paid")), "{}", answer.text);
    }
    let store = cluster.store().await.expect("a store");
    let charged = async |answer: &Answer| record(&store, answer.task_id()).await.envelope.user_type.to_string();
    // Whether the other gateway has been told before it is asked is a matter of luck: not of all of them it has.
    for index in 0..8 {
        let subject = format!("many-{index}");
        let paid = here.bearer(&token(&subject, &["paid"]));
        let helper = there.bearer(mint(&paid, "helper", &SUBMIT, json!({ "max_depth": 1 })).await.presented());
        assert_eq!(charged(&submit(&helper).await).await, "paid");
        assert!(who(&here.bearer(&token(&subject, &[]))).await.ends_with("registered"));
        assert_eq!(charged(&submit(&helper).await).await, "registered", "the very next call");
    }
    assert_eq!(who(&here.bearer(&token("ada", &[]))).await, "one:ada by jwt as registered");
    // The other gateway has seen nothing of it but what stands in Redis, and charges the very next call accordingly.
    for listener in [&there, &here] {
        let answer = ada.submit(listener).await;
        assert_eq!((answer.status, charged(&answer).await.as_str()), (202, "registered"), "{}", answer.text);
    }
    assert_eq!(ada.submit(&there).await.header("x-user-type"), Some("registered"), "and says so from then on");
    let helper = there.bearer(ada.bearer("helper").presented());
    until("it is read everywhere", || async {
        (who(&helper).await == "one:ada by delegation as registered").then_some(())
    })
    .await;
    assert_eq!(bob.submit(&there).await.header("x-user-type"), Some("paid"), "nobody else is less");
    // A token from before says what was before, however often it is shown beside a newer one.
    let number = store.revocations().await.expect("an answer").number;
    let older = token_of(&issuer, "ada", &["paid"], 120);
    for listener in [&here, &there, &here, &there] {
        assert_eq!(who(&listener.bearer(&older)).await, "one:ada by jwt as paid");
        assert_eq!(who(&listener.bearer(&token("ada", &[]))).await, "one:ada by jwt as registered");
        assert_eq!(ada.submit(listener).await.header("x-user-type"), Some("registered"));
    }
    assert_eq!(
        store.revocations().await.expect("an answer").number,
        number,
        "and no gateway has to read anything anew"
    );
    // A delegation never makes more of anybody than it was minted as, whatever its principal becomes.
    let registered = Agent::of(&here.bearer(&token("eve", &[])), "orchestrator", &SUBMIT, json!({})).await;
    assert_eq!(who(&here.bearer(&token("eve", &["paid"]))).await, "one:eve by jwt as paid");
    assert_eq!(registered.submit(&there).await.header("x-user-type"), Some("registered"));
}
