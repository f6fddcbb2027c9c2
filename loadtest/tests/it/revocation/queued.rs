//! Tasks that waited when their caller was revoked.
//!
//! Responsible for the whole way to the handler: none of them arrives there. Must never have a processor at work before
//! the revocation, or there would be nothing left to cancel.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::{Member, TaskStatus};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::cast::{Cast, boundless, revoke};
use crate::fixture::{accepted, cluster, ended, record};

const EACH: usize = 10;
const TOKENS: u64 = 7;

/// How often each principal's tasks were run.
type Runs = Arc<Mutex<BTreeMap<String, usize>>>;

/// A handler that only counts; it ends with what is returned.
async fn handler(runs: Runs) -> (String, JoinSet<()>) {
    let run = async move |headers: HeaderMap| {
        let principal = headers.get("x-principal").and_then(|name| name.to_str().ok()).unwrap_or_default().to_owned();
        *runs.lock().expect("no panic").entry(principal).or_default() += 1;
        "null"
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, Router::new().route("/", post(run))).await.expect("served") });
    (url, serving)
}

#[tokio::test]
async fn queued_tasks_of_the_revoked_are_cancelled_never_run_and_give_their_budget_back() {
    let runs = Runs::default();
    let (url, _serving) = handler(runs.clone()).await;
    let budget = json!({
        "unit": "tokens", "amount": 1_000_000, "period": "month", "per": "tenant", "default_estimate": TOKENS,
    });
    let policy = json!({ "rate_limits": boundless(), "budgets": { "tokens": budget } });
    let mut cast = Cast::on(cluster().handler("counted", &url).policy(policy)).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    let (ada, bob) = (principal_of("ada"), principal_of("bob"));
    let session = cast.log_in("ada").await;
    let dead_tokens = [session, cast.crew(&ada).reading.presented().to_owned()];
    let bobs = cast.log_in("bob").await;
    let task = Submission::new("counted", json!(1));
    let (mut dead, mut alive) = (Vec::new(), Vec::new());
    for _ in 0..EACH {
        for token in &dead_tokens {
            dead.push(accepted(&cast.cluster.gateway(0).bearer(token), &task).await);
        }
        alive.push(accepted(&cast.cluster.gateway(0).bearer(&bobs), &task).await);
    }
    let store = cast.cluster.store().await.expect("a store");
    revoke(&store, Member::Principal(&ada)).await;
    cast.cluster.add_processor().await.expect("a processor");
    let bob_client = cast.cluster.gateway(0).bearer(&bobs);
    for task_id in &alive {
        assert_eq!(ended(&bob_client, task_id).await.task_status(), "succeeded");
    }
    for task_id in &dead {
        let record = crate::fixture::until("it has ended", || async {
            let record = record(&store, task_id).await;
            record.status.is_terminal().then_some(record)
        })
        .await;
        assert_eq!((record.status, record.attempts.len()), (TaskStatus::Cancelled, 0), "{task_id}");
        assert_eq!(record.error.expect("a reason").code, "revoked");
    }
    assert_eq!(*runs.lock().expect("no panic"), BTreeMap::from([(bob, EACH)]));
    let limits = bob_client.limits().await.expect("an answer");
    let budget = limits.body["budgets"].as_array().and_then(|budgets| budgets.first()).cloned().unwrap_or_default();
    let figures = ["spent", "held"].map(|name| budget[name].as_u64());
    assert_eq!(figures, [Some(TOKENS * EACH as u64), Some(0)], "{}", limits.text);
}
