//! `rate_limits.roles`: both windows, for sessions that are in the middle of them.

use serde_json::{Value, json};

use super::{accepted_after, refused, task};
use crate::fixture::{accepted, cluster, start};
use crate::policy::operator::updated;

fn registered(limit: &Value) -> Value {
    json!({ "rate_limits": { "roles": { "registered": limit } } })
}

#[tokio::test]
async fn the_windows_of_a_user_type_change_for_sessions_that_are_in_them() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let admin = cluster.admin(0);
    let [here, there] = [0, 1].map(|index| cluster.gateway(index).caller("registered", "ada"));
    for client in [&here, &there, &here] {
        accepted(client, &task()).await;
    }

    updated(&admin, &registered(&json!({ "burst": 2 }))).await;
    for client in [&there, &here, &there] {
        let refusal = refused(client, &task(), "burst_limit").await;
        assert_eq!(refusal.header("x-policy-revision"), Some("1"));
    }
    let raised = updated(&admin, &registered(&json!({ "burst": 5 }))).await;
    for client in [&there, &here] {
        accepted_after(&raised, client, &task()).await;
    }
    refused(&there, &task(), "burst_limit").await;
    refused(&here, &task(), "burst_limit").await;

    let raised = updated(&admin, &registered(&json!({ "burst": 1000, "hourly": 6 }))).await;
    accepted_after(&raised, &there, &task()).await;
    refused(&here, &task(), "hourly_limit").await;
    refused(&there, &task(), "hourly_limit").await;
    let raised = updated(&admin, &registered(&json!({ "hourly": -1 }))).await;
    accepted_after(&raised, &there, &task()).await;
    accepted_after(&raised, &here, &task()).await;

    let limits = there.limits().await.expect("an answer").body;
    let names: Vec<&str> =
        limits["limits"].as_array().expect("a list").iter().filter_map(|l| l["name"].as_str()).collect();
    assert_eq!(names, ["burst"], "an unlimited hour is no limit: {limits}");
    assert_eq!((&limits["limits"][0]["limit"], &limits["limits"][0]["remaining"]), (&json!(1000), &json!(992)));
}
