//! A cluster of a test's own, and the few questions every test asks it.
//!
//! Responsible for how many clusters run at once: the machine may have two cores. Must never hold state that outlives a
//! test.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use portcullis_loadtest::client::{Answer, Client, Submission};
use portcullis_loadtest::cluster::Builder;
use portcullis_loadtest::{Cluster, Launcher, eventually};
use portcullis_lua::{ScopeStore, TaskId, TaskRecord};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Far longer than anything takes: a test that reaches it has found a fault, however busy the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// What a bound on time gets on top here, because other tests keep both cores busy.
pub(crate) const SLACK_MS: u64 = 1500;

static TURNS: Semaphore = Semaphore::const_new(2);

/// A cluster while its turn lasts.
pub(crate) struct Fixture {
    cluster: Cluster,
    _turn: SemaphorePermit<'static>,
}

impl Deref for Fixture {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Fixture {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}

/// A builder whose children are the harness's own executable, and whose gateways are patient with a Redis that shares
/// two cores with hundreds of concurrent requests.
pub(crate) fn cluster() -> Builder {
    impatient_cluster().env("PORTCULLIS_STORE_TIMEOUT_MS", "5000")
}

/// The same with the gateways' patience as shipped, for tests of what happens when Redis is gone.
pub(crate) fn impatient_cluster() -> Builder {
    Cluster::builder(Launcher::Embedded(env!("CARGO_BIN_EXE_portcullis-loadtest").into()))
        .handler("demo", "builtin:echo")
        .handler("slow", "builtin:sleep")
}

/// Waits for a turn, for tests whose clusters are started by what they test.
pub(crate) async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("never closed")
}

/// Waits for a turn and starts the cluster.
pub(crate) async fn start(builder: Builder) -> Fixture {
    let turn = turn().await;
    let cluster = builder.start().await.unwrap_or_else(|error| panic!("the cluster does not start: {error}"));
    Fixture { cluster, _turn: turn }
}

/// Waits for something to become true.
pub(crate) async fn until<T, F, Fut>(what: &str, condition: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    eventually(PATIENCE, what, condition).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Submits and expects it to be accepted; the task's id.
pub(crate) async fn accepted(client: &Client, submission: &Submission) -> String {
    let answer = client.submit(submission).await.expect("an answer");
    assert!(answer.is_accepted(), "not accepted: {} {}", answer.status, answer.text);
    answer.task_id().to_owned()
}

/// Submits under one idempotency key until it is accepted; the task's id. A submission whose answer was lost may have
/// been admitted: asked again under its key, it is the same task.
pub(crate) async fn accepted_at_last(client: &Client, submission: &Submission) -> String {
    let submission = submission.clone().header("idempotency-key", TaskId::generate().to_string());
    until("it is accepted", || async {
        let answer = client.submit(&submission).await.ok()?;
        answer.is_accepted().then(|| answer.task_id().to_owned())
    })
    .await
}

/// Waits until the task has ended; its last answer.
pub(crate) async fn ended(client: &Client, task_id: &str) -> Answer {
    client.until_ended(task_id, PATIENCE).await.unwrap_or_else(|error| panic!("task {task_id}: {error}"))
}

/// The store's record of a task.
pub(crate) async fn record(store: &ScopeStore, task_id: &str) -> TaskRecord {
    let id = TaskId::parse(task_id).expect("an id");
    store.task(&id).await.expect("redis answers").expect("the task is known")
}

/// Waits until the task is being run.
pub(crate) async fn until_running(client: &Client, task_id: &str) {
    until("the task runs", || async {
        let answer = client.task(task_id).await.ok()?;
        assert!(!answer.is_ended(), "it ended already: {}", answer.text);
        (answer.task_status() == "running").then_some(())
    })
    .await;
}

/// Redis's clock, ms since the epoch.
pub(crate) async fn redis_now_ms(cluster: &Cluster) -> u64 {
    let probe = cluster.probe().await.expect("a connection");
    let time = probe.command("TIME", []).await.expect("the time");
    let (seconds, micros): (u64, u64) = time.convert().expect("two numbers");
    probe.close().await;
    seconds * 1000 + micros / 1000
}
