//! Counts of this gateway's decisions, on their way into the scope's statistics.
//!
//! Responsible for counting every decision once, the script's as well as those repeated from memory, and for handing
//! the sums over in aggregate. Must never cost a decision a call of its own: a flood of refusals is one call a second.

use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_config::UserType;
use portcullis_lua::TallyEntry;

/// What has been decided and is not in the statistics yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<Counts>,
}

impl Tally {
    /// Counts one decision: `admitted`, `replayed`, or a refusal's code.
    pub(crate) fn count(&self, code: &'static str, user_type: &UserType) {
        self.counts().add(code, user_type, 1);
    }

    /// Takes what was counted since the last time. What could not be written must be given back with `put_back`.
    pub(crate) fn take(&self) -> Counts {
        std::mem::take(&mut self.counts())
    }

    /// Adds counts that could not be written to those that came in since.
    pub(crate) fn put_back(&self, taken: &Counts) {
        let mut counts = self.counts();
        for (code, user_type, count) in taken.iter() {
            counts.add(code, user_type, count);
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sums by code and user type: bounded by the product of the two, and in practice so few that a list is searched faster
/// than names are hashed.
#[derive(Debug, Default)]
pub(crate) struct Counts(Vec<(&'static str, UserType, u64)>);

impl Counts {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the store is given.
    pub(crate) fn entries(&self) -> Vec<TallyEntry> {
        let entry = |(code, user_type, count): (&str, &UserType, u64)| TallyEntry {
            code: code.to_owned(),
            user_type: user_type.to_string(),
            count,
        };
        self.iter().map(entry).collect()
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, &UserType, u64)> {
        self.0.iter().map(|(code, user_type, count)| (*code, user_type, *count))
    }

    /// Called for every decision: it copies the name only when it is new.
    fn add(&mut self, code: &'static str, user_type: &UserType, more: u64) {
        let same = |(each, of, _): &&mut (&str, UserType, u64)| *each == code && of == user_type;
        match self.0.iter_mut().find(same) {
            Some((.., count)) => *count += more,
            None => self.0.push((code, user_type.clone(), more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_taken_once_and_can_be_put_back() {
        let (tally, paid) = (Tally::default(), UserType::new("paid").unwrap());
        tally.count("burst_limit", &paid);
        tally.count("burst_limit", &paid);
        let taken = tally.take();
        assert!(tally.take().is_empty());
        tally.count("burst_limit", &paid);
        tally.put_back(&taken);
        let entries = tally.take().entries();
        assert_eq!(entries.len(), 1);
        assert_eq!(
            (entries[0].code.as_str(), entries[0].user_type.as_str(), entries[0].count),
            ("burst_limit", "paid", 3)
        );
    }
}
