//! Shedding without Redis: what was refused a moment ago is refused again without asking.
//!
//! Responsible for a bounded, short-lived memory of refusals. Must never refuse on its own judgement: it repeats a
//! decision of the script, under the same policy revision, with what is left of its time. It forgets after a second at
//! most, so that a limit reset by an operator lets its session in again without a message.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_lua::{LimitState, Reason, Refusal};
use quick_cache::sync::Cache;
use tokio::time::Instant;

/// Sessions remembered at once. At about 200 bytes each this bounds a flood of sessions to 20 MB.
const MAX_SESSIONS: usize = 100_000;

/// User types remembered at once; a policy declares a handful.
const MAX_USER_TYPES: usize = 1000;

/// How long a session's refusal is repeated at most.
const SESSION_MEMORY: Duration = Duration::from_secs(1);

/// How long a user type's refusal under pressure is repeated at most: depth changes with every task that ends.
const PRESSURE_MEMORY: Duration = Duration::from_millis(100);

/// A refusal repeated from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recalled {
    /// The decision, with the time that is left of it.
    pub(crate) refusal: Refusal,
    /// The caller's limits at that decision, their reset times brought up to now.
    pub(crate) limits: Arc<[LimitState]>,
}

#[derive(Debug)]
struct Remembered {
    refusal: Refusal,
    limits: Arc<[LimitState]>,
    decided_at: Instant,
    forget_at: Instant,
    revision: u64,
}

/// The memory of one gateway.
#[derive(Debug)]
pub(crate) struct RefusalMemory {
    sessions: Cache<String, Arc<Remembered>>,
    user_types: Cache<UserType, Arc<Remembered>>,
}

impl RefusalMemory {
    pub(crate) fn new() -> Self {
        Self { sessions: Cache::new(MAX_SESSIONS), user_types: Cache::new(MAX_USER_TYPES) }
    }

    /// Takes note of a decision, if its like will be decided the same for a while: a full window of a session, and
    /// pressure on a user type. Everything else depends on more than the caller, such as a deadline or a kind.
    pub(crate) fn remember(
        &self,
        session_id: &str,
        user_type: &UserType,
        refusal: &Refusal,
        limits: &Arc<[LimitState]>,
        revision: u64,
    ) {
        let remembered = |longest: Duration| {
            let decided_at = Instant::now();
            let forget_at = decided_at + longest.min(Duration::from_millis(refusal.retry_after_ms));
            Arc::new(Remembered { refusal: refusal.clone(), limits: limits.clone(), decided_at, forget_at, revision })
        };
        match refusal.reason {
            Reason::BurstLimit | Reason::HourlyLimit => {
                self.sessions.insert(session_id.to_owned(), remembered(SESSION_MEMORY));
            }
            Reason::PressureThreshold | Reason::HardLimit | Reason::NoLiveProcessors => {
                self.user_types.insert(user_type.clone(), remembered(PRESSURE_MEMORY));
            }
            _ => {}
        }
    }

    /// The refusal of this session by one of its windows, if it would be repeated now.
    pub(crate) fn session(&self, session_id: &str, revision: u64) -> Option<Recalled> {
        self.sessions.get(session_id).and_then(|remembered| remembered.recall(revision))
    }

    /// The refusal of this user type by pressure, if it would be repeated now.
    pub(crate) fn pressure(&self, user_type: &UserType, revision: u64) -> Option<Recalled> {
        self.user_types.get(user_type).and_then(|remembered| remembered.recall(revision))
    }
}

impl Remembered {
    fn recall(&self, revision: u64) -> Option<Recalled> {
        let now = Instant::now();
        if self.revision != revision || now >= self.forget_at {
            return None;
        }
        let passed_ms = now.duration_since(self.decided_at).as_millis() as u64;
        // Never 0: what is remembered still stands.
        let retry_after_ms = self.refusal.retry_after_ms.saturating_sub(passed_ms).max(1);
        let limits = self.limits.iter().cloned().map(|mut limit| {
            limit.reset_ms = limit.reset_ms.saturating_sub(passed_ms);
            limit
        });
        Some(Recalled { refusal: Refusal { retry_after_ms, ..self.refusal.clone() }, limits: limits.collect() })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn refusal(reason: Reason, retry_after_ms: u64) -> Refusal {
        Refusal { reason, name: Some("burst".to_owned()), retry_after_ms }
    }

    fn paid() -> UserType {
        UserType::new("paid").unwrap()
    }

    fn full_window() -> Arc<[LimitState]> {
        [LimitState { name: "burst".into(), limit: 10, window_ms: 60_000, remaining: 0, reset_ms: 30_000 }].into()
    }

    /// A memory that remembers one refusal of session `s`, type paid, revision 7.
    fn memory(reason: Reason, retry_after_ms: u64) -> RefusalMemory {
        let memory = RefusalMemory::new();
        memory.remember("s", &paid(), &refusal(reason, retry_after_ms), &full_window(), 7);
        memory
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_refused_with_the_time_that_is_left() {
        let memory = memory(Reason::BurstLimit, 30_000);
        advance(Duration::from_millis(400)).await;
        let recalled = memory.session("s", 7).unwrap();
        assert_eq!(recalled.refusal, refusal(Reason::BurstLimit, 29_600));
        assert_eq!(recalled.limits[0].reset_ms, 29_600);
        assert_eq!(memory.session("other", 7), None);
        assert_eq!(memory.pressure(&paid(), 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_forgotten_after_a_second_or_when_its_time_has_come() {
        let long = memory(Reason::HourlyLimit, 30_000);
        let short = memory(Reason::BurstLimit, 200);
        advance(Duration::from_millis(199)).await;
        assert!(short.session("s", 7).is_some());
        advance(Duration::from_millis(1)).await;
        assert_eq!(short.session("s", 7), None);
        advance(Duration::from_millis(799)).await;
        assert!(long.session("s", 7).is_some());
        advance(Duration::from_millis(1)).await;
        assert_eq!(long.session("s", 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn pressure_refuses_the_type_for_a_tenth_of_a_second() {
        let memory = memory(Reason::PressureThreshold, 5000);
        assert_eq!(memory.session("s", 7), None);
        advance(Duration::from_millis(99)).await;
        assert_eq!(memory.pressure(&paid(), 7).unwrap().refusal.retry_after_ms, 4901);
        assert_eq!(memory.pressure(&UserType::anonymous(), 7), None);
        advance(Duration::from_millis(1)).await;
        assert_eq!(memory.pressure(&paid(), 7), None);
    }

    #[tokio::test(start_paused = true)]
    async fn another_revision_decides_anew() {
        let memory = memory(Reason::BurstLimit, 30_000);
        assert!(memory.session("s", 7).is_some());
        assert_eq!(memory.session("s", 8), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_depends_on_more_than_the_caller_is_not_remembered() {
        for reason in Reason::ALL {
            let memory = memory(reason, 30_000);
            let remembered = memory.session("s", 7).is_some() || memory.pressure(&paid(), 7).is_some();
            let expected = matches!(
                reason,
                Reason::BurstLimit
                    | Reason::HourlyLimit
                    | Reason::PressureThreshold
                    | Reason::HardLimit
                    | Reason::NoLiveProcessors
            );
            assert_eq!(remembered, expected, "{reason:?}");
        }
    }
}
