//! What is revoked, as one process knows it.
//!
//! Responsible for the verdict on a credential, for how old that knowledge is, and for noticing that Redis knows less
//! than it did. Must never forget what a lost set held: until an operator has looked, it goes on to be revoked here.

mod terms;

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use tokio::time::Instant;

use crate::revoke::ceiling_of;
use crate::revoked::{RevokedMember, RevokedSet};
use terms::Terms;

/// What is revoked in a scope. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RevocationView {
    held: Arc<Held>,
    synced: Option<Synced>,
}

/// When Redis was last known to hold the same.
#[derive(Clone, Copy, Debug)]
struct Synced {
    /// It was asked at this moment, and had answered at that.
    asked: Instant,
    answered: Instant,
    /// Its clock in between, ms since the epoch.
    now_ms: u64,
}

#[derive(Debug, Default)]
struct Held {
    number: u64,
    epoch: Option<String>,
    acknowledged: Option<String>,
    terms: Terms,
    /// Redis lost revocations, and nobody has acknowledged it since.
    lost: bool,
    /// Redis says so itself.
    told: bool,
}

/// A set that is being read.
#[derive(Debug)]
pub(crate) struct Draft {
    terms: Terms,
    /// Read from the beginning; else it goes on from what was held.
    whole: bool,
}

impl RevocationView {
    /// This set, as if it had been read at this moment and nothing been known before.
    #[must_use]
    pub fn of(mut set: RevokedSet) -> Self {
        let mut draft = Draft::of_all();
        draft.add(std::mem::take(&mut set.members), set.now_ms);
        Self::default().followed_by(draft, &set, Instant::now())
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
        self.held.terms.len()
    }

    /// Whether nothing is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first of a credential's members that is revoked, for one issued then, ms since the epoch.
    #[must_use]
    pub fn covers<'m>(&self, members: &'m [String], issued_at_ms: u64) -> Option<&'m str> {
        let known = &self.held.terms;
        if !known.has_members() {
            return None;
        }
        let now_ms = self.now_ms();
        let dead = |member: &&String| {
            let Some(term) = known.get(member) else { return false };
            now_ms < term.all_until || (now_ms < term.older_until && issued_at_ms <= term.not_before)
        };
        members.iter().find(dead).map(String::as_str)
    }

    /// The user type that a principal counts as at most, if it has been lowered.
    #[must_use]
    pub fn ceiling(&self, principal: &str) -> Option<&UserType> {
        let (ceiling, until) = self.held.terms.ceiling(&ceiling_of(principal))?;
        (self.now_ms() < *until).then_some(ceiling)
    }

    /// Whether Redis confirmed it within this time. One that is older says nothing about who is alive.
    #[must_use]
    pub fn is_fresh(&self, within: Duration) -> bool {
        self.synced.is_some_and(|synced| synced.asked.elapsed() <= within)
    }

    /// Whether Redis lost revocations and no operator has acknowledged it: nobody knows who else should be dead.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.held.lost
    }

    /// Whether Redis does not say itself yet what was noticed here: that it lost revocations.
    #[must_use]
    pub fn is_untold_loss(&self) -> bool {
        self.held.lost && !self.held.told
    }

    /// Whether Redis was ever asked.
    pub(crate) fn is_known(&self) -> bool {
        self.synced.is_some()
    }

    /// Whether what it says was asked for at this moment or later.
    pub(crate) fn asked_since(&self, moment: Instant) -> bool {
        self.synced.is_some_and(|synced| synced.asked >= moment)
    }

    /// The same, confirmed at this moment.
    pub(crate) fn confirmed(&self, asked: Instant, now_ms: u64) -> Self {
        Self { held: self.held.clone(), synced: Some(Synced { asked, answered: Instant::now(), now_ms }) }
    }

    /// A set that goes on from this one.
    pub(crate) fn draft(&self) -> Draft {
        Draft { terms: self.held.terms.clone(), whole: false }
    }

    /// What follows it, now that a set was read to its end, of which the last page says so much.
    pub(crate) fn followed_by(&self, draft: Draft, read: &RevokedSet, asked: Instant) -> Self {
        let Draft { mut terms, whole } = draft;
        let noticed =
            if self.held.lost { !self.is_acknowledged_by(read) } else { whole && self.is_more_than(&terms, read) };
        let lost = noticed || read.lost.is_some();
        if lost && whole {
            terms.keep(&self.held.terms);
        }
        let held = Held {
            number: read.number,
            epoch: read.epoch.clone(),
            // Of a loss that goes on, what was there when it began: the next one ends it.
            acknowledged: if lost && self.held.lost { &self.held.acknowledged } else { &read.acknowledged }.clone(),
            terms,
            lost,
            told: read.lost.is_some(),
        };
        let synced = Some(Synced { asked, answered: Instant::now(), now_ms: read.now_ms });
        Self { held: Arc::new(held), synced }
    }

    /// Whether an operator has acknowledged, since it was noticed, that revocations were lost.
    fn is_acknowledged_by(&self, later: &RevokedSet) -> bool {
        let held = &self.held;
        // An older acknowledgement may come back with older data.
        let goes_on = later.number > held.number && (held.epoch.is_none() || held.epoch == later.epoch);
        goes_on && later.acknowledged.is_some() && later.acknowledged != held.acknowledged
    }

    /// Whether a set that was read later lacks what was there: the data are others, or went back.
    fn is_more_than(&self, terms: &Terms, later: &RevokedSet) -> bool {
        let held = &self.held;
        if (held.epoch.is_some() && held.epoch != later.epoch) || later.number < held.number {
            return true;
        }
        let lacks = |until: u64, there: u64| until > later.now_ms && there < until;
        held.terms.iter().any(|(member, term)| {
            let there = terms.get(member).copied().unwrap_or_default();
            lacks(term.all_until, there.all_until)
                || lacks(term.older_until, there.older_until)
                || (term.older_until > later.now_ms && there.not_before < term.not_before)
        })
    }

    /// Redis's clock, early rather than late, so that nothing expires before its time; 0 as long as Redis has said
    /// nothing.
    fn now_ms(&self) -> u64 {
        let since = |synced: Synced| synced.now_ms.saturating_add(synced.answered.elapsed().as_millis() as u64);
        self.synced.map_or(0, since)
    }
}

impl Draft {
    /// A set of which nothing has been read yet.
    pub(crate) fn of_all() -> Self {
        Self { terms: Terms::default(), whole: true }
    }

    /// Members that were read next, by Redis's clock at this time.
    pub(crate) fn add(&mut self, members: Vec<RevokedMember>, now_ms: u64) {
        self.terms.add(members, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

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
            lost: None,
            members: members.iter().map(member).collect(),
        }
    }

    fn after(held: &RevocationView, mut later: RevokedSet) -> RevocationView {
        let mut draft = Draft::of_all();
        draft.add(std::mem::take(&mut later.members), later.now_ms);
        held.followed_by(draft, &later, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn a_view_that_nobody_confirms_goes_on_with_time() {
        let mut revoked = set(5, "e", None, &[("c:a", NOW_MS + 1000)]);
        revoked.members.push(RevokedMember {
            member: "u:ada".to_owned(),
            ceiling: Some(UserType::anonymous()),
            ..revoked.members[0].clone()
        });
        let view = RevocationView::of(revoked);
        let verdicts = || (view.covers(&["c:a".to_owned()], 0).is_some(), view.ceiling("ada").is_some());
        advance(Duration::from_millis(999)).await;
        assert_eq!(verdicts(), (true, true));
        advance(Duration::from_millis(1)).await;
        assert_eq!(verdicts(), (false, false), "an agent may act again when its revocation is over");
    }

    #[test]
    fn a_set_that_goes_on_changes_what_it_names_and_nothing_else() {
        let mut revoked = set(5, "e", None, &[("c:a", NOW_MS + 1000), ("c:b", NOW_MS), ("u:ada", NOW_MS + 1000)]);
        revoked.members[2].ceiling = Some(UserType::anonymous());
        let held = RevocationView::of(revoked);
        let mut draft = held.draft();
        let later = set(6, "e", None, &[("c:x", NOW_MS + 9), ("u:ada", NOW_MS + 1000)]);
        draft.add(later.members.clone(), NOW_MS);
        let view = held.followed_by(draft, &later, Instant::now());
        let dead = |member: &str| view.covers(&[member.to_owned()], 0).is_some();
        assert_eq!(["c:a", "c:b", "c:x"].map(dead), [true, false, true]);
        assert_eq!((view.ceiling("ada"), view.len(), view.is_lost()), (None, 3, false));
    }

    #[test]
    fn a_member_that_spares_somebody_now_and_did_not_before_is_a_loss() {
        let both = |spares_from: &[Option<u64>]| {
            let mut set = set(6, "e", None, &vec![("p:ada", NOW_MS + 1000); spares_from.len()]);
            let terms = set.members.iter_mut().zip(spares_from);
            terms.for_each(|(member, spares_from)| member.not_before_ms = *spares_from);
            set
        };
        let held = RevocationView::of(both(&[None, Some(7)]));
        assert!(!after(&held, both(&[Some(7), None])).is_lost());
        assert!(after(&held, both(&[Some(7)])).is_lost(), "nobody was spared");
        assert!(after(&held, both(&[None])).is_lost(), "it lasts no longer by that");
        assert!(after(&held, both(&[None, Some(6)])).is_lost(), "who was issued at 7 was not spared");
    }

    #[test]
    fn who_never_held_what_was_lost_hears_of_it_until_it_is_acknowledged() {
        let told = RevokedSet { lost: Some("loss".to_owned()), ..set(2, "f", None, &[]) };
        let newcomer = RevocationView::of(told.clone());
        assert!(newcomer.is_lost() && !newcomer.is_untold_loss());
        let noticed = after(&RevocationView::of(set(5, "e", None, &[])), set(1, "f", None, &[]));
        assert!(noticed.is_lost() && noticed.is_untold_loss(), "somebody has to say so");
        for view in [newcomer, after(&noticed, told)] {
            assert!(view.is_lost() && !view.is_untold_loss());
            assert!(!after(&view, set(3, "f", Some("seen"), &[])).is_lost());
        }
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
