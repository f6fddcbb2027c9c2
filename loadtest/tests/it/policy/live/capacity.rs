//! `service_capacity.concurrent_requests_per_process`: running processors take more or fewer tasks at once.

use portcullis_loadtest::client::Submission;
use serde_json::json;

use super::everywhere;
use crate::fixture::{accepted, cluster, ended, start, until, until_running};

#[tokio::test]
async fn running_processors_take_more_or_fewer_tasks_at_once() {
    let room = json!({ "backpressure": { "queue_depth_multiplier": 100 } });
    let cluster = start(cluster().processors(1).policy(room)).await;
    let (admin, client) = (cluster.admin(0), cluster.gateway(0).caller("privileged", "ada"));
    let (store, policy) = (cluster.store().await.expect("a store"), cluster.compiled_policy());
    let slots = |count: u64| json!({ "service_capacity": { "concurrent_requests_per_process": count } });
    let work = Submission::new("slow", json!({ "ms": 600_000 }));
    let running = async |count: u64| {
        until("as many run", || async {
            (store.queues(&policy).await.expect("an answer").running == count).then_some(())
        })
        .await;
    };
    let believed = async |count: u64| {
        until("as many slots are believed in", || async {
            (store.queues(&policy).await.expect("an answer").slots == count).then_some(())
        })
        .await;
    };

    let mut tasks = Vec::new();
    for _ in 0..7 {
        tasks.push(accepted(&client, &work).await);
    }
    running(5).await;
    everywhere(&admin, &slots(7)).await;
    running(7).await;
    believed(7).await;

    // A processor reads its own slice of the document.
    everywhere(&admin, &json!({ "service_capacity": { "proc": { "concurrent_requests_per_process": 1 } } })).await;
    believed(1).await;
    assert_eq!(store.queues(&policy).await.expect("an answer").running, 7, "nothing that ran was ended");
    for task_id in &tasks[..6] {
        client.cancel(task_id).await.expect("an answer");
        assert_eq!(ended(&client, task_id).await.task_status(), "cancelled");
    }
    let next = [accepted(&client, &work).await, accepted(&client, &work).await];
    client.cancel(&tasks[6]).await.expect("an answer");
    until_running(&client, &next[0]).await;
    let queues = store.queues(&policy).await.expect("an answer");
    assert_eq!((queues.running, queues.queued), (1, 1), "one at a time");
}
