//! The loop: claim what there is room for, run it, claim again.
//!
//! Responsible for never idling while there is work and room, and never polling while there is none. It outlives any
//! failure of Redis: every way through the loop ends in another claim, at most [`IDLE_LIMIT`] later. Must never claim
//! more than its free slots, and never abandon a claim under way: its leases would lie idle until they lapse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_config::Policy;
use portcullis_lua::{Claimed, Lease, Outcome, PolicyStamp, Purpose};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
use crate::lease::Leases;
use crate::settle::{Ended, unrun};
use crate::wake::Listener;
use crate::{backoff, metric, store};

/// Longest time between two claims while there is room: bounds the harm of a lost wake-up.
const IDLE_LIMIT: Duration = Duration::from_secs(1);

/// Pause after a claim that left tasks waiting yet got none, such as when another processor was quicker.
const CONTENDED: Duration = Duration::from_millis(20);

/// How many attempts may run, and how many do.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// Set by the operator; else the policy in force says.
    pub(crate) fixed_slots: Option<u32>,
    pub(crate) running: AtomicU32,
}

/// Claims and runs.
pub(crate) struct Worker {
    pub(crate) runner: Arc<Runner>,
    pub(crate) leases: Leases,
    pub(crate) listener: Listener,
    pub(crate) occupancy: Arc<Occupancy>,
    pub(crate) settlements: mpsc::Sender<Ended>,
    pub(crate) attempts: JoinSet<()>,
    /// Tells that the policy has changed, and with it perhaps the slots.
    pub(crate) policy_changes: watch::Receiver<PolicyStamp>,
}

/// What to do after a claim.
enum Next {
    ClaimAgain,
    Wait(Duration),
    BackOff,
}

impl Worker {
    /// Claims until `drain`, then lets what runs finish within `drain_limit` and cuts off the rest. Every attempt has
    /// been handed to the settler when it returns.
    pub(crate) async fn run(mut self, drain: &CancellationToken, drain_limit: Duration, cut_limit: Duration) {
        while !drain.is_cancelled() {
            match self.claim(drain).await {
                Next::ClaimAgain => {}
                Next::Wait(limit) => {
                    self.listener.listen();
                    tokio::select! {
                        () = self.listener.woken() => {}
                        Some(_) = self.attempts.join_next() => {}
                        () = sleep(limit) => {}
                        () = drain.cancelled() => {}
                    }
                }
                Next::BackOff => {
                    tokio::select! {
                        () = sleep(backoff::reconnect()) => {}
                        () = drain.cancelled() => {}
                    }
                }
            }
        }
        self.finish(drain_limit, cut_limit).await;
    }

    /// Waits for a free slot and claims for all that are free.
    async fn claim(&mut self, drain: &CancellationToken) -> Next {
        let Some(free) = self.free_slots(drain).await else { return Next::ClaimAgain };
        let active = self.runner.policy.load();
        let sent = Instant::now();
        let claimed = match self.runner.store.claim(active.compiled(), free).await {
            Ok(claimed) => claimed,
            Err(fault) => {
                metric::claim("error");
                store::failed("claim", &fault);
                return Next::BackOff;
            }
        };
        metric::claim(if claimed.leases.is_empty() { "empty" } else { "tasks" });
        let next = after(&claimed, free);
        for lease in claimed.leases {
            self.start(lease, sent, active.policy().queue.lease_ms, drain);
        }
        self.count();
        next
    }

    /// How many slots are free, once any is; `None` when draining began first.
    async fn free_slots(&mut self, drain: &CancellationToken) -> Option<u32> {
        loop {
            while self.attempts.try_join_next().is_some() {}
            self.count();
            let slots = self.occupancy.slots(self.runner.policy.load().policy());
            let free = slots.saturating_sub(self.attempts.len() as u32);
            if free > 0 {
                return Some(free);
            }
            self.listener.rest();
            tokio::select! {
                Some(_) = self.attempts.join_next() => {}
                // From a wait begun while there was room: the wake-up goes on to a processor that has some.
                () = self.listener.woken() => self.pass_on_wake_up().await,
                // It may give us more slots. The sender lives in the runner's policy.
                _ = self.policy_changes.changed() => {}
                () = drain.cancelled() => return None,
            }
        }
    }

    async fn pass_on_wake_up(&self) {
        let active = self.runner.policy.load();
        if let Err(fault) = self.runner.store.claim(active.compiled(), 0).await {
            store::failed("claim", &fault);
        }
    }

    /// Gives a lease to a task of its own, which ends by handing its outcome to the settler.
    fn start(&mut self, lease: Lease, sent: Instant, lease_ms: u64, drain: &CancellationToken) {
        if lease.purpose == Purpose::Run && lease.attempt == 1 {
            metric::queue_wait(lease.claimed_ms.saturating_sub(lease.created_ms));
        }
        // Came with a claim that was under way when draining began: another processor takes it sooner than we would.
        let late = drain.is_cancelled().then_some(Outcome::HandedBack);
        let held = self.leases.hold(&lease, sent, lease_ms);
        let (runner, settlements) = (Arc::clone(&self.runner), self.settlements.clone());
        self.attempts.spawn(async move {
            let outcome = match unrun(lease.purpose).or(late) {
                Some(outcome) => Some(outcome),
                None => runner.run(&lease, &held, sent).await,
            };
            if let Some(outcome) = outcome
                && settlements.send(Ended::new(lease, outcome, held)).await.is_err()
            {
                tracing::error!("an attempt ended after its settler");
            }
        });
    }

    async fn finish(mut self, drain_limit: Duration, cut_limit: Duration) {
        self.listener.rest();
        tracing::info!(running = self.attempts.len(), "draining");
        if timeout(drain_limit, self.all_ended()).await.is_err() {
            tracing::info!(running = self.attempts.len(), "drain time is over: handing back");
            self.runner.cutoff.cancel();
            if timeout(cut_limit, self.all_ended()).await.is_err() {
                tracing::warn!(left = self.attempts.len(), "left unsettled: their leases will lapse");
            }
        }
    }

    async fn all_ended(&mut self) {
        while self.attempts.join_next().await.is_some() {
            self.count();
        }
    }

    fn count(&self) {
        self.occupancy.running.store(self.attempts.len() as u32, Ordering::Relaxed);
    }
}

impl Occupancy {
    /// Attempts that may run at once under this policy.
    pub(crate) fn slots(&self, policy: &Policy) -> u32 {
        let slots = policy.service_capacity.concurrent_requests_per_process;
        self.fixed_slots.unwrap_or_else(|| u32::try_from(slots).unwrap_or(u32::MAX))
    }
}

fn after(claimed: &Claimed, free: u32) -> Next {
    let got = claimed.leases.len() as u32;
    if got >= free || (got > 0 && claimed.waiting > 0) {
        return Next::ClaimAgain;
    }
    let idle = if claimed.waiting > 0 { CONTENDED } else { IDLE_LIMIT };
    let due = claimed.next_due_ms.map_or(IDLE_LIMIT, |due_ms| Duration::from_millis(due_ms.max(1)));
    Next::Wait(idle.min(due))
}
