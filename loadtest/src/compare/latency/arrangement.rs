//! A gateway, and a processor in this process whose handler tells when it was started.
//!
//! Responsible for one clock on both ends: the submission leaves from the process in which the handler starts. Must
//! never let the two share a thread: they would wait for each other.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use portcullis_config::{Component, Scope};
use portcullis_lua::{CompiledPolicy, ScopeStore, Verdict};
use portcullis_processor::{AttemptContext, Handler, HandlerOutcome, Handlers, Processor, ProcessorOptions, Shutdown};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bench_scripts::workbench::request_of;
use crate::client::{Client, Submission};
use crate::cluster::{Cluster, Launcher, open_store};
use crate::error::HarnessError;
use crate::eventually::eventually;

/// Slots of the processor.
pub const SLOTS: u32 = 32;
/// How long a task may take to start, or the measurement has failed.
pub const START_LIMIT: Duration = Duration::from_secs(30);
/// Starts that nobody has read yet.
const STARTS_MAX: usize = 1024;

/// How a task is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the admission script, called from here.
    Script,
    /// By an HTTP request to a gateway.
    Gateway,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Script, Self::Gateway];

    /// What tables call it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Script => "by the admission script alone",
            Self::Gateway => "through a gateway",
        }
    }
}

/// The payload of a task.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Work {
    number: u32,
    work_ms: u64,
}

/// A handler that was started.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Number of its task.
    pub number: u32,
    /// When.
    pub at: Instant,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Arrangement {
    cluster: Cluster,
    script: Arc<(ScopeStore, CompiledPolicy)>,
    gateway: Client,
    starts: mpsc::Receiver<Start>,
    shutdown: Shutdown,
    processor: JoinHandle<Result<(), HarnessError>>,
}

/// Submits tasks one way.
#[derive(Clone, Debug)]
pub enum Submitter {
    /// See [`Way::Script`].
    Script(Arc<(ScopeStore, CompiledPolicy)>),
    /// See [`Way::Gateway`].
    Gateway(Client),
}

impl Submitter {
    /// Submits the task of this number, whose handler works this long; returns when it is accepted.
    pub async fn submit(&self, number: u32, work: Duration) -> Result<(), HarnessError> {
        let payload = json!(Work { number, work_ms: work.as_millis() as u64 });
        match self {
            Self::Script(script) => {
                let mut request = request_of("privileged", "latency");
                request.payload = Bytes::from(payload.to_string());
                let decisions = script.0.admit(&script.1, &[request]).await?;
                match decisions.first().map(|decision| &decision.verdict) {
                    Some(Verdict::Admitted { .. }) => Ok(()),
                    other => Err(HarnessError::Answer(format!("not admitted: {other:?}"))),
                }
            }
            Self::Gateway(client) => {
                let answer = client.submit(&Submission::new("bench", payload)).await?;
                if answer.is_accepted() { Ok(()) } else { Err(HarnessError::Answer(answer.text)) }
            }
        }
    }
}

impl Arrangement {
    /// Starts everything and waits until the processor counts for capacity.
    pub async fn start(launcher: Launcher) -> Result<Self, HarnessError> {
        let builder = Cluster::builder(launcher).gateways(1).env("PORTCULLIS_LOG", "warn");
        let policy = json!({ "rate_limits": { "roles": { "privileged": { "hourly": -1, "burst": 1_000_000 } } } });
        let cluster = builder.policy(policy).start().await?;
        let store = open_store(cluster.redis_url()).await?.scope(cluster.scope());
        let compiled = cluster.compiled_policy();
        let (started, starts) = mpsc::channel(STARTS_MAX);
        let shutdown = Shutdown::new();
        let processor =
            spawn_processor(cluster.redis_url().to_owned(), cluster.scope().clone(), started, shutdown.clone())?;
        eventually(START_LIMIT, "the processor is live", || async {
            store.processors(&compiled).await.ok()?.iter().any(|processor| processor.live).then_some(())
        })
        .await?;
        let gateway = cluster.gateway(0).caller("privileged", "latency");
        Ok(Self { cluster, script: Arc::new((store, compiled)), gateway, starts, shutdown, processor })
    }

    /// Submits one way.
    #[must_use]
    pub fn submitter(&self, way: Way) -> Submitter {
        match way {
            Way::Script => Submitter::Script(Arc::clone(&self.script)),
            Way::Gateway => Submitter::Gateway(self.gateway.clone()),
        }
    }

    /// The next handler that starts.
    pub async fn next_start(&mut self) -> Result<Start, HarnessError> {
        let start = tokio::time::timeout(START_LIMIT, self.starts.recv()).await.ok().flatten();
        start.ok_or_else(|| HarnessError::Timeout(START_LIMIT, "a handler starts".to_owned()))
    }

    /// Ends everything.
    pub async fn end(mut self) -> Result<(), HarnessError> {
        self.shutdown.abort.cancel();
        let ended = tokio::task::spawn_blocking(|| self.processor.join()).await;
        ended.ok().and_then(Result::ok).ok_or_else(|| HarnessError::Answer("the processor panicked".to_owned()))??;
        self.cluster.end().await
    }
}

/// A processor is a process of one thread; here it is a thread with a runtime of its own.
fn spawn_processor(
    url: String,
    scope: Scope,
    started: mpsc::Sender<Start>,
    stop: Shutdown,
) -> Result<JoinHandle<Result<(), HarnessError>>, HarnessError> {
    // What the cluster changes in the shipped policy is none of a processor's business.
    let boot = json!({ "tenant": scope.tenant(), "project": scope.project() });
    let boot = portcullis_config::parse_value(boot, Component::Proc, &|_| None);
    let boot = boot.map_err(|error| HarnessError::Policy(error.to_string()))?;
    let handlers = Handlers::new().with("bench", handler(started));
    let (instance, drain_limit) = ("bench".to_owned(), Duration::ZERO);
    let options = ProcessorOptions { instance, slots: Some(SLOTS), drain_limit, force_boot: false };
    Ok(std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HarnessError::io("starting the runtime"))?;
        runtime.block_on(async {
            let store = open_store(&url).await?;
            Processor::new(&store, scope, boot, handlers, options).run(stop).await;
            Ok(())
        })
    }))
}

/// Tells that it was started, before it does anything else; then works.
fn handler(started: mpsc::Sender<Start>) -> impl Handler {
    move |attempt: AttemptContext| {
        let (at, started) = (Instant::now(), started.clone());
        async move {
            // Whoever submitted something else misses its start, and says so.
            if let Ok(Work { number, work_ms }) = serde_json::from_slice(&attempt.payload) {
                // The receiver is gone only when the measurement is over.
                let _ = started.send(Start { number, at }).await;
                if work_ms > 0 {
                    tokio::time::sleep(Duration::from_millis(work_ms)).await;
                }
            }
            HandlerOutcome::json(&Value::Null)
        }
    }
}
