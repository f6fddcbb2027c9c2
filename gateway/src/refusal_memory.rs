//! Shedding without Redis: what was refused a moment ago is refused again without asking.
//!
//! Responsible for a bounded, short-lived memory of refusals. Must never refuse on its own judgement: it repeats a
//! decision of the script, in the same scope, under the same policy, with what is left of its time. It forgets after a
//! second at most, so that a limit reset by an operator lets its session in again without a message.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_lua::{LimitState, PolicyStamp, Refusal};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use tokio::time::Instant;

mod remembered;

use remembered::SESSION_MEMORY;
pub use remembered::{Recalled, Remembered, Shared};

/// Sessions remembered at once. At about 200 bytes each this bounds a flood of sessions to 20 MB.
const MAX_SESSIONS: usize = 100_000;

/// User types remembered at once; a policy declares a handful.
const MAX_USER_TYPES: usize = 10_000;

/// How long after a change a gateway that has not heard of it can repeat a refusal from before.
pub(crate) const LONGEST_MEMORY: Duration = SESSION_MEMORY;

/// Somebody in a scope, by the scope's number in this gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) scope: u64,
    pub(crate) session_id: &'a str,
    pub(crate) user_type: &'a UserType,
}

/// A name within a scope.
#[derive(Debug, Hash, PartialEq, Eq)]
struct Key<T> {
    scope: u64,
    name: T,
}

/// The same, borrowed; it hashes alike.
#[derive(Hash)]
struct Borrowed<'a, T: ?Sized> {
    scope: u64,
    name: &'a T,
}

impl Equivalent<Key<String>> for Borrowed<'_, str> {
    fn equivalent(&self, key: &Key<String>) -> bool {
        self.scope == key.scope && self.name == key.name
    }
}

impl Equivalent<Key<UserType>> for Borrowed<'_, UserType> {
    fn equivalent(&self, key: &Key<UserType>) -> bool {
        self.scope == key.scope && *self.name == key.name
    }
}

/// The memory of one gateway, for all its scopes.
#[derive(Debug)]
pub(crate) struct RefusalMemory {
    sessions: Cache<Key<String>, Arc<Remembered>>,
    user_types: Cache<Key<UserType>, Arc<Remembered>>,
}

impl RefusalMemory {
    pub(crate) fn new() -> Self {
        Self { sessions: Cache::new(MAX_SESSIONS), user_types: Cache::new(MAX_USER_TYPES) }
    }

    /// Takes note of a decision about a request that counts as `cost`, if it may be repeated.
    pub(crate) fn remember(
        &self,
        subject: Subject<'_>,
        cost: u32,
        refusal: &Refusal,
        limits: &Arc<[LimitState]>,
        stamp: PolicyStamp,
    ) {
        let scope = subject.scope;
        match Remembered::of(Instant::now(), cost, refusal, limits, stamp) {
            Some((Shared::BySession, remembered)) => {
                let key = Key { scope, name: subject.session_id.to_owned() };
                self.sessions.insert(key, Arc::new(remembered));
            }
            Some((Shared::ByUserType, remembered)) => {
                let key = Key { scope, name: subject.user_type.clone() };
                self.user_types.insert(key, Arc::new(remembered));
            }
            None => {}
        }
    }

    /// The refusal of this session by one of its windows, if it would be repeated now.
    pub(crate) fn session(&self, subject: Subject<'_>, stamp: PolicyStamp) -> Option<Recalled> {
        let key = Borrowed { scope: subject.scope, name: subject.session_id };
        self.sessions.get(&key).and_then(|remembered| remembered.recall(Instant::now(), stamp))
    }

    /// The refusal of this user type by pressure, if it would be repeated now.
    pub(crate) fn pressure(&self, subject: Subject<'_>, stamp: PolicyStamp) -> Option<Recalled> {
        let key = Borrowed { scope: subject.scope, name: subject.user_type };
        self.user_types.get(&key).and_then(|remembered| remembered.recall(Instant::now(), stamp))
    }
}

#[cfg(test)]
mod tests;
