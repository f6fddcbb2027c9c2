//! `budgets`: added, changed and removed at run time.

use portcullis_loadtest::Client;
use serde_json::{Value, json};

use super::{accepted_after, refused, task};
use crate::fixture::{accepted, cluster, start};
use crate::policy::operator::updated;

fn tokens(budget: &Value) -> Value {
    json!({ "budgets": { "tokens": budget } })
}

async fn shown(client: &Client) -> Vec<Value> {
    let body = client.limits().await.expect("an answer").body;
    body["budgets"].as_array().unwrap_or_else(|| panic!("no budgets: {body}")).clone()
}

#[tokio::test]
async fn a_budget_holds_from_its_revision_on_and_follows_its_amount() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let admin = cluster.admin(0);
    let [here, there] = [0, 1].map(|index| cluster.gateway(index).caller("paid", "ada"));
    let worth = |tokens: u64| task().field("estimate", json!({ "tokens": tokens }));
    accepted(&here, &worth(1000)).await;
    assert_eq!(shown(&there).await, Vec::<Value>::new());

    let budget = json!({
        "unit": "tokens", "amount": 100, "period": "month", "per": "principal", "default_estimate": 25,
    });
    updated(&admin, &tokens(&budget)).await;
    accepted(&there, &worth(60)).await;
    let refusal = refused(&here, &worth(60), "budget_exhausted").await;
    assert_eq!((refusal.status, refusal.step()), (429, "economics"));
    assert_eq!(refusal.body["budget"], json!("tokens"), "{}", refusal.text);
    accepted(&here, &task()).await;
    refused(&there, &task(), "budget_exhausted").await;

    let raised = updated(&admin, &tokens(&json!({ "amount": 145, "default_estimate": 10 }))).await;
    accepted_after(&raised, &there, &worth(50)).await;
    accepted(&here, &task()).await;
    refused(&there, &worth(1), "budget_exhausted").await;
    let view = shown(&there).await.remove(0);
    assert_eq!((&view["amount"], &view["held"], &view["remaining"]), (&json!(145), &json!(145), &json!(0)), "{view}");

    updated(&admin, &tokens(&json!({ "amount": 50 }))).await;
    refused(&there, &worth(1), "budget_exhausted").await;
    let narrowed = updated(&admin, &tokens(&json!({ "user_types": ["registered"] }))).await;
    accepted_after(&narrowed, &there, &worth(1000)).await;
    refused(&cluster.gateway(1).caller("registered", "bob"), &worth(51), "budget_exhausted").await;
    let removed = updated(&admin, &tokens(&Value::Null)).await;
    accepted_after(&removed, &cluster.gateway(1).caller("registered", "bob"), &worth(51)).await;
    assert_eq!(shown(&there).await, Vec::<Value>::new());
}
