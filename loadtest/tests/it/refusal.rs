//! A refused request leaves nothing behind: at each gate in turn, every key of the scope is as it was.
//!
//! The decision stream, the head of its chain and the hourly statistics are the exception, and are what a refusal is
//! known by.

use std::collections::BTreeMap;

use portcullis_loadtest::client::{Client, Submission};
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_loadtest::probe::Probe;
use portcullis_lua::{Outcome, ScopeStore, Settlement, TaskError, TaskResult};
use serde_json::{Value, json};

use crate::fixture::{Fixture, accepted, cluster, start, until};

const WORKER: &str = "by-hand";
const SLOTS: u32 = 10;

/// A cluster that nothing but the test changes: no processor, one heartbeat that lasts.
struct Still {
    cluster: Fixture,
    store: ScopeStore,
    probe: Probe,
    gateway: Client,
}

impl Still {
    async fn start() -> Self {
        let budget = json!({
            "unit": "tokens", "amount": 100, "period": "month", "per": "principal", "default_estimate": 0,
        });
        let policy = json!({
            "rate_limits": { "roles": {
                "anonymous": { "burst": 2, "burst_window": 60, "hourly": 100 },
                "registered": { "burst": 50, "burst_window": 60, "hourly": 3 },
            } },
            "budgets": { "tokens": budget },
            "circuit_breakers": { "tasks": { "minimum_calls": 2, "open_seconds": 60 } },
            "queue": { "max_delayed": 1, "lease_ms": 60_000 },
            "monitoring": { "heartbeat_timeout_seconds": 600 },
        });
        let cluster = start(cluster().policy(policy)).await;
        let (store, probe) = (cluster.store().await.expect("a store"), cluster.probe().await.expect("a connection"));
        let beat = stand_in_beat(WORKER.to_owned(), SLOTS);
        store.heartbeat(&cluster.compiled_policy(), &beat).await.expect("a heartbeat");
        let gateway = cluster.gateway(0);
        Self { cluster, store, probe, gateway }
    }

    async fn dump(&self) -> BTreeMap<String, String> {
        let prefix = self.cluster.key_prefix();
        let mut dump = self.probe.dump(&prefix).await.expect("a dump");
        let told = [":decision", ":statistics:", ":counted", ":flush:"];
        dump.retain(|key, _| !told.iter().any(|told| key.contains(told)));
        // Of the scope's own state all but the number and the hash of the newest decision event.
        let scope = format!("{prefix}:scope");
        let part = async |from: &str, to: &str| {
            let part = self.probe.command("GETRANGE", [scope.as_str(), from, to]).await;
            format!("{:?}", part.expect("an answer"))
        };
        dump.insert(scope.clone(), part("0", "63").await + &part("112", "-1").await);
        dump
    }

    /// The submission is refused for this reason, by the script, and changes nothing.
    async fn refused(&self, caller: &Client, submission: &Submission, code: &str) {
        let before = self.dump().await;
        assert!(!before.is_empty());
        let answer = caller.submit(submission).await.expect("an answer");
        assert_eq!(answer.code(), code, "{}", answer.text);
        assert_eq!(self.dump().await, before, "a refusal for {code} changed something");
        let last = self.store.decisions(1).await.expect("an answer").remove(0);
        assert_eq!((last.outcome.as_str(), last.code.as_deref()), ("refused", Some(code)), "decided elsewhere");
    }

    /// Runs whatever waits by hand: tasks of kind `broken` fail, all others succeed.
    async fn run_waiting(&self) {
        let policy = self.cluster.compiled_policy();
        let leases = self.store.claim(&policy, 64).await.expect("an answer").leases;
        assert!(!leases.is_empty());
        // Running takes time; it becomes the measured service time.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let settlements: Vec<Settlement> = leases
            .into_iter()
            .map(|lease| {
                let outcome = if lease.envelope.kind == "broken" { failed() } else { succeeded() };
                Settlement { lease, outcome }
            })
            .collect();
        self.store.settle(&policy, &settlements).await.expect("an answer");
    }
}

fn failed() -> Outcome {
    let error = TaskError { code: "handler_status".to_owned(), detail: "500".to_owned() };
    Outcome::Retry { error, after_ms: 60_000 }
}

fn succeeded() -> Outcome {
    let result = TaskResult { content_type: "application/json".to_owned(), body: "null".into() };
    Outcome::Succeeded { result, usage: Vec::new() }
}

fn task() -> Submission {
    Submission::new("demo", json!({ "n": 1 }))
}

#[tokio::test]
async fn no_refusal_at_any_gate_changes_any_key() {
    let still = Still::start().await;
    let caller = |user_type: &str, name: &str| still.gateway.caller(user_type, name);

    // Rate limit, both windows.
    for _ in 0..2 {
        accepted(&still.gateway, &task()).await;
    }
    still.refused(&still.gateway, &task(), "burst_limit").await;
    let steady = caller("registered", "steady");
    for _ in 0..3 {
        accepted(&steady, &task()).await;
    }
    still.refused(&steady, &task(), "hourly_limit").await;

    // Economics.
    let spender = caller("paid", "spender");
    let costly = task().field("estimate", json!({ "tokens": 60 }));
    accepted(&spender, &costly).await;
    still.refused(&spender, &costly, "budget_exhausted").await;

    // Enqueue: another body under the same key.
    let orderly = caller("paid", "orderly");
    accepted(&orderly, &task().header("idempotency-key", "k")).await;
    let other = Submission::new("demo", json!({ "n": 2 })).header("idempotency-key", "k");
    still.refused(&orderly, &other, "idempotency_mismatch").await;

    // Circuit breaker: two failures open it.
    let unlucky = caller("paid", "unlucky");
    let broken = Submission::new("broken", Value::Null).field("max_attempts", 1);
    for _ in 0..2 {
        accepted(&unlucky, &broken).await;
    }
    still.run_waiting().await;
    still.refused(&unlucky, &broken, "circuit_open").await;

    // Backpressure: the bound of delayed tasks.
    let late = caller("paid", "late");
    accepted(&late, &task().field("delay_ms", 60_000)).await;
    still.refused(&late, &task().field("delay_ms", 60_000), "queue_full").await;

    // Backpressure: the deadline, now that a service time has been measured.
    let crowd = caller("privileged", "crowd");
    for _ in 0..SLOTS + 2 {
        accepted(&crowd, &task()).await;
    }
    still.refused(&crowd, &task().field("deadline_ms", 1), "deadline_unreachable").await;

    // Backpressure: floor(10 × 0.8) + floor(10 × 2.0) = 28 is the capacity; 22 is registered's, 26 everybody's.
    for _ in SLOTS + 2..22 {
        accepted(&crowd, &task()).await;
    }
    still.refused(&caller("registered", "newcomer"), &task(), "pressure_threshold").await;
    for _ in 22..26 {
        accepted(&crowd, &task()).await;
    }
    still.refused(&crowd, &task(), "hard_limit").await;

    // Backpressure: nobody left to do the work.
    still.store.leave(WORKER).await.expect("an answer");
    // The gateway may remember for a moment that the queue was too deep.
    until("the gateway asks again", || async {
        let answer = caller("registered", "too-late").submit(&task()).await.ok()?;
        (answer.code() == "no_live_processors").then_some(())
    })
    .await;
    still.refused(&caller("paid", "too-late"), &task(), "no_live_processors").await;
}
