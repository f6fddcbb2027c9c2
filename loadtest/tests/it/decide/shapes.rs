//! Traefik and Envoy by the requests that they are documented to send, made of their shipped configurations.

use portcullis_loadtest::client::Client;
use serde_json::Value;

use super::asked;
use super::front::shipped;
use crate::fixture::{Fixture, start};

pub(super) fn yaml(config: &str) -> Value {
    serde_yaml_ng::from_str(&shipped(config)).unwrap_or_else(|error| panic!("{config}: {error}"))
}

/// Every value under this key, at any depth.
pub(super) fn all<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    let below: Vec<&Value> = match value {
        Value::Object(members) => members.values().collect(),
        Value::Array(elements) => elements.iter().collect(),
        _ => Vec::new(),
    };
    let here = value.get(key).into_iter();
    here.chain(below.into_iter().flat_map(|value| all(value, key))).collect()
}

pub(super) fn the<'a>(value: &'a Value, key: &str) -> &'a Value {
    let found = all(value, key);
    assert_eq!(found.len(), 1, "{key} is given once");
    found[0]
}

/// The names in a list of Envoy's matchers.
pub(super) fn patterns(value: &Value) -> Vec<String> {
    let names = value["patterns"].as_array().expect("patterns").iter();
    names.map(|pattern| pattern["exact"].as_str().or(pattern["prefix"].as_str()).expect("a name").to_owned()).collect()
}

/// A caller at the gateway as it is reached through a proxy.
fn caller(cluster: &Fixture, user_type: &str, principal: &str) -> Client {
    cluster.gateway(0).caller(user_type, principal).with_header("x-forwarded-for", "203.0.113.7")
}

#[tokio::test]
async fn traefik_hands_the_answer_on() {
    let cluster = start(asked()).await;
    let forward_auth = the(&yaml("traefik-dynamic.yml"), "forwardAuth").clone();
    assert_eq!(forward_auth["trustForwardHeader"], false);
    let address = forward_auth["address"].as_str().expect("an address");
    let path = address.strip_prefix("http://127.0.0.1:8080").expect("the gateway");
    // It always asks with GET, and says the request in fields of its own.
    let ask = async |client: &Client, method: &str, uri: &str| {
        let client = client.with_header("x-forwarded-method", method).with_header("x-forwarded-uri", uri);
        let client = client.with_header("x-forwarded-proto", "https").with_header("x-forwarded-host", "shop.example");
        client.get(path).await.expect("an answer")
    };
    let ada = caller(&cluster, "paid", "ada");
    for _ in 0..3 {
        let answer = ask(&ada, "POST", "/work/1?a=b").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for name in forward_auth["authResponseHeaders"].as_array().expect("names") {
            let name = name.as_str().expect("a name");
            assert!(answer.headers.contains_key(name), "{name} is said, if only to be empty");
        }
    }
    let refused = ask(&ada, "POST", "/work/1?a=b").await;
    assert_eq!((refused.status, refused.code()), (429, "burst_limit"));
    assert!(refused.retry_after().is_some());
    assert_eq!(ask(&ada, "GET", "/work/1").await.status, 200, "the method counts");
    assert_eq!(ask(&caller(&cluster, "paid", "bob"), "GET", "/guarded/1").await.status, 503);
    assert_eq!(ask(&cluster.gateway(0).bearer("nonsense"), "GET", "/free").await.status, 401);
}

#[tokio::test]
async fn envoy_takes_exactly_200_and_never_hears_of_a_failure() {
    let mut cluster = start(asked().env("PORTCULLIS_STORE_TIMEOUT_MS", "500")).await;
    let config = yaml("envoy-ext-authz.yaml");
    assert_eq!(the(&config, "failure_mode_allow"), false);
    let prefix = the(&config, "path_prefix").as_str().expect("a prefix").to_owned();
    let path = |path: &str| format!("{prefix}{path}");
    // The original method and path; no body.
    let ada = caller(&cluster, "paid", "ada");
    let post = async |client: &Client, target: &str| client.post(&path(target), &Value::Null).await.expect("an answer");
    for _ in 0..3 {
        let answer = post(&ada, "/work/1?profile=plain&lease_seconds=0").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        for name in patterns(the(&config, "allowed_upstream_headers")) {
            assert!(answer.headers.contains_key(&name), "{name} is said, if only to be empty");
        }
    }
    let refused = post(&ada, "/work/1").await;
    assert_eq!((refused.status, refused.code()), (429, "burst_limit"));
    let told = patterns(the(&config, "allowed_client_headers"));
    assert!(told.contains(&"retry-after".to_owned()) && refused.retry_after().is_some());
    assert_eq!(ada.get(&path("/work/1")).await.expect("an answer").status, 200, "the method counts");
    assert_eq!(ada.get(&path("/free")).await.expect("an answer").status, 200);

    let bob = caller(&cluster, "paid", "bob");
    let overloaded = bob.get(&path("/guarded/1")).await.expect("an answer");
    let real = (overloaded.header("x-admit-status"), overloaded.header("x-admit-code"), overloaded.code());
    assert_eq!(real, (Some("503"), Some("no_live_processors"), "no_live_processors"));
    assert_eq!(overloaded.status, 429);
    assert!(overloaded.retry_after().is_some());
    let stranger = cluster.gateway(0).bearer("nonsense").get(&path("/free")).await.expect("an answer");
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("Bearer error=\"invalid_token\"")));

    cluster.redis().expect("a server").pause().expect("frozen");
    for _ in 0..3 {
        let undecided = post(&bob, "/work/1").await;
        assert_eq!((undecided.status, undecided.code()), (429, "store_unavailable"));
        assert_eq!(undecided.header("x-admit-status"), Some("503"));
    }
    cluster.redis().expect("a server").resume().expect("thawed");
}

#[tokio::test]
async fn without_a_word_about_the_request_it_is_a_guarded_one() {
    let cluster = start(asked()).await;
    for path in ["/v1/decide", "/v1/decide?profile=plain", "/v1/decide?profile=traefik", "/v1/decide?profile=caddy"] {
        let answer = caller(&cluster, "privileged", "ada").get(path).await.expect("an answer");
        assert_eq!((answer.status, answer.code()), (503, "no_live_processors"), "{path}");
    }
}
