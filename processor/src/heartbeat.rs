//! This processor is alive and has this capacity: said at start, at regular intervals, and whenever it changes.
//!
//! Responsible for gateways never counting on slots that are not there: a draining processor says so at once; and for
//! saying that a policy is held only when nothing can be claimed under the one before any more. Must never touch a
//! lease: that a process lives says nothing about any of its attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_lua::{Heartbeat, PolicyStamp, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
use crate::follower::Heard;
use crate::policy::ActivePolicy;
use crate::worker::Occupancy;
use crate::{backoff, metric, store};

/// Longest time between two heartbeats.
const PERIOD_MAX: Duration = Duration::from_secs(1);

/// Whether Redis answers and since when, as far as the heartbeats can tell. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Untried,
    AnsweringSince(Instant),
    Silent,
}

impl Contact {
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::new(State::Untried) }
    }

    /// Whether Redis has been answering for this long without a break.
    pub(crate) fn steady_for(&self, span: Duration) -> bool {
        matches!(*self.state.borrow(), State::AnsweringSince(since) if since.elapsed() >= span)
    }

    /// Notes the answer to one heartbeat, and says when it makes a difference.
    fn note(&self, answer: &Result<PolicyStamp, StoreError>) {
        let before = *self.state.borrow();
        let after = match (before, answer) {
            (State::AnsweringSince(_), Ok(_)) => before,
            (_, Ok(_)) => State::AnsweringSince(Instant::now()),
            (_, Err(_)) => State::Silent,
        };
        match (before, answer) {
            (State::Silent, Ok(_)) => tracing::info!("redis answers again"),
            (State::Untried | State::AnsweringSince(_), Err(fault)) => tracing::warn!(%fault, "redis does not answer"),
            _ => {}
        }
        self.state.send_replace(after);
    }
}

/// Who says it, and what changes between two heartbeats.
pub(crate) struct Pulse {
    pub(crate) worker: String,
    pub(crate) instance: String,
    pub(crate) version: String,
    pub(crate) runner: Arc<Runner>,
    pub(crate) occupancy: Arc<Occupancy>,
    pub(crate) contact: Contact,
    /// Takes what each answer says is stored: the slow poll that makes up for lost messages.
    pub(crate) heard: watch::Sender<Heard>,
    pub(crate) drain: CancellationToken,
}

impl Pulse {
    /// Beats until `stop`, through any outage.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let (mut changes, mut claiming) = (self.runner.policy.changes(), self.occupancy.claiming.subscribe());
        loop {
            let draining = self.drain.is_cancelled();
            // Before the policy is loaded: a change in between is said once too often, not once too little.
            changes.mark_unchanged();
            let in_force = self.runner.policy.load();
            let active = claiming.borrow_and_update().clone().unwrap_or_else(|| Arc::clone(&in_force));
            let behind = !Arc::ptr_eq(&active, &in_force);
            let answer = self.runner.store.heartbeat(active.compiled(), &self.beat(&active, draining)).await;
            self.contact.note(&answer);
            let pause = match answer {
                Ok(stored) => {
                    self.heard.send_replace(Heard { held: in_force.compiled().stamp(), stored });
                    // A fifth, so that one may be late and three be lost before we count for nothing.
                    let timeout_seconds = active.policy().monitoring.heartbeat_timeout_seconds;
                    (Duration::from_secs(timeout_seconds) / 5).min(PERIOD_MAX)
                }
                Err(fault) => {
                    store::failed("heartbeat", &fault);
                    backoff::reconnect()
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                // The sender lives in the runner's policy.
                _ = changes.changed() => {}
                _ = claiming.changed(), if behind => {}
                () = self.drain.cancelled(), if !draining => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn beat(&self, active: &ActivePolicy, draining: bool) -> Heartbeat {
        let slots = self.occupancy.slots(active.policy());
        let running = self.occupancy.running.load(Ordering::Relaxed);
        let policy_revision = active.compiled().revision();
        metric::occupancy(running, slots, draining);
        metric::policy_revision(policy_revision);
        Heartbeat {
            worker: self.worker.clone(),
            instance: self.instance.clone(),
            slots,
            running,
            draining,
            version: self.version.clone(),
            policy_revision,
            policy_fault: self.runner.policy.fault(),
            kinds: self.runner.handlers.kinds(),
        }
    }
}

#[cfg(test)]
mod tests;
