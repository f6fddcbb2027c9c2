//! What is revoked until when, by member.
//!
//! Responsible for changes that cost what was changed, however much is there: a set of a hundred thousand is not copied
//! because somebody has logged out. Must never know of numbers, epochs or losses.

use std::collections::HashMap;
use std::sync::Arc;

use portcullis_config::UserType;

use crate::revoke::is_ceiling;
use crate::revoked::RevokedMember;

/// Most members beside the others: about as many as are copied with each change, and so seldom all are.
const RECENT: usize = 512;

/// Until when a member is revoked, and what of it; ms since the epoch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Term {
    /// Everything dies until then.
    pub(super) all_until: u64,
    /// Until then, what was not issued later than `not_before`.
    pub(super) older_until: u64,
    pub(super) not_before: u64,
}

/// All members. Those changed lately stand beside the others, and count instead of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    most: Arc<HashMap<String, Term>>,
    recent: HashMap<String, Term>,
    ceilings: HashMap<String, (UserType, u64)>,
}

impl Term {
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.all_until.max(self.older_until) <= now_ms
    }
}

impl Terms {
    pub(super) fn len(&self) -> usize {
        self.iter().count() + self.ceilings.len()
    }

    pub(super) fn has_members(&self) -> bool {
        !(self.most.is_empty() && self.recent.is_empty())
    }

    pub(super) fn get(&self, member: &str) -> Option<&Term> {
        self.recent.get(member).or_else(|| self.most.get(member))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Term)> {
        let others = self.most.iter().filter(|(member, _)| !self.recent.contains_key(*member));
        self.recent.iter().chain(others)
    }

    /// User type of a ceiling, and until when it stands.
    pub(super) fn ceiling(&self, ceiling: &str) -> Option<&(UserType, u64)> {
        self.ceilings.get(ceiling)
    }

    /// Members as they were read; what is said of one later counts.
    pub(super) fn add(&mut self, members: Vec<RevokedMember>, now_ms: u64) {
        for entry in members {
            if is_ceiling(&entry.member) {
                match entry.ceiling {
                    Some(ceiling) => self.ceilings.insert(entry.member, (ceiling, entry.expires_ms)),
                    None => self.ceilings.remove(&entry.member),
                };
                continue;
            }
            let mut term = self.get(&entry.member).copied().unwrap_or_default();
            match entry.not_before_ms {
                None => term.all_until = entry.expires_ms,
                Some(not_before) => (term.older_until, term.not_before) = (entry.expires_ms, not_before),
            }
            self.recent.insert(entry.member, term);
        }
        if self.recent.len() > RECENT {
            self.put_together(now_ms);
        }
    }

    /// Forgets nothing of what was there before.
    pub(super) fn keep(&mut self, before: &Self) {
        for (member, earlier) in before.iter() {
            let mut term = self.get(member).copied().unwrap_or_default();
            term.all_until = term.all_until.max(earlier.all_until);
            term.older_until = term.older_until.max(earlier.older_until);
            term.not_before = term.not_before.max(earlier.not_before);
            self.recent.insert(member.clone(), term);
        }
        for (principal, ceiling) in &before.ceilings {
            self.ceilings.entry(principal.clone()).or_insert_with(|| ceiling.clone());
        }
    }

    /// What has expired is left out of a copy.
    fn put_together(&mut self, now_ms: u64) {
        if let Some(most) = Arc::get_mut(&mut self.most) {
            most.extend(self.recent.drain());
            return;
        }
        let alive = self.iter().filter(|(_, term)| !term.is_over(now_ms));
        self.most = Arc::new(alive.map(|(member, term)| (member.clone(), *term)).collect());
        self.recent = HashMap::new();
        self.ceilings.retain(|_, (_, until)| *until > now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, expires_ms: u64, not_before_ms: Option<u64>) -> RevokedMember {
        RevokedMember {
            member: name.to_owned(),
            expires_ms,
            revoked_ms: 0,
            not_before_ms,
            ceiling: None,
            by: String::new(),
            reason: String::new(),
        }
    }

    #[test]
    fn what_changes_is_all_that_changes_wherever_it_stands() {
        let mut terms = Terms::default();
        let many: Vec<RevokedMember> = (0..2000).map(|number| member(&format!("c:{number}"), 1000, None)).collect();
        terms.add(many, 0);
        assert!(terms.recent.is_empty(), "they are together");
        let before = terms.clone();
        terms.add(vec![member("c:7", 900, Some(5)), member("c:x", 1000, None)], 0);
        assert!(Arc::ptr_eq(&terms.most, &before.most), "nothing was copied");
        assert_eq!((terms.len(), before.len()), (2001, 2000));
        let seventh = terms.get("c:7").unwrap();
        assert_eq!((seventh.all_until, seventh.older_until, seventh.not_before), (1000, 900, 5));
        terms.add((0..1000).map(|number| member(&format!("s:{number}"), 3000, None)).collect(), 1000);
        assert_eq!(terms.len(), 1000, "what has expired goes when they are put together");
    }

    #[test]
    fn nothing_that_was_there_is_forgotten() {
        let (mut terms, mut before) = (Terms::default(), Terms::default());
        before.add(vec![member("p:a", 1000, None), member("p:a", 500, Some(9)), member("p:b", 1, None)], 0);
        terms.add(vec![member("p:a", 700, Some(3))], 0);
        terms.keep(&before);
        let kept = terms.get("p:a").unwrap();
        assert_eq!((kept.all_until, kept.older_until, kept.not_before, terms.len()), (1000, 700, 9, 2));
    }
}
