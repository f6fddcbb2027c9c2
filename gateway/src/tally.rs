//! Counts of this gateway's decisions, on their way into the scope's statistics.
//!
//! Responsible for counting every decision once, the script's as well as those repeated from memory, for telling those
//! apart that no decision event tells of, and for handing the sums over in aggregate. Must never cost a decision a call
//! of its own: a flood of refusals is one call a second.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_config::UserType;
use portcullis_lua::{TALLY_BATCH, TallyEntry, TallyFlush, TaskId};

/// What has been decided and is not in the statistics yet.
#[derive(Debug)]
pub(crate) struct Tally {
    counter: String,
    counts: Mutex<Counts>,
}

/// Sums by code and user type: bounded by the product of the two, and in practice so few that a list is searched faster
/// than names are hashed.
#[derive(Debug, Default)]
struct Counts {
    sums: Vec<Sum>,
    /// Flushes there have been.
    flushes: u64,
    /// The last of them, until it is known to be written: it may have been, so it must not change.
    pending: Option<Arc<TallyFlush>>,
}

#[derive(Debug)]
struct Sum {
    code: &'static str,
    user_type: UserType,
    count: u64,
    unrecorded: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { counter: TaskId::generate().to_string(), counts: Mutex::default() }
    }

    /// Counts one decision: `admitted`, `replayed`, or a refusal's code; `recorded`: a decision event tells of it.
    pub(crate) fn count(&self, code: &'static str, user_type: &UserType, recorded: bool) {
        self.counts().add(code, user_type, recorded);
    }

    /// What is to be written next; the same again until it is [`written`](Self::written). `None` when nothing is left.
    pub(crate) fn next_flush(&self) -> Option<Arc<TallyFlush>> {
        let mut counts = self.counts();
        if counts.pending.is_none() && !counts.sums.is_empty() {
            let most = counts.sums.len().min(TALLY_BATCH);
            let entries = counts.sums.drain(..most).map(Sum::entry).collect();
            counts.flushes += 1;
            let flush = TallyFlush { counter: self.counter.clone(), number: counts.flushes, entries };
            counts.pending = Some(Arc::new(flush));
        }
        counts.pending.clone()
    }

    /// This flush is in the statistics.
    pub(crate) fn written(&self, flush: &TallyFlush) {
        let mut counts = self.counts();
        if counts.pending.as_ref().is_some_and(|pending| pending.number == flush.number) {
            counts.pending = None;
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Called for every decision: it copies the name only when it is new.
    fn add(&mut self, code: &'static str, user_type: &UserType, recorded: bool) {
        let unrecorded = u64::from(!recorded);
        let same = |sum: &&mut Sum| sum.code == code && sum.user_type == *user_type;
        match self.sums.iter_mut().find(same) {
            Some(sum) => (sum.count, sum.unrecorded) = (sum.count + 1, sum.unrecorded + unrecorded),
            None => self.sums.push(Sum { code, user_type: user_type.clone(), count: 1, unrecorded }),
        }
    }
}

impl Sum {
    fn entry(self) -> TallyEntry {
        let (code, user_type) = (self.code.to_owned(), self.user_type.to_string());
        TallyEntry { code, user_type, count: self.count, unrecorded: self.unrecorded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_stays_what_it_is_until_it_is_written_and_every_count_is_in_one() {
        let (tally, paid) = (Tally::new(), UserType::new("paid").unwrap());
        tally.count("burst_limit", &paid, true);
        tally.count("burst_limit", &paid, false);
        let first = tally.next_flush().unwrap();
        tally.count("burst_limit", &paid, false);
        assert_eq!(tally.next_flush().unwrap(), first, "it may have been written");
        tally.written(&first);
        let second = tally.next_flush().unwrap();
        tally.written(&first);
        assert_eq!(tally.next_flush().unwrap(), second, "another one was written");
        tally.written(&second);
        assert_eq!(tally.next_flush(), None);
        let said = [&first, &second].map(|flush| {
            let [entry] = &flush.entries[..] else { panic!("{flush:?}") };
            (flush.number, entry.code.as_str(), entry.user_type.as_str(), entry.count, entry.unrecorded)
        });
        assert_eq!(said, [(1, "burst_limit", "paid", 2, 1), (2, "burst_limit", "paid", 1, 1)]);
    }

    #[test]
    fn no_flush_is_larger_than_one_call_takes() {
        let tally = Tally::new();
        for number in 0..=TALLY_BATCH {
            tally.count("admitted", &UserType::new(format!("type-{number}")).unwrap(), true);
        }
        let sizes: Vec<usize> = std::iter::from_fn(|| tally.next_flush())
            .map(|flush| {
                tally.written(&flush);
                flush.entries.len()
            })
            .collect();
        assert_eq!(sizes, [TALLY_BATCH, 1]);
    }
}
