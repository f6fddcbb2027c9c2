//! `backpressure`, `limits` and `service_capacity.avg_processing_time_seconds`: when depth turns callers away.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::EventReader;
use serde_json::{Value, json};

use super::{accepted_after, after, refused, task};
use crate::fixture::{accepted, cluster, start, until};
use crate::policy::operator::updated;

/// Slots of the stand-in: floor(10 × 0.8) + floor(10 × 2) = 28 is the shipped capacity.
const SLOTS: u32 = 10;

fn thresholds(registered: f64, paid: f64, hard: f64) -> Value {
    json!({ "backpressure": {
        "anonymous_pressure_threshold": 0.01,
        "registered_pressure_threshold": registered,
        "paid_pressure_threshold": paid,
        "hard_limit_threshold": hard,
    } })
}

/// The capacity at which a task is accepted after this change.
async fn capacity(change: &Value, client: &Client) -> Value {
    let answer = after(change, client, &task()).await;
    assert!(answer.is_accepted(), "{}", answer.text);
    answer.body["capacity"].clone()
}

#[tokio::test]
async fn bounds_of_depth_move_under_a_queue_that_stays_as_it_is() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(SLOTS).await.expect("capacity");
    let admin = cluster.admin(0);
    let [paid, registered, privileged] =
        ["paid", "registered", "privileged"].map(|user_type| cluster.gateway(1).caller(user_type, "ada"));
    for _ in 0..4 {
        accepted(&paid, &task()).await;
    }

    updated(&admin, &json!({ "limits": { "max_queue_size": 4 } })).await;
    refused(&paid, &task(), "queue_full").await;
    refused(&privileged, &task(), "queue_full").await;
    let unbound = updated(&admin, &json!({ "limits": { "max_queue_size": null } })).await;
    accepted_after(&unbound, &paid, &task()).await;

    // At a depth of 5: floor(28 × 0.1) = 2, floor(28 × 0.2) = 5, floor(28 × 0.3) = 8.
    updated(&admin, &thresholds(0.1, 0.3, 0.5)).await;
    refused(&registered, &task(), "pressure_threshold").await;
    accepted(&paid, &task()).await;
    updated(&admin, &thresholds(0.1, 0.2, 0.5)).await;
    let refusal = refused(&paid, &task(), "pressure_threshold").await;
    // Nothing has been measured yet, so the wait follows from what the policy assumes: ten times as much of it.
    let slow = json!({ "service_capacity": { "avg_processing_time_seconds": 250 } });
    let slow = updated(&admin, &slow).await;
    let slower = after(&slow, &paid, &task()).await;
    let [quick_seconds, slow_seconds] =
        [&refusal, &slower].map(|answer| answer.body["retry_after"].as_f64().expect("a number"));
    assert!(slow_seconds > 8.0 * quick_seconds, "{quick_seconds} s, then {slow_seconds} s");

    accepted_after(&slow, &privileged, &task()).await;
    updated(&admin, &thresholds(0.1, 0.2, 0.25)).await;
    refused(&privileged, &task(), "hard_limit").await;
    for (backpressure, expected) in
        [(Value::Null, 28), (json!({ "queue_depth_multiplier": 10 }), 108), (json!({ "capacity_buffer": 0.5 }), 105)]
    {
        let change = updated(&admin, &json!({ "backpressure": backpressure })).await;
        assert_eq!(capacity(&change, &registered).await, json!(expected));
    }
}

async fn stream(client: &Client, task_id: &str) -> Option<EventReader> {
    match client.events(task_id, None).await {
        Ok(reader) => Some(reader),
        Err(error) => {
            assert!(error.to_string().contains("stream_limit"), "{error}");
            None
        }
    }
}

#[tokio::test]
async fn the_number_of_event_streams_is_bounded_anew_on_every_gateway() {
    let mut cluster = start(cluster().gateways(2)).await;
    cluster.stand_in(SLOTS).await.expect("capacity");
    let admin = cluster.admin(0);
    let task_id = accepted(&cluster.gateway(0).caller("paid", "ada"), &task()).await;
    let most = |count: u64| json!({ "limits": { "max_sse_connections_per_instance": count } });
    let clients = [0, 1].map(|index| cluster.gateway(index).caller("paid", "ada"));
    let mut open = Vec::new();
    for client in &clients {
        for _ in 0..2 {
            open.push(stream(client, &task_id).await.expect("there is room"));
        }
    }
    updated(&admin, &most(2)).await;
    for client in &clients {
        // No decision of the script is made here: the other gateway hears of it by message.
        until("no further stream is served", || async {
            let reader = stream(client, &task_id).await;
            reader.is_none().then_some(())
        })
        .await;
    }
    updated(&admin, &most(3)).await;
    for client in &clients {
        open.push(until("a further stream is served", || stream(client, &task_id)).await);
        assert!(stream(client, &task_id).await.is_none(), "a fourth");
    }
    for reader in &mut open {
        assert!(reader.next().await.expect("it goes on").is_some(), "streams that were open stay open");
    }
}
