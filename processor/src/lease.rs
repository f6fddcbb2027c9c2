//! Keeping leases: renewal, the trust window, and telling an attempt that its lease has ended.
//!
//! A lease is ours for `lease_ms` after the script that granted or renewed it ran. That moment lies between our
//! sending the call and its answer, so we trust it from the *sending*:
//!
//! ```text
//! trusted until = start of the last successful claim or renewal + lease_ms − margin
//! ```
//!
//! Past that instant another processor may hold the task; the attempt is ended whatever the network is doing, which is
//! why each lease watches its own clock and does not wait for a renewal call to fail. Local and Redis clocks need only
//! run at the same rate over one lease; the margin pays for their drift.
//!
//! Must never settle anything and never extend a lease by assumption: only an answer of Redis does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_lua::{FencingToken, Lease, Renewal, TaskId};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::policy::{ActivePolicy, ScopePolicy};
use crate::store::{self, TaskStore};
use crate::{backoff, metric};

mod standing;

pub use standing::{LeaseEnd, Standing, renew_period, trusted_until};

/// Most leases in one call of the script; a longer list would only mean several scripts under one trust window.
const RENEW_BATCH: usize = 64;

/// All leases this processor holds, from claim to settlement. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    held: Arc<Mutex<HashMap<FencingToken, Entry>>>,
    /// Told of leases that cannot wait for their turn.
    early: Arc<Notify>,
}

#[derive(Debug)]
struct Entry {
    task_id: TaskId,
    standing: watch::Sender<Standing>,
}

/// One lease being kept. It is renewed until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    token: FencingToken,
    standing: watch::Receiver<Standing>,
    leases: Leases,
}

impl Leases {
    /// Starts keeping a lease that was granted by a call sent at `sent`. One whose call took so long that half of it
    /// may be over is renewed at once.
    pub(crate) fn hold(&self, lease: &Lease, sent: Instant, lease_ms: u64) -> Held {
        let standing = Standing::new(trusted_until(sent, lease_ms));
        if sent.elapsed() > Duration::from_millis(lease_ms / 2) {
            self.renew_now();
        }
        let (sender, receiver) = watch::channel(standing);
        let entry = Entry { task_id: lease.task_id.clone(), standing: sender };
        self.entries(|held| held.insert(lease.token, entry));
        Held { token: lease.token, standing: receiver, leases: self.clone() }
    }

    /// Has all leases renewed before it is their turn.
    pub(crate) fn renew_now(&self) {
        self.early.notify_one();
    }

    /// Renews all leases, over and over, until `stop`.
    pub(crate) async fn keep(&self, store: &dyn TaskStore, policy: &ScopePolicy, stop: &CancellationToken) {
        let mut changes = policy.changes();
        let mut pause = renew_period(policy.load().policy().queue.lease_ms);
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                // Leases that are claimed from now on may be over before the pause is. The sender lives in `policy`.
                _ = changes.changed() => {}
                () = self.early.notified() => {}
                () = stop.cancelled() => return,
            }
            let started = Instant::now();
            let active = policy.load();
            let period = renew_period(active.policy().queue.lease_ms);
            pause = if self.renew(store, &active).await {
                period.saturating_sub(started.elapsed())
            } else {
                backoff::reconnect().min(period)
            };
        }
    }

    /// Renews every lease once; false when a call failed.
    async fn renew(&self, store: &dyn TaskStore, active: &ActivePolicy) -> bool {
        let lease_ms = active.policy().queue.lease_ms;
        let all: Vec<(TaskId, FencingToken)> =
            self.entries(|held| held.iter().map(|(token, entry)| (entry.task_id.clone(), *token)).collect());
        let mut answered = true;
        for batch in all.chunks(RENEW_BATCH) {
            let sent = Instant::now();
            self.expect_no_longer(batch, trusted_until(sent, lease_ms));
            match store.renew(active.compiled(), batch).await {
                Ok(renewals) if renewals.len() == batch.len() => {
                    for ((_, token), renewal) in batch.iter().zip(renewals) {
                        self.note(*token, renewal, trusted_until(sent, lease_ms));
                    }
                }
                Ok(renewals) => {
                    tracing::error!(sent = batch.len(), answered = renewals.len(), "renewal answered another batch");
                    answered = false;
                }
                Err(fault) => {
                    store::failed("renew", &fault);
                    answered = false;
                }
            }
        }
        answered
    }

    /// From here on none is trusted for longer than the renewal that is being sent grants.
    fn expect_no_longer(&self, batch: &[(TaskId, FencingToken)], until: Instant) {
        self.entries(|held| {
            for entry in batch.iter().filter_map(|(_, token)| held.get(token)) {
                entry.standing.send_if_modified(|standing| standing.expect_no_longer(until));
            }
        });
    }

    fn note(&self, token: FencingToken, renewal: Renewal, until: Instant) {
        metric::renewal(match renewal {
            Renewal::Held => "held",
            Renewal::Cancelled => "cancelled",
            Renewal::Lost => "lost",
        });
        self.entries(|held| {
            // Settled while the call was in flight: its answer is about the past.
            let Some(entry) = held.get(&token) else { return };
            entry.standing.send_modify(|standing| standing.note(renewal, until));
        });
    }

    fn entries<T>(&self, work: impl FnOnce(&mut HashMap<FencingToken, Entry>) -> T) -> T {
        // No holder of this lock can panic half-way through a change, so a poisoned map is still whole.
        work(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Held {
    /// Resolves when the attempt may not go on.
    pub(crate) async fn ended(&self) -> LeaseEnd {
        let mut standing = self.standing.clone();
        loop {
            let now = *standing.borrow_and_update();
            if let Some(end) = now.end(Instant::now()) {
                return end;
            }
            tokio::select! {
                () = sleep_until(now.trusted_until) => {}
                // The sender lives in the entry, which lives as long as we do.
                _ = standing.changed() => {}
            }
        }
    }

    /// Whether nobody else can hold the task yet.
    pub(crate) fn trusted(&self) -> bool {
        self.standing.borrow().is_trusted(Instant::now())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.entries(|held| held.remove(&self.token));
    }
}

#[cfg(test)]
mod tests;
