//! This processor is alive and has this capacity: said at start, at regular intervals, and whenever it changes.
//!
//! Responsible for gateways never counting on slots that are not there: a draining processor says so at once. Must
//! never touch a lease: that a process lives says nothing about any of its attempts.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_lua::{Heartbeat, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
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
    fn note(&self, answer: &Result<(), StoreError>) {
        let before = *self.state.borrow();
        let after = match (before, answer) {
            (State::AnsweringSince(_), Ok(())) => before,
            (_, Ok(())) => State::AnsweringSince(Instant::now()),
            (_, Err(_)) => State::Silent,
        };
        match (before, answer) {
            (State::Silent, Ok(())) => tracing::info!("redis answers again"),
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
    pub(crate) drain: CancellationToken,
}

impl Pulse {
    /// Beats until `stop`, through any outage.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let mut policy = self.runner.policy.follow();
        loop {
            let draining = self.drain.is_cancelled();
            let timeout_seconds = policy.borrow_and_update().policy.monitoring.heartbeat_timeout_seconds;
            let answer = self.runner.store.heartbeat(&self.beat(draining)).await;
            self.contact.note(&answer);
            let pause = match answer {
                // A fifth, so that one may be late and three be lost before we count for nothing.
                Ok(()) => (Duration::from_secs(timeout_seconds) / 5).min(PERIOD_MAX),
                Err(fault) => {
                    store::failed("heartbeat", &fault);
                    backoff::reconnect()
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                // The sender lives in the handle, which the runner holds.
                _ = policy.changed() => {}
                () = self.drain.cancelled(), if !draining => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn beat(&self, draining: bool) -> Heartbeat {
        let slots = self.occupancy.slots(&self.runner);
        let running = self.occupancy.running.load(Ordering::Relaxed);
        metric::occupancy(running, slots, draining);
        Heartbeat {
            worker: self.worker.clone(),
            instance: self.instance.clone(),
            slots,
            running,
            draining,
            version: self.version.clone(),
            policy_revision: self.runner.policy.load().compiled.revision(),
            kinds: self.runner.handlers.kinds(),
        }
    }
}

#[cfg(test)]
mod tests;
