//! Settlements that Redis answers with an error, apart from those it has not seen yet.
//!
//! Responsible for each of them having a pause of its own, so that what Redis does not take costs the others nothing.
//! Their leases are renewed meanwhile. Must never hold more than [`ASIDE`], and never let finished work go while there
//! is something here that was not run: a task without a result only waits for its lease to lapse and is claimed again.

use portcullis_lua::Outcome;
use tokio::time::Instant;

use super::Ended;
use crate::backoff;

/// Most settlements set aside: as many again as may wait for a call.
pub(super) const ASIDE: usize = 64;

/// A settlement that was sent alone and refused.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) ended: Ended,
    /// How often in a row.
    pub(super) failures: u32,
    due: Instant,
}

/// All that are set aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    refused: Vec<Refused>,
}

impl Aside {
    /// When the first of them is to be sent again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.refused.iter().map(|refused| refused.due).min()
    }

    /// Takes out the one that is due the longest, if any is.
    pub(super) fn take_due(&mut self) -> Option<Refused> {
        let now = Instant::now();
        let due = self.refused.iter().enumerate().filter(|(_, refused)| refused.due <= now);
        let (first, _) = due.min_by_key(|(_, refused)| refused.due)?;
        Some(self.refused.swap_remove(first))
    }

    /// Sets aside what was refused this often in a row. Where there is no room, answers whom it was made at the expense
    /// of, or that there is none to be made.
    pub(super) fn put(&mut self, ended: Ended, failures: u32) -> Put {
        let refused = Refused { ended, failures, due: Instant::now() + backoff::refused(failures) };
        if self.refused.len() < ASIDE {
            self.refused.push(refused);
            return Put::Kept;
        }
        if !is_work(&refused.ended) {
            return Put::InsteadOf(refused.ended);
        }
        match self.refused.iter_mut().find(|other| !is_work(&other.ended)) {
            Some(other) => Put::InsteadOf(std::mem::replace(other, refused).ended),
            None => Put::Full(refused.ended),
        }
    }

    /// Empties it.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Ended> + '_ {
        self.refused.drain(..).map(|refused| refused.ended)
    }
}

/// What became of one that was to be set aside.
#[derive(Debug)]
pub(super) enum Put {
    /// It is here.
    Kept,
    /// There was no room for this one, which was not run.
    InsteadOf(Ended),
    /// All that is here is finished work, and so is this.
    Full(Ended),
}

/// Whether a handler would have to do it again.
fn is_work(ended: &Ended) -> bool {
    matches!(ended.settlement.outcome, Outcome::Succeeded { .. } | Outcome::Failed { .. } | Outcome::Retry { .. })
}
