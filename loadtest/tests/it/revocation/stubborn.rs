//! Revoked tasks whose end cannot be recorded: they wait for it, and nobody else does.
//!
//! Responsible for a processor that has more of them than it sends at once. Must never have room for the others by
//! chance: they come last.

use portcullis_loadtest::client::Submission;
use portcullis_loadtest::cluster::Member as Place;
use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::{Member, TaskStatus};
use serde_json::json;

use super::cast::{Cast, boundless, revoke};
use crate::fixture::{accepted, cluster, ended, record, until};

/// More than a processor sends at once, or claims.
const REVOKED: usize = 40;
const OTHERS: usize = 10;

/// What is in the way of the audit stream is taken out of it again, or put into it.
const MOVE: &str =
    "redis.call('RENAME', KEYS[1], KEYS[2]); if ARGV[1] ~= '' then redis.call('SET', KEYS[1], ARGV[1]) end";

#[tokio::test]
async fn what_cannot_be_recorded_holds_up_nobody_else_and_is_not_lost() {
    let policy = json!({ "rate_limits": boundless() });
    let mut cast = Cast::on(cluster().slots(4).policy(policy).env("PORTCULLIS_DRAIN_SECONDS", "2")).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    let (adas, bobs) = (cast.log_in("ada").await, cast.log_in("bob").await);
    let [ada, bob] = [&adas, &bobs].map(|token| cast.cluster.gateway(0).bearer(token));
    let task = Submission::new("demo", json!(1));
    let (mut dead, mut alive) = (Vec::new(), Vec::new());
    for _ in 0..REVOKED {
        dead.push(accepted(&ada, &task).await);
    }
    for _ in 0..OTHERS {
        alive.push(accepted(&bob, &task).await);
    }
    let (store, probe) = (cast.cluster.store().await.expect("a store"), cast.cluster.probe().await.expect("a probe"));
    revoke(&store, Member::Principal(&principal_of("ada"))).await;
    let [audit, aside] = ["audit", "audit-aside"].map(|name| format!("{}:{name}", cast.cluster.key_prefix()));
    probe.command("EVAL", [MOVE, "2", &audit, &aside, "in the way"]).await.expect("moved");

    cast.cluster.add_processor().await.expect("a processor");
    for task_id in &alive {
        assert_eq!(ended(&bob, task_id).await.task_status(), "succeeded");
    }
    for task_id in &dead {
        assert!(!record(&store, task_id).await.status.is_terminal(), "it ended unrecorded");
    }
    // Leaving, it gives up what cannot be settled, and says so.
    let processor = cast.cluster.member(Place::Processor(0)).expect("there");
    processor.terminate().expect("told");
    processor.wait().await.expect("it ends");
    assert!(processor.stderr().contains("not settled: its lease will lapse"), "{}", processor.stderr());

    probe.command("EVAL", [MOVE, "2", &aside, &audit, ""]).await.expect("moved");
    cast.cluster.start_again(Place::Processor(0)).await.expect("another processor");
    for task_id in &dead {
        let record = until("it has ended", || async {
            let record = record(&store, task_id).await;
            record.status.is_terminal().then_some(record)
        })
        .await;
        assert_eq!(record.status, TaskStatus::Cancelled, "{task_id}");
        assert_eq!(record.error.expect("a reason").code, "revoked");
    }
    let events = store.audit(100).await.expect("events");
    let told = events.iter().filter(|event| event.event == "tasks.revoked");
    let told: usize = told.map(|event| event.about["tasks"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(told, REVOKED, "each once");
}
