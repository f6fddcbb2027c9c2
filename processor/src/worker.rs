//! The loop: claim what there is room for, run it, claim again.
//!
//! Responsible for never idling while there is work and room, and never polling while there is none: where nothing is
//! known to wait, the claim lies in the server behind a blocking pop and runs the moment there is something. Outlives
//! any failure of Redis: every way through the loop ends in another claim, at most [`WAIT_MAX`] later. Must never claim
//! more than its free slots, and never abandon a claim under way: its leases would lie idle until they lapse. It does
//! where it is to leave and Redis does not say for [`LATE_LIMIT`] what became of the claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_config::Policy;
use portcullis_lua::{Claimed, CompiledPolicy, Lease, Outcome, PolicyStamp, Purpose, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
use crate::lease::Leases;
use crate::policy::{ActivePolicy, ScopePolicy};
use crate::settle::{Ended, unrun};
use crate::store::Wake;
use crate::{backoff, metric, revocation, store};

/// Longest wait for work: bounds the harm of a lost wake-up, and for how long a processor that freezes while it waits
/// may be handed a task.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// No wait is longer than one in this many parts of a lease, which is trusted from the beginning of the wait.
const WAIT_OF_LEASE: u64 = 4;

/// How long an answer to a claim may take when nothing more is to be claimed.
const LATE_LIMIT: Duration = Duration::from_secs(1);

/// A claim that was answered longer than this after it was sent may have run long before: its processor was frozen, or
/// Redis was. What was revoked since is not what it was told.
const TOLD_LONG_AGO: Duration = Duration::from_secs(2);

/// Pause after a claim that left tasks waiting yet got none.
const CONTENDED: Duration = Duration::from_millis(20);

/// How many attempts may run, how many do, and what is being claimed.
#[derive(Debug)]
pub(crate) struct Occupancy {
    /// Set by the operator; else the policy in force says.
    fixed_slots: Option<u32>,
    pub(crate) running: AtomicU32,
    /// What the claim under way was sent under, if one is: it may run at any time until it is answered.
    pub(crate) claiming: watch::Sender<Option<Arc<ActivePolicy>>>,
}

/// Claims and runs.
pub(crate) struct Worker {
    pub(crate) runner: Arc<Runner>,
    pub(crate) leases: Leases,
    pub(crate) waker: Box<dyn Wake>,
    pub(crate) occupancy: Arc<Occupancy>,
    pub(crate) settlements: mpsc::Sender<Ended>,
    pub(crate) attempts: JoinSet<()>,
    /// Tells that the policy has changed, and with it perhaps the slots.
    pub(crate) policy_changes: watch::Receiver<PolicyStamp>,
}

/// What to do next, once there is room.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// There may be work.
    Claim,
    /// The queue is empty; a delayed task is due at this time, if any.
    Wait(Option<Instant>),
    /// Nothing for so long.
    Pause(Duration),
}

impl Worker {
    /// Claims until `drain`, then lets what runs finish within `drain_limit` and cuts off the rest. Every attempt has
    /// been handed to the settler when it returns.
    pub(crate) async fn run(mut self, drain: &CancellationToken, drain_limit: Duration, cut_limit: Duration) {
        let mut next = Next::Claim;
        while !drain.is_cancelled() {
            if let Next::Pause(pause) = next {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = drain.cancelled() => {}
                }
                next = Next::Claim;
            } else if let Some(free) = self.free_slots(drain).await {
                next = self.claim(free, next, drain).await;
            }
        }
        self.finish(drain_limit, cut_limit).await;
    }

    /// Claims for so many slots, at once or when there is something to claim, and runs what it gets.
    async fn claim(&mut self, free: u32, how: Next, drain: &CancellationToken) -> Next {
        // Before the policy is loaded: a change in between ends the wait.
        self.policy_changes.mark_unchanged();
        let active = self.occupancy.claim_under(&self.runner.policy);
        let lease_ms = active.policy().queue.lease_ms;
        let sent = Instant::now();
        let answer = async {
            match how {
                Next::Wait(due) if due.is_none_or(|due| due > sent) => {
                    let limit = Duration::from_millis(lease_ms / WAIT_OF_LEASE).min(WAIT_MAX);
                    self.wait_and_claim(active.compiled(), free, limit, due, drain).await
                }
                _ => self.waker.claim_now(active.compiled(), free).await,
            }
        };
        let claimed = tokio::select! {
            biased;
            claimed = answer => claimed,
            () = too_late(drain) => Err(StoreError::Unavailable("no answer to the last claim".to_owned())),
        };
        self.occupancy.claiming.send_replace(None);
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(fault) => {
                metric::claim("error");
                store::failed("claim", &fault);
                return Next::Pause(backoff::reconnect());
            }
        };
        metric::claim(if claimed.leases.is_empty() { "empty" } else { "tasks" });
        self.runner.clock.note(sent, claimed.now_ms);
        let next = after(&claimed);
        for lease in claimed.leases {
            self.start(lease, claimed.revocations, (sent, lease_ms), drain);
        }
        if active.compiled().stamp() != self.runner.policy.load().compiled().stamp() {
            // Of the length that was in force when the wait began.
            self.leases.renew_now();
        }
        self.count();
        next
    }

    /// Claims once there is something to claim, after `limit` at the latest. Attempts that end meanwhile leave the
    /// claim as it is: it asks for fewer slots than there are then, and another claim follows it.
    async fn wait_and_claim(
        &mut self,
        policy: &CompiledPolicy,
        free: u32,
        limit: Duration,
        due: Option<Instant>,
        drain: &CancellationToken,
    ) -> Result<Claimed, StoreError> {
        let hurry = CancellationToken::new();
        let mut claimed = self.waker.claim(policy, free, limit, &hurry);
        loop {
            tokio::select! {
                biased;
                claimed = &mut claimed => return claimed,
                Some(_) = self.attempts.join_next() => {
                    self.occupancy.running.store(self.attempts.len() as u32, Ordering::Relaxed);
                }
                // Not dropped half-way: what it may have claimed is ours to run or to hand back.
                () = until_needless(&mut self.policy_changes, due, drain), if !hurry.is_cancelled() => hurry.cancel(),
            }
        }
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
            tokio::select! {
                Some(_) = self.attempts.join_next() => {}
                // It may give us more slots. The sender lives in the runner's policy.
                _ = self.policy_changes.changed() => {}
                () = drain.cancelled() => return None,
            }
        }
    }

    /// Gives a lease to a task of its own, which ends by handing its outcome to the settler. The claim was told this
    /// number of revocations, and was sent then for leases of this length.
    fn start(&mut self, lease: Lease, revocations: u64, (sent, lease_ms): (Instant, u64), drain: &CancellationToken) {
        if lease.purpose == Purpose::Run && lease.attempt == 1 {
            metric::queue_wait(lease.claimed_ms.saturating_sub(lease.created_ms));
        }
        // Came with a claim that was under way when draining began: another processor takes it sooner than we would.
        let late = drain.is_cancelled().then_some(Outcome::HandedBack);
        let revocations = (sent.elapsed() <= TOLD_LONG_AGO).then_some(revocations);
        let held = self.leases.hold(&lease, sent, lease_ms);
        let (runner, settlements) = (Arc::clone(&self.runner), self.settlements.clone());
        self.attempts.spawn(async move {
            let unrun = match unrun(lease.purpose).or(late) {
                Some(outcome) => Some(outcome),
                None => revocation::dead(runner.store.as_ref(), &lease, revocations).await,
            };
            let outcome = match unrun {
                Some(outcome) => Some(outcome),
                None => runner.run(&lease, &held).await,
            };
            if let Some(outcome) = outcome
                && settlements.send(Ended::new(lease, outcome, held)).await.is_err()
            {
                tracing::error!("an attempt ended after its settler");
            }
        });
    }

    async fn finish(mut self, drain_limit: Duration, cut_limit: Duration) {
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
    pub(crate) fn new(fixed_slots: Option<u32>) -> Self {
        Self { fixed_slots, running: AtomicU32::new(0), claiming: watch::Sender::new(None) }
    }

    /// The policy in force, noted as the one a claim is sent under.
    fn claim_under(&self, policy: &ScopePolicy) -> Arc<ActivePolicy> {
        loop {
            let active = policy.load();
            self.claiming.send_replace(Some(Arc::clone(&active)));
            // Whoever looked in between took it that nothing is claimed under this one.
            if Arc::ptr_eq(&active, &policy.load()) {
                return active;
            }
        }
    }

    /// Attempts that may run at once under this policy.
    pub(crate) fn slots(&self, policy: &Policy) -> u32 {
        let slots = policy.service_capacity.concurrent_requests_per_process;
        self.fixed_slots.unwrap_or_else(|| u32::try_from(slots).unwrap_or(u32::MAX))
    }
}

/// Resolves when a wait that is under way has become needless: a delayed task is due, the claim was made under another
/// policy, or nothing is to be claimed any more.
async fn until_needless(
    policy_changes: &mut watch::Receiver<PolicyStamp>,
    due: Option<Instant>,
    drain: &CancellationToken,
) {
    let due = async {
        match due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = due => {}
        // The sender lives in the runner's policy.
        _ = policy_changes.changed() => {}
        () = drain.cancelled() => {}
    }
}

/// Resolves when whoever leaves waits no longer for what it has claimed.
async fn too_late(drain: &CancellationToken) {
    drain.cancelled().await;
    sleep(LATE_LIMIT).await;
}

fn after(claimed: &Claimed) -> Next {
    match (claimed.waiting, claimed.leases.len()) {
        (0, _) => Next::Wait(claimed.next_due_ms.map(|due_ms| Instant::now() + Duration::from_millis(due_ms.max(1)))),
        // Those that were first had no record.
        (_, 0) => Next::Pause(CONTENDED),
        _ => Next::Claim,
    }
}
