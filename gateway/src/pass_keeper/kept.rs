//! Which passes are in flight, which have ended, and what is due.
//!
//! Responsible for each pass being in one of these lists and for their bounds. Must never wait: everything here is done
//! under one lock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{PassEnd, PassEnded, PassExtension, PassHead, PassLease, PassOutcome, TaskId};
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
    /// It cannot have lapsed before.
    lasts_until: Instant,
    /// How its answer began, until that is told.
    head: Option<PassHead>,
}

/// A pass that is over.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) scope: Arc<PassScope>,
    pub(super) end: PassEnd,
    /// It cannot have lapsed before.
    lasts_until: Instant,
    /// It was said before, and nobody knows with what effect.
    said: bool,
}

impl Ended {
    /// Whether what its end says counts for nothing, by the answer to saying it at `said_at`. One that was said before,
    /// and has ended although it cannot have lapsed, was ended then.
    pub(super) fn is_lost(&self, answer: PassEnded, said_at: Instant) -> bool {
        match answer {
            PassEnded::Now => false,
            PassEnded::Before => !self.said || said_at >= self.lasts_until,
            PassEnded::Refused => true,
        }
    }
}

/// A pass to be extended.
#[derive(Debug)]
pub(super) struct ToExtend {
    pub(super) number: u64,
    pub(super) scope: Arc<PassScope>,
    pub(super) extension: PassExtension,
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
        let (extend_at, lasts_until) = (asked_at + third(&lease), asked_at + length(&lease));
        self.due.insert((extend_at, number));
        self.held.insert(number, Held { scope, lease, extend_at, lasts_until, head: None });
        let first = self.due.first().is_some_and(|(_, first)| *first == number);
        (number, self.held.len(), first)
    }

    /// Its answer has begun: told with its next extension.
    pub(super) fn answered(&mut self, number: u64, head: PassHead) {
        if let Some(held) = self.held.get_mut(&number) {
            held.head = Some(head);
        }
    }

    /// How many are in flight now, and whether the end is going to be written. One that has lapsed has been told so.
    pub(super) fn end(
        &mut self,
        number: u64,
        outcome: PassOutcome,
        usage: Vec<(String, u64)>,
        answered_ms: Option<u64>,
    ) -> (usize, bool) {
        let Some(held) = self.held.remove(&number) else { return (self.held.len(), true) };
        let Held { scope, lease, extend_at, lasts_until, .. } = held;
        self.due.remove(&(extend_at, number));
        let room = self.ended.len() < MAX_ENDED;
        if room {
            let end = PassEnd { lease, outcome, usage, answered_ms };
            self.ended.push_back(Ended { scope, end, lasts_until, said: false });
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
        ended.into_iter().rev().for_each(|ended| self.ended.push_front(Ended { said: true, ..ended }));
        self.write_at = Some(write_at);
    }

    /// What is to be extended now, in batches of one scope of at most `most`. Each is due again after a third of its
    /// lease, whatever becomes of this.
    pub(super) fn take_due(&mut self, now: Instant, most: usize) -> Vec<Vec<ToExtend>> {
        let due: Vec<u64> = self.due.iter().take_while(|(at, _)| *at <= now).map(|(_, number)| *number).collect();
        let mut extensions = Vec::with_capacity(due.len());
        for number in due {
            let Some(held) = self.held.get_mut(&number) else { continue };
            let again_at = now + third(&held.lease);
            let extension = PassExtension { lease: held.lease.clone(), head: held.head.take() };
            extensions.push(ToExtend { number, scope: held.scope.clone(), extension });
            self.extend_at(number, again_at);
        }
        batches(extensions, |due| &due.scope, most)
    }

    /// What became of an extension that was asked for at `at`. One that is not held any more has lapsed: its request
    /// goes on, but counts for nothing, and there is nothing left to give back. Whether that is news: of one that has
    /// ended meanwhile its end tells.
    pub(super) fn was_extended(&mut self, number: u64, held: bool, at: Instant) -> bool {
        let Some(entry) = self.held.get_mut(&number) else { return false };
        if held {
            entry.lasts_until = at + length(&entry.lease);
            let again_at = at + third(&entry.lease);
            self.extend_at(number, again_at);
            return false;
        }
        self.due.remove(&(entry.extend_at, number));
        self.held.remove(&number);
        true
    }

    /// Nobody knows whether it was extended: it is to be again at this time, and its answer's beginning told again.
    pub(super) fn not_extended(&mut self, due: &ToExtend, at: Instant) {
        if let Some(held) = self.held.get_mut(&due.number) {
            held.head = held.head.or(due.extension.head);
        }
        self.extend_at(due.number, at);
    }

    /// It is to be extended at this time.
    fn extend_at(&mut self, number: u64, at: Instant) {
        if let Some(held) = self.held.get_mut(&number) {
            self.due.remove(&(held.extend_at, number));
            held.extend_at = at;
            self.due.insert((at, number));
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

fn length(lease: &PassLease) -> Duration {
    Duration::from_millis(lease.lease_ms)
}

fn third(lease: &PassLease) -> Duration {
    length(lease) / EXTEND_AFTER
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
