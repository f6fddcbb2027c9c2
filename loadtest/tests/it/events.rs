//! The event stream of a task: complete, in order, and resumable anywhere without gap or repeat.

use portcullis_loadtest::Client;
use portcullis_loadtest::client::{Event, Submission};
use serde_json::json;

use crate::fixture::{accepted, cluster, ended, start};

async fn all_events(client: &Client, task_id: &str) -> Vec<Event> {
    let mut reader = client.events(task_id, None).await.expect("a stream");
    reader.until_done().await.expect("events")
}

fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.name.as_str()).collect()
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_elsewhere_without_gap_or_repeat() {
    let cluster = start(cluster().gateways(2).processors(1)).await;
    let [here, there] = [0, 1].map(|index| cluster.gateway(index).caller("paid", "ada"));
    let task_id = accepted(&here, &Submission::new("slow", json!({ "ms": 1500, "output": 12 }))).await;

    // Read piecewise, each piece at the other gateway, resuming after the last event seen.
    let mut seen: Vec<Event> = Vec::new();
    for turn in 0.. {
        let client = if turn % 2 == 0 { &here } else { &there };
        let last = seen.last().map(|event| event.id.clone());
        let mut reader = client.events(&task_id, last.as_deref()).await.expect("a stream");
        for _ in 0..3 {
            match reader.next().await.expect("an event") {
                Some(event) => seen.push(event),
                None => break,
            }
        }
        if seen.last().is_some_and(|event| event.name == "done") {
            break;
        }
    }

    let whole = all_events(&there, &task_id).await;
    assert_eq!(seen, whole, "piecewise and whole differ");
    let expected = [vec!["status", "status"], vec!["output"; 12], vec!["done"]].concat();
    assert_eq!(names(&whole), expected);
    let pieces: Vec<String> = (1..=12).map(|piece| format!("piece {piece} of 12")).collect();
    let told: Vec<&str> =
        whole.iter().filter(|event| event.name == "output").map(|event| event.data.as_str()).collect();
    for (told, piece) in told.iter().zip(&pieces) {
        assert!(told.contains(piece.as_str()), "{told} is not {piece}");
    }
    let mut ids: Vec<&str> = whole.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), whole.len(), "ids repeat");
}

#[tokio::test]
async fn a_finished_task_can_still_be_read_from_any_event_on() {
    let cluster = start(cluster().processors(1)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 10, "output": 4 }))).await;
    ended(&client, &task_id).await;
    let whole = all_events(&client, &task_id).await;
    assert_eq!(whole.last().map(|event| event.name.as_str()), Some("done"));
    for (position, event) in whole.iter().enumerate() {
        if event.name == "done" {
            continue;
        }
        let mut reader = client.events(&task_id, Some(&event.id)).await.expect("a stream");
        let rest = reader.until_done().await.expect("events");
        assert_eq!(rest, whole[position + 1..], "after {}", event.id);
    }
}

#[tokio::test]
async fn a_retried_task_tells_of_both_attempts() {
    let policy = json!({ "queue": { "retry": { "initial_ms": 20, "max_ms": 50 } } });
    let cluster = start(cluster().processors(1).policy(policy)).await;
    let client = cluster.gateway(0).caller("paid", "ada");
    let task_id = accepted(&client, &Submission::new("slow", json!({ "ms": 10, "output": 1, "fail_times": 1 }))).await;
    let live = all_events(&client, &task_id).await;
    let statuses: Vec<String> = live
        .iter()
        .filter(|event| event.name == "status")
        .map(|event| {
            let status: serde_json::Value = serde_json::from_str(&event.data).expect("json");
            status["status"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(statuses, ["queued", "running", "queued", "running"]);
    assert_eq!(names(&live).iter().filter(|name| **name == "output").count(), 2);
    assert_eq!(all_events(&client, &task_id).await, live);
}
