//! Shedding without Redis: what was refused a moment ago is refused again without asking.
//!
//! Responsible for a bounded, short-lived memory of refusals. Must never refuse on its own judgement: it repeats a
//! decision of the script, in the same scope, under the same policy, with what is left of its time. It forgets after a
//! second at most, so that a limit reset by an operator lets its session in again without a message.
//!
//! While a refusal of a user type nears its end, one caller asks ahead, and all others are refused until there is an
//! answer or the end: a flood costs one question per term, however long Redis takes to answer it. An admission ends the
//! term at once. Which refusals, for how long and when to ask are the rules of [`Term`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_lua::{LimitState, PolicyStamp, Refusal};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::refusal::Limits;

mod term;

pub use term::{Shared, Term};

/// Sessions remembered at once. At about 200 bytes each this bounds a flood of sessions to 20 MB.
const MAX_SESSIONS: usize = 100_000;

/// User types remembered at once, each in tasks and in route classes; a policy declares a handful.
const MAX_PRESSED: usize = 10_000;

/// How long after a change a gateway that has not heard of it can repeat a refusal from before.
pub(crate) const LONGEST_MEMORY: Duration = Duration::from_secs(1);

/// A refusal repeated from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recalled {
    /// The decision, with the time that is left of what of it concerns everybody it is told.
    pub(crate) refusal: Refusal,
    /// What of the limits at that decision concerns everybody it is told, and how long ago it was.
    pub(crate) limits: Limits,
}

/// Somebody in a scope, by the scope's number in this gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) scope: u64,
    pub(crate) session_id: &'a str,
    pub(crate) user_type: &'a UserType,
    /// The route class of a pass; empty for tasks.
    pub(crate) class: &'a str,
}

#[derive(Debug)]
struct Remembered {
    refusal: Refusal,
    /// As whom its caller was refused.
    user_type: UserType,
    limits: Arc<[LimitState]>,
    term: Term,
    /// Somebody asks ahead of its end.
    asked_ahead: AtomicBool,
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

/// Who is under pressure: a user type, in tasks or in one route class.
#[derive(Debug, Hash, PartialEq, Eq)]
struct Pressed {
    user_type: UserType,
    class: String,
}

/// The same, borrowed; it hashes alike.
#[derive(Hash)]
struct BorrowedPressed<'a> {
    user_type: &'a UserType,
    class: &'a str,
}

impl Equivalent<Key<Pressed>> for Borrowed<'_, BorrowedPressed<'_>> {
    fn equivalent(&self, key: &Key<Pressed>) -> bool {
        self.scope == key.scope && *self.name.user_type == key.name.user_type && self.name.class == key.name.class
    }
}

/// The memory of one gateway, for all its scopes.
#[derive(Debug)]
pub(crate) struct RefusalMemory {
    sessions: Cache<Key<String>, Arc<Remembered>>,
    pressed: Cache<Key<Pressed>, Arc<Remembered>>,
    made: Instant,
    /// When this gateway last gave back the place of a pass, in any scope: µs since the memory was made.
    freed_micros: AtomicU64,
}

impl RefusalMemory {
    pub(crate) fn new() -> Self {
        Self {
            sessions: Cache::new(MAX_SESSIONS),
            pressed: Cache::new(MAX_PRESSED),
            made: Instant::now(),
            freed_micros: AtomicU64::new(0),
        }
    }

    /// A pass has given back its place: nothing that was decided before is known about pressure on passes.
    pub(crate) fn note_place_free(&self) {
        self.freed_micros.store(self.made.elapsed().as_micros() as u64, Ordering::Release);
    }

    /// Takes note of a decision about a request that counts as `cost`, if it may be repeated; `asked_at` is when it was
    /// asked for. The time after which its caller is to come back, ms: never while it is remembered; 0 where it is not
    /// to come back at all.
    pub(crate) fn remember(
        &self,
        subject: Subject<'_>,
        cost: u32,
        refusal: &Refusal,
        limits: &Arc<[LimitState]>,
        stamp: PolicyStamp,
        asked_at: Instant,
    ) -> u64 {
        let Some((shared, mut term)) = Term::of(asked_at, cost, refusal, limits, stamp) else {
            return refusal.retry_after_ms;
        };
        if !subject.class.is_empty() {
            term = term.of_pass(refusal);
        }
        let asked_ahead = AtomicBool::new(false);
        // They are told to others: within a session its own windows are everybody's, beyond it nothing is.
        let everybodys = |limit: &&LimitState| shared == Shared::BySession && limit.is_of_session();
        let (repeated, user_type) = (shared.repeated(refusal, limits), subject.user_type.clone());
        let limits = limits.iter().filter(everybodys).cloned().collect();
        let remembered = Arc::new(Remembered { refusal: repeated, user_type, limits, term, asked_ahead });
        let scope = subject.scope;
        match shared {
            Shared::BySession => {
                self.sessions.insert(Key { scope, name: subject.session_id.to_owned() }, remembered);
            }
            Shared::ByUserType => {
                let name = Pressed { user_type: subject.user_type.clone(), class: subject.class.to_owned() };
                self.pressed.insert(Key { scope, name }, remembered);
            }
        }
        term.asker_retry_after_ms(refusal)
    }

    /// Takes note that one of this user type was admitted, who asked at `asked_at`: pressure from before is over.
    pub(crate) fn admitted(&self, subject: Subject<'_>, asked_at: Instant) {
        let name = &BorrowedPressed { user_type: subject.user_type, class: subject.class };
        let key = Borrowed { scope: subject.scope, name };
        if self.pressed.get(&key).is_some_and(|remembered| remembered.term.is_refuted_by(asked_at)) {
            self.pressed.remove(&key);
        }
    }

    /// The refusal of this session by one of its windows, if it would be repeated now.
    pub(crate) fn session(&self, subject: Subject<'_>, stamp: PolicyStamp) -> Option<Recalled> {
        let key = Borrowed { scope: subject.scope, name: subject.session_id };
        let remembered = self.sessions.get(&key).filter(|remembered| remembered.user_type == *subject.user_type)?;
        remembered.recall(stamp)
    }

    /// The refusal of this user type by pressure in tasks or in its class, if it would be repeated now and this caller
    /// is not the one to ask ahead.
    pub(crate) fn pressure(&self, subject: Subject<'_>, stamp: PolicyStamp) -> Option<Recalled> {
        let name = &BorrowedPressed { user_type: subject.user_type, class: subject.class };
        let remembered = self.pressed.get(&Borrowed { scope: subject.scope, name })?;
        let freed = self.made + Duration::from_micros(self.freed_micros.load(Ordering::Acquire));
        if !subject.class.is_empty() && !remembered.term.is_later_than(freed) {
            return None;
        }
        let recalled = remembered.recall(stamp)?;
        let asks =
            remembered.term.may_ask_ahead(Instant::now()) && !remembered.asked_ahead.swap(true, Ordering::Relaxed);
        (!asks).then_some(recalled)
    }
}

impl Remembered {
    fn recall(&self, stamp: PolicyStamp) -> Option<Recalled> {
        let passed = self.term.passed(Instant::now(), stamp)?;
        let retry_after_ms = self.term.retry_after_ms(&self.refusal, passed);
        let limits = Limits { states: self.limits.clone(), aged_ms: passed.as_millis() as u32, ..Limits::default() };
        Some(Recalled { refusal: Refusal { retry_after_ms, ..self.refusal.clone() }, limits })
    }
}

#[cfg(test)]
mod tests;
