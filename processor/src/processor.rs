//! A processor put together: its loop, its background duties, and the order in which they end.
//!
//! Responsible for ownership: every task it spawns belongs to [`Processor::run`] and is gone when that returns. Must
//! never restart a duty that panicked: the panic is passed on, so that whoever runs the process learns of it.

use std::convert::Infallible;
use std::future::pending;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use portcullis_config::{Component, Loaded, Scope};
use portcullis_lua::{LivePolicy, Store};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
use crate::clock::RedisClock;
use crate::drain::{Ending, Shutdown};
use crate::follower::{Follower, Heard};
use crate::handler::Handlers;
use crate::heartbeat::{Contact, Pulse};
use crate::lease::Leases;
use crate::policy::ScopePolicy;
use crate::reclaimer::Reclaimer;
use crate::settle::{self, Settler};
use crate::store::{RedisTasks, TaskStore};
use crate::worker::{Occupancy, Worker};

/// After the drain time: how long cut-off attempts may take to be handed back.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// How long to try to say goodbye; unsaid, the heartbeat expires by itself.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// What a processor is told beside its policy.
#[derive(Clone, Debug)]
pub struct ProcessorOptions {
    /// Name of the machine or container, in heartbeats.
    pub instance: String,
    /// Attempts at once; left out, the policy's `service_capacity.concurrent_requests_per_process`.
    pub slots: Option<u32>,
    /// How long running attempts may go on after [`Shutdown::drain`].
    pub drain_limit: Duration,
    /// Makes the boot document the stored policy at start, unless it is.
    pub force_boot: bool,
}

/// Runs the tasks of one scope.
pub struct Processor {
    worker: String,
    options: ProcessorOptions,
    runner: Arc<Runner>,
}

impl Processor {
    /// A processor of `scope`, which follows the scope's stored policy. While none is stored `boot` applies, as
    /// [`Component::Proc`] reads it. Nothing happens before [`Processor::run`].
    #[must_use]
    pub fn new(store: &Store, scope: Scope, boot: Loaded, handlers: Handlers, options: ProcessorOptions) -> Self {
        let worker = worker_name(&options.instance);
        let of = store.scope(&scope);
        let policy = LivePolicy::new(of.clone(), Component::Proc, boot, worker.as_str());
        let tasks = Arc::new(RedisTasks::new(store.clone(), of, policy.clone()));
        Self::over(tasks, worker, scope, policy, handlers, options)
    }

    pub(crate) fn over(
        store: Arc<dyn TaskStore>,
        worker: String,
        scope: Scope,
        policy: ScopePolicy,
        handlers: Handlers,
        options: ProcessorOptions,
    ) -> Self {
        let (clock, cutoff) = (RedisClock::new(), CancellationToken::new());
        Self { worker, options, runner: Arc::new(Runner { store, policy, scope, handlers, clock, cutoff }) }
    }

    /// Name under which it leases tasks and sends heartbeats, unique per start.
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// Works until told to leave. Survives any failure of Redis.
    pub async fn run(self, shutdown: Shutdown) -> Ending {
        tokio::select! {
            ending = self.work(&shutdown.drain) => ending,
            // Dropping the work aborts every task it owns.
            () = shutdown.abort.cancelled() => Ending::Aborted,
        }
    }

    async fn work(self, drain: &CancellationToken) -> Ending {
        let (leases, contact) = (Leases::default(), Contact::new());
        let occupancy = Arc::new(Occupancy::new(self.options.slots));
        let (settlements, ended) = mpsc::channel(settle::WAITING);
        let stop = CancellationToken::new();
        let (heard, told) = watch::channel(Heard::default());
        let runner = Arc::clone(&self.runner);
        let follower = Follower { runner, heard: told, force_boot: self.options.force_boot };
        tokio::select! {
            () = follower.begin() => {}
            () = drain.cancelled() => {}
        }
        let mut duties = self.duties(&leases, self.pulse(&occupancy, &contact, heard, drain), &stop);
        duties.spawn({
            let stopped = stop.clone();
            async move { _ = stopped.run_until_cancelled(follower.run()).await }
        });
        let mut settling = JoinSet::new();
        settling.spawn(Settler::new(Arc::clone(&self.runner.store), ended).run());
        settling.spawn({
            let reclaimer = Reclaimer {
                runner: Arc::clone(&self.runner),
                leases: leases.clone(),
                contact,
                settlements: settlements.clone(),
            };
            let drain = drain.clone();
            async move { reclaimer.run(&drain).await }
        });
        let worker = Worker {
            runner: Arc::clone(&self.runner),
            leases,
            waker: self.runner.store.waker(),
            occupancy,
            settlements,
            attempts: JoinSet::new(),
            policy_changes: self.runner.policy.changes(),
        };
        tracing::info!(worker = self.worker, scope = %self.runner.scope, handlers = ?self.runner.handlers, "working");
        let drain_limit = self.options.drain_limit;
        let drained_by = tokio::select! {
            drained_by = drained(worker, drain, drain_limit) => drained_by,
            never = fail_with(&mut duties) => match never {},
            never = fail_with(&mut settling) => match never {},
        };
        // The worker's and the reclaimer's ends of the channel are gone, so the settler ends when it has sent all.
        // Leases are renewed meanwhile. Then the heartbeat stops, so that none follows the goodbye.
        let settled = timeout_at(drained_by + FLUSH_LIMIT, all(&mut settling)).await.is_ok();
        // The settler says what it leaves behind.
        settling.shutdown().await;
        stop.cancel();
        all(&mut duties).await;
        let left = timeout(LEAVE_LIMIT, self.runner.store.leave(&self.worker)).await;
        tracing::info!(worker = self.worker, settled, said_goodbye = matches!(left, Ok(Ok(()))), "left");
        if settled { Ending::Drained } else { Ending::Aborted }
    }

    fn pulse(
        &self,
        occupancy: &Arc<Occupancy>,
        contact: &Contact,
        heard: watch::Sender<Heard>,
        drain: &CancellationToken,
    ) -> Pulse {
        Pulse {
            worker: self.worker.clone(),
            instance: self.options.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            runner: Arc::clone(&self.runner),
            occupancy: Arc::clone(occupancy),
            contact: contact.clone(),
            heard,
            drain: drain.clone(),
        }
    }

    /// Renewal and heartbeats: all that must go on while attempts finish.
    fn duties(&self, leases: &Leases, pulse: Pulse, stop: &CancellationToken) -> JoinSet<()> {
        let mut duties = JoinSet::new();
        let stopped = stop.clone();
        duties.spawn(async move { pulse.run(&stopped).await });
        let (leases, runner, stopped) = (leases.clone(), Arc::clone(&self.runner), stop.clone());
        duties.spawn(async move { leases.keep(runner.store.as_ref(), &runner.policy, &stopped).await });
        duties
    }
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processor")
            .field("worker", &self.worker)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A process that comes back under the same name and pid must not be taken for its predecessor.
fn worker_name(instance: &str) -> String {
    format!("{instance}-{}-{:08x}", std::process::id(), rand::random::<u32>())
}

/// Runs the worker to its end; when its drain time was over.
async fn drained(worker: Worker, drain: &CancellationToken, drain_limit: Duration) -> Instant {
    let running = worker.run(drain, drain_limit, FLUSH_LIMIT);
    let over = async {
        drain.cancelled().await;
        Instant::now() + drain_limit
    };
    let ((), over) = tokio::join!(running, over);
    over.max(Instant::now())
}

async fn all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        pass_on(ended);
    }
}

/// Never resolves, unless by panicking as one of the tasks did.
async fn fail_with(tasks: &mut JoinSet<()>) -> Infallible {
    all(tasks).await;
    pending().await
}

fn pass_on(ended: Result<(), tokio::task::JoinError>) {
    if let Err(fault) = ended
        && fault.is_panic()
    {
        resume_unwind(fault.into_panic());
    }
}

#[cfg(test)]
mod tests;
