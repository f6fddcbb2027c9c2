//! Everything the clients of a run did.
//!
//! Responsible for having every call exactly once, with what came of it. Must never grow without a bound: a journal
//! that is full ends the load, and says so.
//!
//! A call takes some 350 bytes: 208 in place, the rest for its kind, the ids and the code of its answer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::meter::Meter;
use crate::record::{Call, Caller};

/// Most calls of a run: some 1 GB.
const MAX_CALLS: usize = 3_000_000;

/// The account of a load.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Everybody who could call, by number.
    pub callers: Vec<Caller>,
    /// Every call, in the order in which they ended.
    pub calls: Vec<Call>,
    /// Whether the load was ended early because no more calls could be kept.
    pub full: bool,
    /// Clients that would have come back, had not too many been waiting already.
    pub hung_up: u64,
}

/// Where calls are written while a load runs. Clones write to the same.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    calls: Arc<Mutex<Vec<Call>>>,
    max_calls: usize,
    meter: Meter,
    full: CancellationToken,
}

impl Pages {
    /// Empty pages; `full` is cancelled when there is no more room.
    pub(super) fn new(meter: Meter, full: CancellationToken) -> Self {
        Self { calls: Arc::default(), max_calls: MAX_CALLS, meter, full }
    }

    /// Writes down a call that is over.
    pub(super) fn write(&self, call: Call) {
        self.meter.ended(&call);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.push(call);
        // What is in flight now is written down too, so the bound is passed by that at most.
        if calls.len() >= self.max_calls {
            self.full.cancel();
        }
    }

    /// Everything that was written.
    pub(super) fn close(&self, callers: Vec<Caller>, hung_up: u64) -> Journal {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let full = calls.len() >= self.max_calls;
        Journal { callers, calls, full, hung_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Outcome;

    #[test]
    fn a_call_takes_as_much_room_as_is_said() {
        assert!(size_of::<Call>() <= 208, "{}", size_of::<Call>());
    }

    #[test]
    fn a_full_journal_ends_the_load_and_keeps_what_comes_after() {
        let full = CancellationToken::new();
        let mut pages = Pages::new(Meter::default(), full.clone());
        pages.max_calls = 2;
        for request in 0..3 {
            assert_eq!(full.is_cancelled(), request == 2);
            pages.write(Call {
                caller: 0,
                request,
                repetition: 0,
                gateway: 0,
                kind: String::new(),
                intended_us: 0,
                sent_us: 0,
                ended_us: 0,
                outcome: Outcome::Failed { why: "timeout".to_owned(), sent: true },
            });
        }
        let journal = pages.close(Vec::new(), 0);
        assert_eq!((journal.calls.len(), journal.full), (3, true));
    }
}
