//! Which passes are in flight, which have ended, and what is due.
//!
//! Responsible for each pass being in one of these lists and for their bounds. Must never wait: everything here is done
//! under one lock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{PassEnd, PassLease, PassOutcome, TaskId};
use tokio::time::Instant;

use super::PassScope;

/// Most passes that have ended and are not written yet: what more of them end during an outage lapse.
const MAX_ENDED: usize = 65_536;

/// An extension is due when this part of a lease is over, so that two may fail.
const EXTEND_AFTER: u32 = 3;

/// A pass in flight.
#[derive(Debug)]
struct Held {
    scope: Arc<PassScope>,
    lease: PassLease,
    extend_at: Instant,
}

/// A pass that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) scope: Arc<PassScope>,
    pub(super) end: PassEnd,
}

/// A pass to be extended.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) number: u64,
    pub(super) scope: Arc<PassScope>,
    pub(super) lease: PassLease,
}

/// All of a gateway's passes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    next: u64,
    held: HashMap<u64, Held>,
    /// When each of them is to be extended.
    due: BTreeSet<(Instant, u64)>,
    ended: VecDeque<Ended>,
    /// Not before, because Redis did not answer.
    write_at: Option<Instant>,
}

impl Kept {
    /// Its number, how many are in flight now, and whether it is the first that is to be extended.
    pub(super) fn keep(&mut self, scope: Arc<PassScope>, lease: PassLease, asked_at: Instant) -> (u64, usize, bool) {
        let number = self.next;
        self.next += 1;
        let extend_at = asked_at + third(&lease);
        self.due.insert((extend_at, number));
        self.held.insert(number, Held { scope, lease, extend_at });
        let first = self.due.first().is_some_and(|(_, first)| *first == number);
        (number, self.held.len(), first)
    }

    /// How many are in flight now, and whether the end is going to be written. One that has lapsed has been told so.
    pub(super) fn end(
        &mut self,
        number: u64,
        outcome: PassOutcome,
        usage: Vec<(String, u64)>,
        answered_ms: Option<u64>,
    ) -> (usize, bool) {
        let Some(Held { scope, lease, extend_at }) = self.held.remove(&number) else { return (self.held.len(), true) };
        self.due.remove(&(extend_at, number));
        let room = self.ended.len() < MAX_ENDED;
        if room {
            self.ended.push_back(Ended { scope, end: PassEnd { lease, outcome, usage, answered_ms } });
        }
        (self.held.len(), room)
    }

    /// What has ended, in batches of one scope of at most `most`.
    pub(super) fn take_ended(&mut self, now: Instant, most: usize) -> Vec<Vec<Ended>> {
        if self.write_at.is_some_and(|write_at| now < write_at) {
            return Vec::new();
        }
        self.write_at = None;
        batches(std::mem::take(&mut self.ended), |ended| &ended.scope, most)
    }

    /// These are still to be written, but not before this time.
    pub(super) fn put_back(&mut self, ended: Vec<Ended>, write_at: Instant) {
        ended.into_iter().rev().for_each(|ended| self.ended.push_front(ended));
        self.write_at = Some(write_at);
    }

    /// What is to be extended now, in batches of one scope of at most `most`. Each is due again after a third of its
    /// lease, whatever becomes of this.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<Vec<Extension>> {
        let due: Vec<u64> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number).collect();
        let mut extensions = Vec::with_capacity(due.len());
        for number in due {
            self.extended(number, now);
            if let Some(Held { scope, lease, .. }) = self.held.get(&number) {
                extensions.push(Extension { number, scope: scope.clone(), lease: lease.clone() });
            }
        }
        batches(extensions, |extension| &extension.scope, most)
    }

    /// Its lease was extended at this time.
    pub(super) fn extended(&mut self, number: u64, at: Instant) {
        if let Some(held) = self.held.get(&number) {
            self.extend_at(number, at + third(&held.lease));
        }
    }

    /// It is to be extended at this time.
    pub(super) fn extend_at(&mut self, number: u64, at: Instant) {
        if let Some(held) = self.held.get_mut(&number) {
            self.due.remove(&(held.extend_at, number));
            held.extend_at = at;
            self.due.insert((at, number));
        }
    }

    /// It has lapsed: there is nothing left to give back.
    pub(super) fn forget(&mut self, number: u64) {
        if let Some(held) = self.held.remove(&number) {
            self.due.remove(&(held.extend_at, number));
        }
    }

    /// Somebody else ends it. How many are in flight now, and its id if it has not lapsed.
    pub(super) fn hand_over(&mut self, number: u64) -> (usize, Option<TaskId>) {
        let held = self.held.remove(&number);
        if let Some(held) = &held {
            self.due.remove(&(held.extend_at, number));
        }
        (self.held.len(), held.map(|held| held.lease.pass_id))
    }

    /// When there is something to do; `None`: not before something ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let extension = self.due.first().map(|(at, _)| *at);
        let write = if self.ended.is_empty() { None } else { Some(self.write_at.unwrap_or_else(Instant::now)) };
        extension.into_iter().chain(write).min()
    }
}

fn third(lease: &PassLease) -> Duration {
    Duration::from_millis(lease.lease_ms) / EXTEND_AFTER
}

/// Parts these by scope, in their order, into batches of at most `most`.
fn batches<T>(all: impl IntoIterator<Item = T>, scope: impl Fn(&T) -> &Arc<PassScope>, most: usize) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    // The latest batch of each scope.
    let mut open: HashMap<*const PassScope, usize> = HashMap::new();
    for each in all {
        let place = open.entry(Arc::as_ptr(scope(&each))).or_insert(usize::MAX);
        if batches.get(*place).is_none_or(|batch| batch.len() >= most) {
            *place = batches.len();
            batches.push(Vec::new());
        }
        if let Some(batch) = batches.get_mut(*place) {
            batch.push(each);
        }
    }
    batches
}

#[cfg(test)]
mod tests;
