//! Decisions with a place among the passes in flight, ended by whoever asked for it, or by nobody.

use portcullis_loadtest::client::Client;
use portcullis_loadtest::cluster::Builder;
use serde_json::{Value, json};

use crate::fixture::{Fixture, cluster, start, until};

/// Gateways with two places for a paid caller, each of which is expected to use 100 tokens of 1000.
pub(super) fn two_places() -> Builder {
    let budgets = json!({ "daily": { "per": "principal", "unit": "tokens", "amount": 1000, "period": "day",
        "default_estimate": 1 } });
    let class =
        json!({ "patterns": ["^/work$"], "max_concurrent": 3, "throttled": false, "estimate": { "tokens": 100 } });
    cluster().policy(json!({ "route_classes": { "work": class }, "budgets": budgets }))
}

/// The id of a place, or why there is none.
pub(super) async fn ask(client: &Client, seconds: u64) -> Result<String, String> {
    let client = client.with_header("x-original-uri", "/work").with_header("x-original-method", "POST");
    let answer = client.get(&format!("/v1/decide?profile=nginx&lease_seconds={seconds}")).await.expect("an answer");
    match answer.status {
        200 => Ok(answer.header("x-pass-id").expect("an id").to_owned()),
        _ => Err(answer.header("x-admit-code").unwrap_or_default().to_owned()),
    }
}

/// Passes of the class that are in flight.
pub(super) async fn in_flight(cluster: &Fixture) -> u64 {
    let store = cluster.store().await.expect("a store");
    let view = store.queues(&cluster.compiled_policy()).await.expect("an answer");
    view.pools.get("work").map_or(0, |pool| pool.in_flight)
}

/// Spent and held of the caller's budget.
pub(super) async fn tokens(client: &Client) -> (Value, Value) {
    let limits = client.get("/v1/limits?kind=work").await.expect("limits");
    let budget = &limits.body["budgets"][0];
    (budget["spent"].clone(), budget["held"].clone())
}

#[tokio::test]
async fn a_place_lasts_until_its_caller_ends_it() {
    let cluster = start(two_places()).await;
    let ada = cluster.gateway(0).caller("paid", "ada");
    let (first, second) = (ask(&ada, 600).await.expect("a place"), ask(&ada, 600).await.expect("a place"));
    assert_eq!(ask(&ada, 600).await, Err("hard_limit".to_owned()));
    assert_eq!((in_flight(&cluster).await, tokens(&ada).await), (2, (json!(0), json!(200))));

    let path = |id: &str| format!("/v1/decide/{id}");
    let end = async |client: &Client, id: &str| client.delete(&path(id)).await.expect("an answer");
    let foreign = end(&cluster.gateway(0).caller("paid", "bob"), &first).await;
    let unknown = end(&ada, "01JD7Y5M3T0000000000000000").await;
    assert_eq!((foreign.status, unknown.status), (404, 404));
    assert_eq!(foreign.body["detail"], unknown.body["detail"], "they cannot be told apart");
    assert_eq!(in_flight(&cluster).await, 2);

    assert_eq!(end(&ada.with_header("x-usage-tokens", "37"), &first).await.status, 204);
    assert_eq!(end(&ada.with_header("x-usage-tokens", "500"), &first).await.status, 404, "it has ended");
    assert_eq!((in_flight(&cluster).await, tokens(&ada).await), (1, (json!(37), json!(100))));
    assert_eq!(end(&ada, &second).await.status, 204);
    assert_eq!((in_flight(&cluster).await, tokens(&ada).await), (0, (json!(137), json!(0))), "the estimate counts");
    ask(&ada, 600).await.expect("room again");
}

#[tokio::test]
async fn a_place_that_nobody_ends_lapses_with_what_it_held() {
    let mut cluster = start(two_places()).await;
    let ada = cluster.gateway(0).caller("paid", "ada");
    let lapsing = ask(&ada, 1).await.expect("a place");
    let lasting = ask(&ada, 600).await.expect("a place");
    until("the place is free", || async { (in_flight(&cluster).await == 1).then_some(()) }).await;
    assert_eq!(ada.delete(&format!("/v1/decide/{lapsing}")).await.expect("an answer").status, 404);
    until("what it held is released", || async { (tokens(&ada).await == (json!(0), json!(100))).then_some(()) }).await;
    // A place that was handed over is nobody's of the gateway: it outlives it.
    cluster.gateways()[0].kill().await.expect("killed");
    let again = cluster.add_gateway().await.expect("another gateway").caller("paid", "ada");
    assert_eq!(in_flight(&cluster).await, 1);
    assert_eq!(again.delete(&format!("/v1/decide/{lasting}")).await.expect("an answer").status, 204);
}

#[tokio::test]
async fn a_decision_without_a_place_spends_the_estimate_and_holds_nothing() {
    let cluster = start(two_places()).await;
    let ada = cluster.gateway(0).caller("paid", "ada").with_header("x-original-uri", "/work");
    for spent in [100, 200, 300] {
        let answer = ada.get("/v1/decide").await.expect("an answer");
        assert_eq!((answer.status, answer.header("x-pass-id")), (200, Some("")), "{}", answer.text);
        assert_eq!((in_flight(&cluster).await, tokens(&ada).await), (0, (json!(spent), json!(0))));
    }
}
