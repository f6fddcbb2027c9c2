//! Who may hold places by asking and end them, and what their word is worth.

use portcullis_loadtest::client::{Answer, Client};
use portcullis_loadtest::cluster::Member;
use serde_json::{Value, json};

use super::place::{ask, in_flight, tokens, two_places};
use crate::fixture::{cluster, start};

/// Status, names of the headers, and the body but for the request's id. What is left of limits is said for a while.
fn essence(answer: &Answer) -> (u16, Vec<String>, Value) {
    let mut body = answer.body.clone();
    body["request_id"] = Value::Null;
    let mut names: Vec<String> = answer.headers.keys().map(ToString::to_string).collect();
    names.retain(|name| name != "ratelimit");
    names.sort();
    (answer.status, names, body)
}

async fn end(client: &Client, pass_id: &str, query: &str) -> Answer {
    client.delete(&format!("/v1/decide/{pass_id}{query}")).await.expect("an answer")
}

#[tokio::test]
async fn behind_a_proxy_only_the_named_ones_hold_places_and_to_anybody_else_there_is_none() {
    let builder = two_places().gateways(2).env("TRUSTED_PROXY_COUNT", "1");
    let cluster =
        start(builder.member_env(Member::Gateway(0), "PORTCULLIS_DECIDE_CIDRS", "10.0.0.0/8,127.0.0.1")).await;
    let [named, other] = [0, 1].map(|gateway| cluster.gateway(gateway).caller("paid", "ada"));
    let place = ask(&named, 600).await.expect("a place");
    assert_eq!(ask(&other, 600).await, Err("invalid_request".to_owned()));
    let refused = other.get("/v1/decide?lease_seconds=600").await.expect("an answer");
    assert_eq!((refused.status, &refused.body["errors"][0]["path"]), (400, &json!("lease_seconds")));
    let plain = other.with_header("x-original-uri", "/work").with_header("x-original-method", "POST");
    let plain = plain.get("/v1/decide?profile=nginx").await.expect("an answer");
    assert_eq!((plain.status, plain.header("x-pass-id")), (200, Some("")), "a question without a place is anybody's");

    let (taken, before) = (in_flight(&cluster).await, tokens(&named).await);
    let reporting = other.with_header("x-usage-tokens", "0");
    let unknown = end(&reporting, "01JD7Y5M3T0000000000000000", "").await;
    for query in ["", "?outcome=failed", "?outcome=nonsense"] {
        assert_eq!(essence(&end(&reporting, &place, query).await), essence(&unknown), "{query}");
    }
    assert_eq!((in_flight(&cluster).await, tokens(&named).await), (taken, before), "nothing has changed");
    assert_eq!(end(&named.with_header("x-usage-tokens", "5"), &place, "").await.status, 204);
    assert_eq!((in_flight(&cluster).await, tokens(&named).await), (0, (json!(105), json!(0))));
}

#[tokio::test]
async fn an_end_that_says_nothing_about_the_application_is_neither_its_success_nor_its_failure() {
    let breaker = json!({ "minimum_calls": 2, "failure_rate": 0.6, "window_seconds": 60, "open_seconds": 600,
        "half_open_probes": 1, "slow_call_ms": 60000 });
    let cluster = start(cluster().policy(json!({
        "route_classes": { "work": { "patterns": ["^/work$"], "max_concurrent": 100, "throttled": false } },
        "kinds": { "work": { "circuit_breaker": breaker } },
    })))
    .await;
    let ada = cluster.gateway(0).caller("paid", "ada");
    for query in ["", "", "", "?outcome=abandoned", "?outcome=failed", "?outcome=failed"] {
        let place = ask(&ada, 600).await.expect("a place");
        assert_eq!(end(&ada, &place, query).await.status, 204, "{query}");
    }
    assert_eq!(ask(&ada, 600).await, Err("circuit_open".to_owned()), "both of two that were judged have failed");
}
