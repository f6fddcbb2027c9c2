//! Who believes to hold which task, and until when.
//!
//! Responsible for the point of the trust window: that nobody believes to hold a task while somebody else has a newer
//! token for it. Must never excuse a lease that was granted or extended after the disturbance.

use std::collections::BTreeMap;
use std::fmt;

use portcullis_lua::{FencingToken, TaskId};

use crate::simulate::plan::Place;
use crate::simulate::trace::time;

/// A holder's trust in its lease.
#[derive(Clone, Debug)]
pub(in crate::simulate) struct Claim {
    pub(in crate::simulate) task_id: TaskId,
    pub(in crate::simulate) holder: Place,
    /// When its own clock shows the end of the trust, true time.
    pub(in crate::simulate) until_us: u64,
    /// When the call was sent that granted or extended the lease.
    pub(in crate::simulate) sent_us: u64,
}

/// Everybody's trust, by token.
#[derive(Debug, Default)]
pub(super) struct Beliefs {
    claims: BTreeMap<FencingToken, Claim>,
    /// Leases of calls sent until then may lapse before their time.
    excused_until_us: Option<u64>,
}

impl Beliefs {
    pub(super) fn insert(&mut self, token: FencingToken, claim: Claim) {
        self.claims.insert(token, claim);
    }

    pub(super) fn shorten(&mut self, token: FencingToken, until_us: u64) {
        if let Some(claim) = self.claims.get_mut(&token) {
            claim.until_us = claim.until_us.min(until_us);
        }
    }

    pub(super) fn remove(&mut self, token: FencingToken) {
        self.claims.remove(&token);
    }

    pub(super) fn excuse(&mut self, now_us: u64) {
        self.excused_until_us = Some(now_us);
    }

    pub(super) fn is_excused(&self, claim: &Claim) -> bool {
        self.excused_until_us.is_some_and(|until_us| claim.sent_us <= until_us)
    }

    /// Somebody who trusts a lease of this task under another token.
    pub(super) fn other_holder(&self, now_us: u64, task_id: &TaskId, token: FencingToken) -> Option<&Claim> {
        let others = self.claims.iter().filter(|(of, claim)| **of != token && claim.task_id == *task_id);
        others.map(|(_, claim)| claim).find(|claim| claim.until_us > now_us && !self.is_excused(claim))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} trusts its lease until {}", self.holder, time(self.until_us))
    }
}
