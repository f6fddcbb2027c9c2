//! What is revoked, as one process knows it.
//!
//! Responsible for the verdict on a credential, for how old that knowledge is, and for noticing that Redis knows less
//! than it did. Must never forget what a lost set held: until an operator has looked, it goes on to be revoked here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use tokio::time::Instant;

use crate::revoke::{ceiling_of, is_ceiling};
use crate::revoked::RevokedSet;

/// What is revoked in a scope. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RevocationView {
    held: Arc<Held>,
    /// When Redis was last known to hold the same, and its clock then, ms since the epoch.
    synced: Option<(Instant, u64)>,
}

#[derive(Debug, Default)]
struct Held {
    number: u64,
    epoch: Option<String>,
    acknowledged: Option<String>,
    members: HashMap<String, Term>,
    ceilings: HashMap<String, (UserType, u64)>,
    /// Redis lost revocations, and nobody has acknowledged it since.
    lost: bool,
}

/// Until when a member is revoked, and what of it; ms since the epoch.
#[derive(Clone, Copy, Debug, Default)]
struct Term {
    /// Everything dies until then.
    all_until: u64,
    /// Until then, what was not issued later than `not_before`.
    older_until: u64,
    not_before: u64,
}

impl RevocationView {
    /// This set, as if it had been read at this moment and nothing been known before.
    #[must_use]
    pub fn of(set: RevokedSet) -> Self {
        Self::default().followed_by(set, Instant::now())
    }

    /// The scope's number of revocations, as `admit` is told it.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.held.number
    }

    /// Which data it is about; `None` before the scope's first session or revocation.
    #[must_use]
    pub fn epoch(&self) -> Option<&str> {
        self.held.epoch.as_deref()
    }

    /// Members it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.members.len() + self.held.ceilings.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first of a credential's members that is revoked, for one issued then, ms since the epoch.
    #[must_use]
    pub fn covers<'m>(&self, members: &'m [String], issued_at_ms: u64) -> Option<&'m str> {
        if self.held.members.is_empty() {
            return None;
        }
        let now_ms = self.now_ms();
        let dead = |member: &&String| {
            let Some(term) = self.held.members.get(*member) else { return false };
            now_ms < term.all_until || (now_ms < term.older_until && issued_at_ms <= term.not_before)
        };
        members.iter().find(dead).map(String::as_str)
    }

    /// The user type that a principal counts as at most, if it has been lowered.
    #[must_use]
    pub fn ceiling(&self, principal: &str) -> Option<&UserType> {
        if self.held.ceilings.is_empty() {
            return None;
        }
        let (ceiling, until) = self.held.ceilings.get(&ceiling_of(principal))?;
        (self.now_ms() < *until).then_some(ceiling)
    }

    /// Whether Redis confirmed it within this time. One that is older says nothing about who is alive.
    #[must_use]
    pub fn is_fresh(&self, within: Duration) -> bool {
        self.synced.is_some_and(|(at, _)| at.elapsed() <= within)
    }

    /// Whether Redis lost revocations and no operator has acknowledged it: nobody knows who else should be dead.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.held.lost
    }

    /// Whether what it says was asked for at this moment or later.
    pub(crate) fn asked_since(&self, moment: Instant) -> bool {
        self.synced.is_some_and(|(asked, _)| asked >= moment)
    }

    /// The same, confirmed at this moment.
    pub(crate) fn confirmed(&self, asked: Instant, now_ms: u64) -> Self {
        Self { held: self.held.clone(), synced: Some((asked, now_ms)) }
    }

    /// What follows it, now that Redis answered with another set.
    pub(crate) fn followed_by(&self, set: RevokedSet, asked: Instant) -> Self {
        let lost = if self.held.lost { !self.is_acknowledged_by(&set) } else { self.is_more_than(&set) };
        let mut next = Held {
            number: set.number,
            epoch: set.epoch,
            // Of a loss that goes on, what was there when it began: the next one ends it.
            acknowledged: if lost && self.held.lost { self.held.acknowledged.clone() } else { set.acknowledged },
            members: HashMap::with_capacity(set.members.len()),
            ceilings: HashMap::new(),
            lost,
        };
        if lost {
            next.members.clone_from(&self.held.members);
            next.ceilings.clone_from(&self.held.ceilings);
        }
        for entry in set.members {
            if is_ceiling(&entry.member) {
                if let Some(ceiling) = entry.ceiling {
                    next.ceilings.insert(entry.member, (ceiling, entry.expires_ms));
                }
                continue;
            }
            let term = next.members.entry(entry.member).or_default();
            match entry.not_before_ms {
                None => term.all_until = term.all_until.max(entry.expires_ms),
                Some(not_before) => {
                    term.older_until = term.older_until.max(entry.expires_ms);
                    term.not_before = term.not_before.max(not_before);
                }
            }
        }
        Self { held: Arc::new(next), synced: Some((asked, set.now_ms)) }
    }

    /// Whether an operator has acknowledged, since it was noticed, that revocations were lost.
    fn is_acknowledged_by(&self, later: &RevokedSet) -> bool {
        let held = &self.held;
        // An older acknowledgement may come back with older data.
        let goes_on = later.number > held.number && (held.epoch.is_none() || held.epoch == later.epoch);
        goes_on && later.acknowledged.is_some() && later.acknowledged != held.acknowledged
    }

    /// Whether a set that was read later lacks what was there: the data are others, or went back.
    fn is_more_than(&self, later: &RevokedSet) -> bool {
        let held = &self.held;
        if (held.epoch.is_some() && held.epoch != later.epoch) || later.number < held.number {
            return true;
        }
        let mut there: HashMap<&str, u64> = HashMap::with_capacity(later.members.len());
        for entry in &later.members {
            let until = there.entry(&entry.member).or_default();
            *until = (*until).max(entry.expires_ms);
        }
        held.members.iter().any(|(member, term)| {
            let until = term.all_until.max(term.older_until);
            until > later.now_ms && there.get(member.as_str()).is_none_or(|&there| there < until)
        })
    }

    /// Redis's clock, early rather than late, so that nothing expires before its time; 0 as long as Redis has said
    /// nothing.
    fn now_ms(&self) -> u64 {
        self.synced.map_or(0, |(_, now_ms)| now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revoked::RevokedMember;

    const NOW_MS: u64 = 1_000_000;

    /// A set with these members, each until then.
    fn set(number: u64, epoch: &str, acknowledged: Option<&str>, members: &[(&str, u64)]) -> RevokedSet {
        let member = |&(name, expires_ms): &(&str, u64)| RevokedMember {
            member: name.to_owned(),
            expires_ms,
            revoked_ms: 0,
            not_before_ms: None,
            ceiling: None,
            by: String::new(),
            reason: String::new(),
        };
        RevokedSet {
            now_ms: NOW_MS,
            number,
            epoch: Some(epoch.to_owned()),
            acknowledged: acknowledged.map(str::to_owned),
            members: members.iter().map(member).collect(),
        }
    }

    fn after(held: &RevocationView, later: RevokedSet) -> RevocationView {
        held.followed_by(later, Instant::now())
    }

    #[test]
    fn a_later_set_that_lacks_something_is_a_loss_and_one_that_only_grew_or_expired_is_none() {
        let held = RevocationView::of(set(5, "e", None, &[("c:a", NOW_MS + 1), ("c:b", NOW_MS)]));
        let lost = |later: RevokedSet| after(&held, later).is_lost();
        assert!(!lost(set(6, "e", None, &[("c:a", NOW_MS + 1), ("c:x", NOW_MS + 9)])), "what has expired may go");
        assert!(!lost(set(6, "e", None, &[("c:a", NOW_MS + 7)])), "it may last longer");
        assert!(lost(set(4, "e", None, &[("c:a", NOW_MS + 1)])), "an older number");
        assert!(lost(set(6, "f", None, &[("c:a", NOW_MS + 1)])), "other data");
        assert!(lost(set(6, "e", None, &[("c:x", NOW_MS + 9)])), "another history of the same length");
        assert!(lost(RevokedSet { number: 6, now_ms: NOW_MS, ..RevokedSet::default() }), "all of it");
    }

    #[test]
    fn only_an_acknowledgement_made_since_ends_a_loss_and_until_then_nothing_is_forgotten() {
        let held = RevocationView::of(set(5, "e", Some("second"), &[("c:a", NOW_MS + 1)]));
        // Failed over to a copy from before the last acknowledgement.
        let lost = after(&held, set(3, "e", Some("first"), &[]));
        assert!(lost.is_lost() && lost.covers(&["c:a".to_owned()], 0).is_some());
        assert!(after(&lost, set(4, "e", Some("first"), &[])).is_lost(), "others were revoked");
        assert!(after(&lost, set(3, "e", Some("zeroth"), &[])).is_lost(), "an even older one came back");
        assert!(after(&lost, set(4, "f", Some("third"), &[])).is_lost(), "and other data altogether");
        let told = after(&lost, set(4, "e", Some("third"), &[]));
        assert!(!told.is_lost() && told.is_empty());
        let emptied = after(&held, RevokedSet { number: 0, now_ms: NOW_MS, ..RevokedSet::default() });
        assert!(!after(&emptied, set(1, "new", Some("third"), &[])).is_lost(), "the first epoch after it was emptied");
    }
}
