//! `rate_limits.named` and `kinds.*.cost`: whom a limit counts, what it counts, and that it comes and goes at run time.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::Submission;
use serde_json::{Value, json};

use super::{accepted_after, refused, task};
use crate::fixture::{Fixture, accepted, cluster, start};
use crate::policy::operator::updated;

/// Somebody somewhere.
type Caller = (&'static str, &'static str, &'static str);

const ADA: Caller = ("paid", "ada", "203.0.113.1");
const ADA_ELSEWHERE: Caller = ("paid", "ada", "203.0.113.2");
const ADA_AS_ANOTHER_TYPE: Caller = ("registered", "ada", "203.0.113.2");
const BOB: Caller = ("paid", "bob", "203.0.113.2");
const BOB_NEXT_TO_ADA: Caller = ("registered", "bob", "203.0.113.1");
const EVE: Caller = ("registered", "eve", "203.0.113.3");

/// Whom a limit counts, two who share its window, and whether the third has one of her own.
const SUBJECTS: [(&str, [Caller; 2], Option<Caller>); 5] = [
    ("principal", [ADA, ADA_AS_ANOTHER_TYPE], Some(BOB)),
    ("session", [ADA, ADA_ELSEWHERE], Some(ADA_AS_ANOTHER_TYPE)),
    ("client_address", [ADA, BOB_NEXT_TO_ADA], Some(ADA_ELSEWHERE)),
    ("user_type", [ADA, BOB], Some(EVE)),
    ("tenant", [ADA, EVE], None),
];

async fn behind_a_proxy() -> Fixture {
    let mut cluster = start(cluster().gateways(2).env("TRUSTED_PROXY_COUNT", "1")).await;
    cluster.stand_in(10_000).await.expect("capacity");
    cluster
}

fn at(cluster: &Fixture, index: usize, (user_type, name, address): Caller) -> Client {
    cluster.gateway(index).caller(user_type, name).with_header("x-forwarded-for", address)
}

fn named(name: &str, limit: &Value) -> Value {
    json!({ "rate_limits": { "named": { name: limit } } })
}

#[tokio::test]
async fn a_named_limit_counts_its_subjects_from_the_next_request_on() {
    let cluster = behind_a_proxy().await;
    let admin = cluster.admin(0);
    for (per, [one, other], apart) in SUBJECTS {
        let name = format!("per_{per}");
        let limit = json!({ "per": per, "unit": "requests", "limit": 2, "window_seconds": 3600 });
        updated(&admin, &named(&name, &limit)).await;
        accepted(&at(&cluster, 1, one), &task()).await;
        accepted(&at(&cluster, 0, other), &task()).await;
        for (index, caller) in [(0, one), (1, other)] {
            let refusal = refused(&at(&cluster, index, caller), &task(), "rate_limit").await;
            assert_eq!((refusal.status, refusal.step()), (429, "rate_limit"));
            assert_eq!(refusal.body["limit"], json!(name), "{}", refusal.text);
            assert!(refusal.retry_after().is_some());
        }
        if let Some(apart) = apart {
            accepted(&at(&cluster, 1, apart), &task()).await;
        }
        let left = at(&cluster, 1, other).limits().await.expect("an answer").body;
        let left =
            left["limits"].as_array().expect("a list").iter().find(|limit| limit["name"] == json!(name)).cloned();
        assert_eq!(left.expect("it is shown")["remaining"], json!(0));

        let raised = updated(&admin, &named(&name, &json!({ "limit": 3 }))).await;
        accepted_after(&raised, &at(&cluster, 1, one), &task()).await;
        refused(&at(&cluster, 1, one), &task(), "rate_limit").await;
        let removed = updated(&admin, &named(&name, &Value::Null)).await;
        for (index, caller) in [(0, one), (1, other)] {
            accepted_after(&removed, &at(&cluster, index, caller), &task()).await;
        }
    }
    // Nobody here is an agent's caller, so a limit of agents limits nobody.
    let limit = json!({ "per": "agent", "unit": "requests", "limit": 1, "window_seconds": 3600 });
    updated(&admin, &named("per_agent", &limit)).await;
    for index in 0..3 {
        accepted(&at(&cluster, index, ADA), &task()).await;
    }
}

#[tokio::test]
async fn a_limit_of_tokens_counts_estimates_and_a_limit_of_requests_counts_what_the_kind_costs() {
    let cluster = behind_a_proxy().await;
    let admin = cluster.admin(0);
    let [here, there] = [0, 1].map(|index| at(&cluster, index, ADA));
    let worth = |tokens: u64| task().field("estimate", json!({ "tokens": tokens }));
    let per_minute = json!({
        "per": "principal", "unit": "tokens", "limit": 100, "window_seconds": 3600, "default_estimate": 30,
    });
    updated(&admin, &named("tokens", &per_minute)).await;
    accepted(&there, &worth(60)).await;
    assert_eq!(refused(&here, &worth(60), "rate_limit").await.body["limit"], json!("tokens"));
    // Who asks for less than was refused is not refused from memory; without an estimate it is thirty.
    accepted(&here, &task()).await;
    refused(&here, &task(), "rate_limit").await;
    accepted(&here, &worth(10)).await;
    refused(&here, &worth(1), "rate_limit").await;
    accepted(&at(&cluster, 0, BOB), &worth(100)).await;
    updated(&admin, &named("tokens", &Value::Null)).await;

    let heavy = Submission::new("heavy", Value::Null);
    let requests = json!({
        "per": "principal", "unit": "requests", "limit": 7, "window_seconds": 3600, "user_types": ["paid"],
        "kinds": ["heavy", "demo"],
    });
    updated(&admin, &json!({ "kinds": { "heavy": { "cost": 3 } }, "rate_limits": { "named": { "work": requests } } }))
        .await;
    accepted(&there, &heavy).await;
    accepted(&here, &heavy).await;
    assert_eq!(refused(&there, &heavy, "rate_limit").await.body["limit"], json!("work"));
    accepted(&there, &task()).await;
    refused(&there, &task(), "rate_limit").await;
    accepted(&there, &Submission::new("other", Value::Null)).await;
    accepted(&at(&cluster, 1, ADA_AS_ANOTHER_TYPE), &heavy).await;
    let cheaper =
        json!({ "kinds": { "heavy": { "cost": 1 } }, "rate_limits": { "named": { "work": { "limit": 8 } } } });
    let cheaper = updated(&admin, &cheaper).await;
    accepted_after(&cheaper, &there, &heavy).await;
    refused(&here, &heavy, "rate_limit").await;
}

#[tokio::test]
async fn a_limit_of_some_kinds_counts_and_shows_for_those_only() {
    let cluster = behind_a_proxy().await;
    let limit =
        json!({ "per": "principal", "unit": "requests", "limit": 1, "window_seconds": 3600, "kinds": ["slow"] });
    updated(&cluster.admin(0), &named("slow_ones", &limit)).await;
    let ada = at(&cluster, 1, ADA);
    let slow = Submission::new("slow", json!({ "ms": 0 }));
    accepted(&ada, &slow).await;
    assert_eq!(refused(&ada, &slow, "rate_limit").await.body["limit"], "slow_ones");
    accepted(&ada, &task()).await;
    for (path, shown) in [("/v1/limits", false), ("/v1/limits?kind=demo", false), ("/v1/limits?kind=slow", true)] {
        let answer = ada.get(path).await.expect("an answer");
        assert_eq!((answer.status, answer.text.contains("slow_ones")), (200, shown), "{path} {}", answer.text);
    }
    let refusal = ada.get("/v1/limits?kind=No%20Kind").await.expect("an answer");
    assert_eq!((refusal.status, &refusal.body["errors"][0]["path"]), (400, &json!("kind")), "{}", refusal.text);
}
