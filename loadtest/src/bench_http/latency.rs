//! From a submission to the start of its handler, on an idle cluster.
//!
//! Responsible for a time that hides nothing: it begins before the submission is sent and ends inside the handler. Must
//! never have two tasks under way at once: waiting behind another is not what is measured.

use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use portcullis_config::Component;
use portcullis_lua::{CompiledPolicy, ScopeStore, Verdict};
use portcullis_processor::{AttemptContext, HandlerOutcome, Handlers, Processor, ProcessorOptions, Shutdown};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bench_http::drive::histogram;
use crate::bench_scripts::workbench::request_of;
use crate::client::Submission;
use crate::cluster::{Cluster, Launcher, open_store};
use crate::error::HarnessError;
use crate::report::Table;

const SLOTS: u32 = 8;
/// Long enough for the processor to be waiting again when the next task comes.
const PAUSE: Duration = Duration::from_millis(5);
const START_LIMIT: Duration = Duration::from_secs(30);
/// Submissions that only warm up connections and caches.
const WARM_UP: u32 = 20;

/// Times by way of submission.
#[derive(Debug)]
pub struct Latency {
    way: &'static str,
    micros: Histogram<u64>,
}

/// Measures both ways: through the store alone, and through a gateway.
pub async fn measure(tasks: u32) -> Result<Vec<Latency>, HarnessError> {
    let mut cluster = Cluster::builder(Launcher::beside_current_exe()?).gateways(1).env("PORTCULLIS_LOG", "warn");
    cluster = cluster.policy(json!({ "rate_limits": { "roles": { "privileged": { "burst": 1_000_000 } } } }));
    let mut cluster = cluster.start().await?;
    let store = open_store(cluster.redis_url()).await?;
    let (started, mut starts) = mpsc::channel::<Instant>(1);
    let started = Arc::new(started);
    let handler = move |_attempt: AttemptContext| {
        let started = Arc::clone(&started);
        async move {
            let now = Instant::now();
            // The receiver is gone only when the measurement is over.
            let _ = started.send(now).await;
            HandlerOutcome::json(&Value::Null)
        }
    };
    let handlers = Handlers::new().with("bench", handler);
    // What the cluster changes in the shipped policy is none of a processor's business.
    let boot = json!({ "tenant": cluster.scope().tenant(), "project": cluster.scope().project() });
    let boot = portcullis_config::parse_value(boot, Component::Proc, &|_| None);
    let boot = boot.map_err(|error| HarnessError::Policy(error.to_string()))?;
    let (instance, drain_limit) = ("bench".to_owned(), Duration::ZERO);
    let options = ProcessorOptions { instance, slots: Some(SLOTS), drain_limit, force_boot: false };
    let shutdown = Shutdown::new();
    let (url, of, stop) = (cluster.redis_url().to_owned(), cluster.scope().clone(), shutdown.clone());
    // A processor is a process of one thread; here it is a thread with a runtime of its own.
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(HarnessError::io("starting the runtime"))?;
        runtime.block_on(async {
            let store = open_store(&url).await?;
            Processor::new(&store, of, boot, handlers, options).run(stop).await;
            Ok::<_, HarnessError>(())
        })
    });
    let scope = store.scope(cluster.scope());
    let compiled = cluster.compiled_policy();
    until_live(&scope, &compiled).await?;

    let through_store = async || {
        let request = request_of("privileged", "latency");
        let decisions = scope.admit(&compiled, &[request]).await?;
        match decisions.first().map(|decision| &decision.verdict) {
            Some(Verdict::Admitted { .. }) => Ok(()),
            other => Err(HarnessError::Answer(format!("not admitted: {other:?}"))),
        }
    };
    let gateway = cluster.gateway(0).caller("privileged", "latency");
    let submission = Submission::new("bench", Value::Null);
    let through_gateway = async || {
        let answer = gateway.submit(&submission).await?;
        if answer.is_accepted() { Ok(()) } else { Err(HarnessError::Answer(answer.text)) }
    };
    let ways = vec![
        Latency { way: "the admission script alone", micros: time(tasks, &mut starts, through_store).await? },
        Latency { way: "a gateway", micros: time(tasks, &mut starts, through_gateway).await? },
    ];
    shutdown.abort.cancel();
    running.join().map_err(|_| HarnessError::Answer("the processor panicked".to_owned()))??;
    cluster.end().await?;
    Ok(ways)
}

async fn until_live(scope: &ScopeStore, policy: &CompiledPolicy) -> Result<(), HarnessError> {
    crate::eventually::eventually(START_LIMIT, "the processor is live", || async {
        scope.processors(policy).await.ok()?.iter().any(|processor| processor.live).then_some(())
    })
    .await
}

async fn time<F>(tasks: u32, starts: &mut mpsc::Receiver<Instant>, submit: F) -> Result<Histogram<u64>, HarnessError>
where
    F: AsyncFn() -> Result<(), HarnessError>,
{
    let mut micros = histogram();
    for number in 0..tasks + WARM_UP {
        let sent = Instant::now();
        submit().await?;
        let started = tokio::time::timeout(START_LIMIT, starts.recv()).await.ok().flatten();
        let started = started.ok_or_else(|| HarnessError::Timeout(START_LIMIT, "the handler starts".to_owned()))?;
        if number >= WARM_UP {
            micros.saturating_record(started.duration_since(sent).as_micros() as u64);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(micros)
}

/// One row for each way.
#[must_use]
pub fn table(ways: &[Latency]) -> Table {
    let mut table = Table::new(&["submitted through", "tasks", "p50 ms", "p90 ms", "p99 ms", "longest ms"]);
    for latency in ways {
        let at = |quantile: f64| format!("{:.2}", latency.micros.value_at_quantile(quantile) as f64 / 1000.0);
        table.row([latency.way.to_owned(), latency.micros.len().to_string(), at(0.5), at(0.9), at(0.99), at(1.0)]);
    }
    table
}

impl Latency {
    /// The row as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let at = |quantile: f64| self.micros.value_at_quantile(quantile) as f64 / 1000.0;
        json!({
            "submitted_through": self.way,
            "tasks": self.micros.len(),
            "p50_ms": at(0.5),
            "p99_ms": at(0.99),
            "longest_ms": at(1.0),
        })
    }
}
