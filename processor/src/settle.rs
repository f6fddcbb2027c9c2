//! Outcomes on their way to Redis, always with the fencing token of their lease.
//!
//! Settlements that gather while a call is in flight go together in the next one. Responsible for never losing a
//! settlement that may still count: while Redis cannot be reached each one is kept and sent again, even past the trust
//! window of its lease, because the token alone decides whether it was in time and finished work is expensive. One that
//! Redis refuses is set aside, so that the others are settled without it. Must never interpret a stale answer: somebody
//! else has the task, or an earlier sending had arrived after all.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_lua::{Lease, Outcome, Purpose, Settled, Settlement, StoreError};
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout_at};

use crate::handler::error;
use crate::lease::Held;
use crate::store::{self, TaskStore};
use crate::{backoff, metric};

mod aside;

use aside::{Aside, Put, Refused};

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
    /// Those that Redis does not take.
    aside: Aside,
}

impl Settler {
    pub(crate) fn new(store: Arc<dyn TaskStore>, ended: mpsc::Receiver<Ended>) -> Self {
        Self { store, ended, pending: VecDeque::new(), failures: 0, suspects: 0, aside: Aside::default() }
    }

    /// Runs until the last sender is dropped and everything is settled.
    pub(crate) async fn run(mut self) {
        while self.gather().await {
            // One between two batches: neither holds up the other.
            if let Some(refused) = self.aside.take_due() {
                self.send_again(refused).await;
            }
            if !self.pending.is_empty() {
                self.send().await;
            }
        }
    }

    /// Waits for something to send and takes what is there; false when there will be no more.
    async fn gather(&mut self) -> bool {
        if self.pending.is_empty() {
            self.suspects = 0;
            let due = self.aside.next_due();
            let arrived = match due {
                Some(due) => timeout_at(due, self.ended.recv()).await.ok(),
                None => Some(self.ended.recv().await),
            };
            match (arrived, due) {
                (Some(Some(ended)), _) => self.pending.push_back(ended),
                (Some(None), Some(due)) => sleep_until(due).await,
                (Some(None), None) => return false,
                (None, _) => {}
            }
        }
        while self.pending.len() < BATCH
            && let Ok(ended) = self.ended.try_recv()
        {
            self.pending.push_back(ended);
        }
        true
    }

    async fn send(&mut self) {
        let size = self.batch_size();
        let batch: Vec<Settlement> = self.pending.iter().take(size).map(|ended| ended.settlement.clone()).collect();
        match self.call(&batch).await {
            Ok(answers) => {
                self.failures = 0;
                self.suspects = self.suspects.saturating_sub(size);
                for (ended, answer) in self.pending.drain(..size).zip(answers) {
                    settled(&ended, answer);
                }
            }
            Err(fault) => {
                store::failed("settle", &fault);
                self.failed(size, &fault).await;
            }
        }
    }

    /// One answer for each, or none for any.
    async fn call(&self, batch: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let answers = self.store.settle(batch).await?;
        if answers.len() == batch.len() {
            return Ok(answers);
        }
        Err(StoreError::Protocol(format!("{} answers to {} settlements", answers.len(), batch.len())))
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

    async fn failed(&mut self, size: usize, fault: &StoreError) {
        if matches!(fault, StoreError::Unavailable(_)) {
            if size == 1 {
                self.pending.rotate_left(1);
            }
            self.wait().await;
        } else if size > 1 {
            // One of them may be all that Redis does not take.
            self.suspects = self.pending.len();
        } else if let Some(ended) = self.pending.pop_front() {
            self.suspects = self.suspects.saturating_sub(1);
            let lease = &ended.settlement.lease;
            tracing::warn!(task_id = %lease.task_id, token = %lease.token, %fault, "settlement refused: set aside");
            self.set_aside(ended, 1, fault).await;
        }
    }

    async fn send_again(&mut self, Refused { ended, failures, .. }: Refused) {
        match self.call(std::slice::from_ref(&ended.settlement)).await {
            Ok(answers) => {
                self.failures = 0;
                for answer in answers {
                    settled(&ended, answer);
                }
            }
            Err(fault @ StoreError::Unavailable(_)) => {
                store::failed("settle", &fault);
                self.set_aside(ended, failures, &fault).await;
                self.wait().await;
            }
            Err(fault) => {
                // Said once, when it was set aside.
                metric::store_error("settle");
                let task_id = &ended.settlement.lease.task_id;
                tracing::debug!(%task_id, failures, %fault, "settlement refused again");
                self.set_aside(ended, failures.saturating_add(1), &fault).await;
            }
        }
    }

    /// It waits for its own turn, unless Redis answered that it does not want it and its lease has lapsed. Where there
    /// is no room for it nothing else is taken on until there is.
    async fn set_aside(&mut self, ended: Ended, failures: u32, fault: &StoreError) {
        let answered = !matches!(fault, StoreError::Unavailable(_));
        if answered && !ended.held.trusted() {
            given_up(&ended, fault);
            return;
        }
        match self.aside.put(ended, failures) {
            Put::Kept => {}
            Put::InsteadOf(other) => given_up(&other, fault),
            Put::Full(ended) => {
                self.pending.push_back(ended);
                self.wait().await;
            }
        }
    }

    /// Before anything is sent again, each alone.
    async fn wait(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.suspects = self.pending.len();
        sleep(backoff::resettle(self.failures)).await;
    }
}

impl Drop for Settler {
    /// Says what is left, if it is not let finish.
    fn drop(&mut self) {
        self.ended.close();
        let waiting = std::iter::from_fn(|| self.ended.try_recv().ok());
        for ended in self.pending.drain(..).chain(self.aside.drain()).chain(waiting) {
            metric::settlement("left");
            let lease = &ended.settlement.lease;
            tracing::warn!(task_id = %lease.task_id, token = %lease.token, "not settled: its lease will lapse");
        }
    }
}

fn settled(ended: &Ended, answer: Settled) {
    match answer {
        Settled::Done(status) => metric::settlement(status.as_str()),
        Settled::Stale => {
            metric::settlement("stale");
            let lease = &ended.settlement.lease;
            tracing::warn!(task_id = %lease.task_id, token = %lease.token, "settlement was stale");
        }
    }
}

/// Its lease is kept no longer: whoever takes it over decides anew.
fn given_up(ended: &Ended, fault: &StoreError) {
    metric::settlement("abandoned");
    let lease = &ended.settlement.lease;
    tracing::error!(task_id = %lease.task_id, token = %lease.token, %fault, "settlement given up");
}

#[cfg(test)]
mod tests;
