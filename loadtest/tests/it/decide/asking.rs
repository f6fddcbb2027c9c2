//! nginx and Caddy, which ask a gateway about every request and pass what may go on to the application.

use portcullis_loadtest::client::Client;
use serde_json::json;

use super::application::Application;
use super::front::Front;
use super::{asked, client_of};
use crate::fixture::{Fixture, start, until};

/// What a client can write that would count for something if it were believed.
const SPOOFED: [(&str, &str); 20] = [
    ("x_user_type", "privileged"),
    ("x-user-type", "privileged"),
    ("x-session-id", "mine"),
    ("x-principal", "root"),
    ("x-tenant", "other"),
    ("x-project", "other"),
    ("x-actor", "root"),
    ("x-original-uri", "/free"),
    ("x-original-method", "GET"),
    ("x-forwarded-uri", "/free"),
    ("x-forwarded-method", "GET"),
    ("x-forwarded-for", "203.0.113.9"),
    ("x-pass-id", "01JD7Y5M3T0000000000000000"),
    ("x-route-class", "bypass"),
    ("x-internal-token", "0123456789abcdef0123456789abcdef"),
    ("x-original-url", "/free"),
    ("x-rewrite-url", "/free"),
    ("x-http-method-override", "GET"),
    ("x-http-method", "GET"),
    ("x-method-override", "GET"),
];

/// What an application must never see of it: it would take it for Portcullis's word, or for another request than the
/// one that was asked about.
const KEPT_FROM_APPLICATIONS: [&str; 9] = [
    "x_user_type",
    "x-pass-id",
    "x-route-class",
    "x-internal-token",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

fn spoofing(client: &Client) -> Client {
    SPOOFED.iter().fold(client.clone(), |client, (name, value)| client.with_header(name, value))
}

#[tokio::test]
async fn nginx_asks_about_every_request() {
    let (cluster, application) = (start(asked()).await, Application::start().await);
    let front = Front::nginx(cluster.public_address(0), application.address()).await;
    obeys(&front, cluster, &application).await;
}

#[tokio::test]
async fn caddy_asks_about_every_request() {
    let (cluster, application) = (start(asked()).await, Application::start().await);
    let front = Front::caddy(cluster.public_address(0), application.address()).await;
    obeys(&front, cluster, &application).await;
}

/// What holds of a proxy that asks, from the first request until its gateway is gone.
async fn obeys(front: &Front, mut cluster: Fixture, application: &Application) {
    let client = client_of(front);
    lets_through_what_may_go_on(&client, application).await;
    refuses_what_may_not(&client, application).await;
    leaves_the_applications_answers_alone(&client).await;
    believes_no_address_that_a_client_wrote(&client, application).await;
    let before = application.count();
    cluster.gateways()[0].kill().await.expect("killed");
    for path in ["/free", "/work/1", "/guarded/1"] {
        let answer = client.get(path).await.expect("an answer");
        assert!(matches!(answer.status, 502 | 503), "{path}: {} {}", answer.status, front.words());
        assert!(answer.retry_after().is_some(), "{path}: {:?}", answer.headers);
    }
    assert_eq!(application.count(), before, "without a gateway nothing goes on");
}

async fn lets_through_what_may_go_on(client: &Client, application: &Application) {
    let ada = spoofing(&client.caller("paid", "ada"));
    for left in [2, 1, 0] {
        let answer = ada.post("/work/1?x=%2F", &json!({ "left": left })).await.expect("an answer");
        assert_eq!((answer.status, answer.text.as_str()), (200, "the application"));
        let seen = application.latest();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/work/1?x=%2F"));
        assert_eq!(seen.body, json!({ "left": left }).to_string());
        assert_eq!((seen.header("x-user-type"), seen.header("x-principal")), ("paid", "dev:ada"));
        assert!(seen.header("x-session-id").starts_with("dev-") && seen.header("x-tenant").starts_with("loadtest-"));
        assert_eq!((seen.header("x-project"), seen.header("x-actor")), ("cluster", ""));
        assert_eq!(seen.header("authorization"), "", "the credential was for the gateway");
        assert_eq!(seen.headers.get_all("x-user-type").iter().count(), 1);
        for name in KEPT_FROM_APPLICATIONS {
            assert!(!seen.headers.contains_key(name), "{name}");
        }
    }
}

async fn refuses_what_may_not(client: &Client, application: &Application) {
    let before = application.count();
    for ada in [client.caller("paid", "ada"), spoofing(&client.caller("paid", "ada"))] {
        let refused = ada.post("/work/1", &json!(1)).await.expect("an answer");
        assert_eq!((refused.status, refused.code()), (429, "burst_limit"), "{}", refused.text);
        let seconds = refused.retry_after().expect("Retry-After").as_secs();
        assert!((3000..=3700).contains(&seconds), "the window's own wait: {seconds}");
        assert!(refused.header("ratelimit").is_some_and(|limits| limits.contains("\"burst\";r=0")));
        assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    }
    let overloaded = client.caller("paid", "bob").get("/guarded/1").await.expect("an answer");
    assert_eq!((overloaded.status, overloaded.code()), (503, "no_live_processors"), "{}", overloaded.text);
    assert!(overloaded.retry_after().is_some());
    for path in ["/free", "/work/1"] {
        let stranger = client.bearer("nonsense").get(path).await.expect("an answer");
        assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("Bearer error=\"invalid_token\"")), "{path}");
    }
    assert_eq!(application.count(), before, "what was refused never reaches the application");
}

async fn leaves_the_applications_answers_alone(client: &Client) {
    let ada = client.caller("paid", "ada");
    for status in [200, 401, 403, 404, 429, 500, 503] {
        let answer = ada.get(&format!("/free/{status}")).await.expect("an answer");
        assert_eq!((answer.status, answer.text.as_str()), (status, "the application"));
    }
    let other_method = ada.get("/work/1").await.expect("an answer");
    assert_eq!(other_method.status, 200, "the class is for POST, and GET is what was asked about");
}

async fn believes_no_address_that_a_client_wrote(client: &Client, application: &Application) {
    let mut sessions = Vec::new();
    for spoofed in ["203.0.113.1", "203.0.113.2, 203.0.113.3", "junk"] {
        let answer = client.with_header("x-forwarded-for", spoofed).get("/free").await.expect("an answer");
        assert_eq!(answer.status, 200);
        let seen = application.latest();
        assert_eq!(seen.header("x-user-type"), "anonymous");
        sessions.push(seen.header("x-session-id").to_owned());
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 1, "one address, one session: {sessions:?}");
    assert!(sessions[0].starts_with("anon-"));
}

#[tokio::test]
async fn what_nginx_asks_is_no_business_of_a_client() {
    let (cluster, application) = (start(asked()).await, Application::start().await);
    let front = Front::nginx(cluster.public_address(0), application.address()).await;
    let answer = client_of(&front).get("/_portcullis").await.expect("an answer");
    assert_eq!((answer.status, application.count()), (404, 0));
}

#[tokio::test]
async fn nginx_is_told_when_redis_is_gone_and_when_it_is_back() {
    let mut cluster = start(asked().env("PORTCULLIS_STORE_TIMEOUT_MS", "500")).await;
    let application = Application::start().await;
    let front = Front::nginx(cluster.public_address(0), application.address()).await;
    let client = client_of(&front).caller("privileged", "ada");
    cluster.redis().expect("a server").pause().expect("frozen");
    let refused = client.post("/work/1", &json!(1)).await.expect("an answer");
    assert_eq!((refused.status, refused.code()), (503, "store_unavailable"), "{}", refused.text);
    assert!(refused.retry_after().is_some());
    assert_eq!(application.count(), 0);
    cluster.redis().expect("a server").resume().expect("thawed");
    until("decisions are made again", || async {
        (client.post("/work/1", &json!(1)).await.ok()?.status == 200).then_some(())
    })
    .await;
}
