//! Outcomes on their way to Redis, always with the fencing token of their lease.
//!
//! Settlements that gather while a call is in flight go together in the next one. Responsible for never losing a
//! settlement that may still count: while Redis cannot be reached each one is kept and sent again, even past the trust
//! window of its lease, because the token alone decides whether it was in time and finished work is expensive. Must
//! never interpret a stale answer: somebody else has the task, or an earlier sending had arrived after all.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_lua::{Lease, Outcome, Purpose, Settled, Settlement, StoreError};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::handler::error;
use crate::lease::Held;
use crate::store::{self, TaskStore};
use crate::{backoff, metric};

/// Most settlements in one call.
const BATCH: usize = 16;

/// Results in one call, bytes; a single larger one goes alone.
const BATCH_BYTES: usize = 256 * 1024;

/// Ended attempts waiting for a call; beyond it they keep their slots.
pub(crate) const WAITING: usize = 64;

/// An attempt that is over, its lease kept until it is settled.
#[derive(Debug)]
pub(crate) struct Ended {
    settlement: Settlement,
    held: Held,
}

impl Ended {
    pub(crate) fn new(mut lease: Lease, outcome: Outcome, held: Held) -> Self {
        lease.payload = Bytes::new();
        Self { settlement: Settlement { lease, outcome }, held }
    }
}

/// What a lease that must not be run is settled as; `None` for one to run.
pub(crate) fn unrun(purpose: Purpose) -> Option<Outcome> {
    match purpose {
        Purpose::Run => None,
        Purpose::Expire => Some(Outcome::Expired),
        Purpose::Cancel => Some(Outcome::Cancelled),
        Purpose::Bury => {
            let detail = "the processor running the last attempt went away";
            Some(Outcome::Dead { error: error("lease_lapsed", detail) })
        }
        Purpose::Unreadable => {
            Some(Outcome::Dead { error: error("record_unreadable", "the task's record cannot be read") })
        }
    }
}

/// Sends settlements until all senders are gone and nothing is left.
pub(crate) struct Settler {
    store: Arc<dyn TaskStore>,
    ended: mpsc::Receiver<Ended>,
    pending: VecDeque<Ended>,
    /// Failed calls in a row.
    failures: u32,
    /// How many settlements to send one at a time since a call failed, so that one which Redis does not take cannot
    /// hold up the others.
    suspects: usize,
}

impl Settler {
    pub(crate) fn new(store: Arc<dyn TaskStore>, ended: mpsc::Receiver<Ended>) -> Self {
        Self { store, ended, pending: VecDeque::new(), failures: 0, suspects: 0 }
    }

    /// Runs until the last sender is dropped and everything is settled.
    pub(crate) async fn run(mut self) {
        while self.gather().await {
            let size = self.batch_size();
            let batch: Vec<Settlement> = self.pending.iter().take(size).map(|ended| ended.settlement.clone()).collect();
            match self.store.settle(&batch).await {
                Ok(answers) if answers.len() == size => self.settled(answers),
                Ok(answers) => {
                    let count = answers.len();
                    self.failed(size, &StoreError::Protocol(format!("{count} answers to {size} settlements"))).await;
                }
                Err(fault) => self.failed(size, &fault).await,
            }
        }
    }

    /// Waits for work and takes what is there; false when there will be no more.
    async fn gather(&mut self) -> bool {
        if self.pending.is_empty() {
            self.suspects = 0;
            match self.ended.recv().await {
                Some(ended) => self.pending.push_back(ended),
                None => return false,
            }
        }
        while self.pending.len() < BATCH
            && let Ok(ended) = self.ended.try_recv()
        {
            self.pending.push_back(ended);
        }
        true
    }

    fn batch_size(&self) -> usize {
        if self.suspects > 0 {
            return 1;
        }
        let mut bytes = 0;
        let fitting = self.pending.iter().take(BATCH).take_while(|ended| {
            bytes += match &ended.settlement.outcome {
                Outcome::Succeeded { result, .. } => result.body.len(),
                _ => 0,
            };
            bytes <= BATCH_BYTES
        });
        fitting.count().max(1)
    }

    fn settled(&mut self, answers: Vec<Settled>) {
        self.failures = 0;
        self.suspects = self.suspects.saturating_sub(answers.len());
        for (ended, answer) in self.pending.drain(..answers.len()).zip(answers) {
            match answer {
                Settled::Done(status) => metric::settlement(status.as_str()),
                Settled::Stale => {
                    metric::settlement("stale");
                    let lease = &ended.settlement.lease;
                    tracing::warn!(task_id = %lease.task_id, token = %lease.token, "settlement was stale");
                }
            }
        }
    }

    async fn failed(&mut self, size: usize, fault: &StoreError) {
        store::failed("settle", fault);
        self.failures = self.failures.saturating_add(1);
        if size == 1 {
            self.put_last(fault);
        }
        self.suspects = self.pending.len();
        sleep(backoff::resettle(self.failures)).await;
    }

    /// The head goes behind the others; unless Redis answered that it does not want it and its lease has lapsed.
    fn put_last(&mut self, fault: &StoreError) {
        let Some(ended) = self.pending.pop_front() else { return };
        if matches!(fault, StoreError::Unavailable(_)) || ended.held.trusted() {
            self.pending.push_back(ended);
            return;
        }
        metric::settlement("abandoned");
        let lease = &ended.settlement.lease;
        tracing::error!(task_id = %lease.task_id, token = %lease.token, %fault, "settlement given up");
    }
}

#[cfg(test)]
mod tests;
