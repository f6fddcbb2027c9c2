//! `user_types`: a type that did not exist a moment ago, and shares of the queue that turn around.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use super::{everywhere, refused, task};
use crate::fixture::{accepted, cluster, ended, record, start, until_running};
use crate::policy::operator::updated;

#[tokio::test]
async fn a_user_type_comes_and_goes_while_everything_runs() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(1000).await.expect("capacity");
    let admin = cluster.admin(0);
    let [here, there] = [0, 1].map(|index| cluster.gateway(index).caller("gold", "midas"));
    refused(&there, &task(), "unauthenticated").await;

    let gold = json!({ "falls_back_to": "paid", "weight": 6, "pressure_threshold": 0.92 });
    updated(&admin, &json!({ "user_types": { "gold": gold } })).await;
    let answer = there.submit(&task()).await.expect("an answer");
    assert!(answer.is_accepted(), "{}", answer.text);
    assert_eq!(answer.header("x-user-type"), Some("gold"));
    let limits = there.limits().await.expect("an answer").body;
    assert_eq!(limits["limits"][0]["limit"], json!(150), "the burst of paid: {limits}");

    updated(
        &admin,
        &json!({ "rate_limits": { "roles": { "gold": { "hourly": 2, "burst": 2, "burst_window": 60 } } } }),
    )
    .await;
    accepted(&there, &task()).await;
    refused(&here, &task(), "burst_limit").await;

    updated(&admin, &json!({ "rate_limits": { "roles": { "gold": null } }, "user_types": { "gold": null } })).await;
    for client in [&there, &here] {
        refused(client, &task(), "unauthenticated").await;
    }
}

#[tokio::test]
async fn weights_change_whose_turn_it_is() {
    // So much work of each type that the lighter one cannot come first by chance.
    const EACH: usize = 12;
    let room = json!({ "backpressure": { "queue_depth_multiplier": 1000 } });
    let cluster = start(cluster().processors(1).slots(1).policy(room)).await;
    let (admin, store) = (cluster.admin(0), cluster.store().await.expect("a store"));
    let caller = |user_type: &str| cluster.gateway(0).caller(user_type, "ada");
    let (types, operator) = (["registered", "paid"], caller("privileged"));
    for (favoured, other) in [("registered", "paid"), ("paid", "registered")] {
        let block = accepted(&operator, &Submission::new("slow", json!({ "ms": 600_000 }))).await;
        until_running(&operator, &block).await;
        let weights = json!({ favoured: { "weight": 1000 }, other: { "weight": 1 } });
        updated(&admin, &json!({ "user_types": weights })).await;
        let mut tasks = Vec::new();
        for number in 0..2 * EACH {
            let user_type = types[number % 2];
            let id = accepted(&caller(user_type), &Submission::new("slow", json!({ "ms": 3 }))).await;
            tasks.push((user_type, id));
        }
        operator.cancel(&block).await.expect("an answer");
        let mut starts = Vec::new();
        for (user_type, id) in tasks {
            ended(&caller(user_type), &id).await;
            starts.push((record(&store, &id).await.attempts[0].started_ms, user_type));
        }
        starts.sort_unstable();
        let first = starts.iter().take(EACH).filter(|(_, user_type)| *user_type == favoured).count();
        // The other begins with the turns that it is owed from when it was the favoured one.
        assert!(first >= EACH - 2, "{favoured} had {first} of the first {EACH} turns: {starts:?}");
    }
}

#[tokio::test]
async fn tasks_of_a_new_type_are_run_by_processors_that_were_there_before_it() {
    let cluster = start(cluster().processors(1)).await;
    let admin = cluster.admin(0);
    let patch = json!({ "user_types": { "gold": { "falls_back_to": "privileged", "weight": 3 } } });
    everywhere(&admin, &patch).await;
    let midas = cluster.gateway(0).caller("gold", "midas");
    let task_id = accepted(&midas, &task()).await;
    let end = ended(&midas, &task_id).await;
    assert_eq!((end.task_status(), &end.body["result"]), ("succeeded", &json!(1)), "{}", end.text);
}
