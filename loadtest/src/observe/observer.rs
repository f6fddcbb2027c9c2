//! The observer of a run: samples, decision events, and at last the ending.
//!
//! Responsible for its two watching tasks, which end with it. Must never judge what it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use portcullis_config::{Policy, Scope};
use portcullis_lua::{DecisionEvent, ScopeStore, Store, StoreOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::decision_tail::{self, Tail};
use super::gauge::{Gauge, Processes};
use super::policy_view::PolicyView;
use super::settled;
use crate::error::HarnessError;
use crate::probe::Probe;
use crate::record::{Call, Ending, RunClock, Sample};

/// A busy server answers late; nothing waits for the observer meanwhile.
const COMMAND_LIMIT: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 2;
/// How long Redis may take to be reached at the start.
const REACH_LIMIT: Duration = Duration::from_secs(5);

/// What to watch.
#[derive(Clone, Debug)]
pub struct ObserverOptions {
    /// Redis, by the way the cluster reaches it or another.
    pub redis_url: String,
    /// The scope the load is sent to.
    pub scope: Scope,
    /// The policy in force as long as none is stored.
    pub policy: Policy,
}

/// An observer that has reached what it is to watch.
#[derive(Debug)]
pub struct Prepared {
    connections: Store,
    store: ScopeStore,
    probe: Probe,
    tail: Tail,
    policy: Policy,
}

/// A running observer. Dropped without having finished, it just stops.
#[derive(Debug)]
pub struct Observer {
    clock: RunClock,
    connections: Store,
    store: ScopeStore,
    probe: Probe,
    redis_start_ms: u64,
    processes: Processes,
    latest: watch::Receiver<Sample>,
    stop: CancellationToken,
    gauge: AbortOnDropHandle<(Vec<Sample>, PolicyView)>,
    tail: AbortOnDropHandle<Tail>,
    boot: PolicyView,
}

/// What was seen, for the fields of the record that have the same names.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Redis clock at the start, ms since the epoch; 0 where it could not be reached.
    pub redis_start_ms: u64,
    /// Every decision event, oldest first.
    pub decisions: Vec<DecisionEvent>,
    /// Whether any may be missing.
    pub decisions_incomplete: bool,
    /// Decision events from before the start.
    pub earlier: Vec<DecisionEvent>,
    /// Whether there were more of them.
    pub earlier_incomplete: bool,
    /// The state of the cluster, every 250 ms.
    pub samples: Vec<Sample>,
    /// What was left at the end; `None` if Redis could not be asked.
    pub ending: Option<Ending>,
}

impl Prepared {
    /// Begins to watch. Start it before the first call is sent.
    pub async fn start(self, clock: RunClock) -> Observer {
        let Self { connections, store, probe, tail, policy } = self;
        let (processes, stop, boot) = (Processes::default(), CancellationToken::new(), PolicyView::boot(policy));
        let (newest, latest) = watch::channel(Sample::default());
        let tail = decision_tail::follow(tail, store.clone(), stop.clone());
        let gauge = Gauge {
            clock,
            store: store.clone(),
            probe: probe.clone(),
            policy: boot.clone(),
            processes: Arc::clone(&processes),
            latest: newest,
        };
        Observer {
            clock,
            redis_start_ms: Box::pin(redis_start_ms(clock, &probe)).await,
            processes,
            latest,
            gauge: AbortOnDropHandle::new(tokio::spawn(gauge.watch(stop.clone()))),
            tail: AbortOnDropHandle::new(tokio::spawn(tail)),
            connections,
            store,
            probe,
            stop,
            boot,
        }
    }
}

impl Observer {
    /// Connects and reads what is there already. It takes a while, which is no part of a run: its clock starts
    /// afterwards.
    pub async fn prepare(options: ObserverOptions) -> Result<Prepared, HarnessError> {
        let ObserverOptions { redis_url, scope, policy } = options;
        let store = StoreOptions { url: redis_url, connections: CONNECTIONS, command_timeout: COMMAND_LIMIT };
        let probe = Probe::lasting(&store.url, &format!("{{{}:{}}}", scope.tenant(), scope.project()))?;
        let connections = Store::open(&store)?;
        // What is out of reach now may be there later: an observer watches outages, too.
        drop(Box::pin(connections.wait_ready(REACH_LIMIT)).await);
        let store = connections.scope(&scope);
        let tail = Box::pin(Tail::begin(&store)).await;
        Ok(Prepared { connections, store, probe, tail, policy })
    }

    /// Whose processor time and memory is sampled from now on: process ids on this machine, by name.
    pub fn watch_processes(&self, processes: BTreeMap<String, u32>) {
        *self.processes.lock().unwrap_or_else(PoisonError::into_inner) = processes;
    }

    /// The newest sample; an empty one before the first.
    #[must_use]
    pub fn latest(&self) -> Sample {
        self.latest.borrow().clone()
    }

    /// Waits for rest, at most this long, watching on, then stops and looks at every task that a call or an event
    /// names, at accounts and keys.
    pub async fn finish(self, calls: &[Call], rest_limit: Duration) -> Observed {
        let rested = settled::rest(&self.store, &self.boot.compiled, rest_limit).await;
        let rested_at_us = self.clock.now_us();
        self.stop.cancel();
        // A watcher that panicked has said so; what it saw is gone, and that is said, too.
        let (samples, policy) = self.gauge.await.unwrap_or_else(|_| (Vec::new(), self.boot));
        let tail = self.tail.await.unwrap_or_else(|_| Tail::nothing());
        let mut observed = Observed {
            redis_start_ms: self.redis_start_ms,
            decisions: tail.events,
            decisions_incomplete: tail.incomplete,
            earlier: tail.earlier,
            earlier_incomplete: tail.earlier_incomplete,
            samples,
            ending: None,
        };
        if let Some((queues, resting)) = rested {
            let tasks = known_tasks(calls, &observed.decisions);
            let last_sent_us = calls.iter().map(|call| call.sent_us).max().unwrap_or(rested_at_us);
            let ending = settled::ending(&self.store, &self.probe, &policy.policy, &queues, tasks).await;
            observed.ending = ending.ok().map(|ending| Ending {
                rested_us: resting.then(|| rested_at_us.saturating_sub(last_sent_us)),
                ..ending
            });
        }
        self.probe.close().await;
        self.connections.close().await;
        observed
    }
}

fn known_tasks(calls: &[Call], decisions: &[DecisionEvent]) -> BTreeSet<String> {
    let called = calls.iter().filter_map(Call::task_id);
    let decided = decisions.iter().filter_map(|event| event.task_id.as_deref());
    called.chain(decided).map(str::to_owned).collect()
}

/// What Redis's clock showed when the run's showed nothing: the middle of the quickest of a few questions.
async fn redis_start_ms(clock: RunClock, probe: &Probe) -> u64 {
    let mut best: Option<(u64, u64)> = None;
    for _ in 0..5 {
        let asked_us = clock.now_us();
        let Ok(Ok(redis_ms)) = tokio::time::timeout(COMMAND_LIMIT, probe.time_ms()).await else { continue };
        let answered_us = clock.now_us();
        let start_ms = redis_ms.saturating_sub(u64::midpoint(asked_us, answered_us) / 1000);
        let took_us = answered_us - asked_us;
        if best.is_none_or(|(quickest_us, _)| took_us < quickest_us) {
            best = Some((took_us, start_ms));
        }
    }
    best.map_or(0, |(_, start_ms)| start_ms)
}
