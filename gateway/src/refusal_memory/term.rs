//! Which refusals may be repeated without asking, for whom and for how long.
//!
//! Responsible for the rule, apart from where refusals are kept, so that the simulation of a cluster goes by the same
//! one. Must never read a clock: every instant is handed in.
//!
//! Pressure is remembered for longer than until the first place may be free, as long as that leaves no slot idle: where
//! tasks end every few milliseconds, a gateway would otherwise ask at each end, only to be refused again. What counts
//! is the backlog, the time for which the slots have queued work even if nobody is admitted. A third of it is slept
//! through; whoever is let in then still finds two thirds of the queue ahead. With a short queue pressure is remembered
//! for no longer than until a place may be free.

use std::time::Duration;

use portcullis_lua::{LimitState, PolicyStamp, Reason, Refusal};
use tokio::time::Instant;

/// How long a session's refusal is repeated at most. A tenth less than what is waited for after a change of policy
/// ([`LONGEST_MEMORY`](super::LONGEST_MEMORY)), as the clocks of two machines need not run alike.
const SESSION_MEMORY: Duration = Duration::from_millis(900);

/// How long a user type's refusal under pressure is repeated at most: depth changes with every task that ends.
const PRESSURE_MEMORY: Duration = Duration::from_millis(100);

/// What part of the backlog may drain while a refusal under pressure is repeated.
const BACKLOG_SHARE: u32 = 3;

/// What part of its term is left of a refusal under pressure when somebody may ask ahead of its end.
const ASK_AHEAD_SHARE: u32 = 10;

/// How often the script is asked, by one gateway, while one place among passes is expected to come free.
const ASKED_FOR_EACH: u32 = 8;

/// Whose refusal it is that would be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Everybody of this session.
    BySession,
    /// Everybody of this user type.
    ByUserType,
}

/// For how long a refusal stands, and under which policy.
#[derive(Clone, Copy, Debug)]
pub struct Term {
    asked_at: Instant,
    ask_ahead_at: Instant,
    forget_at: Instant,
    stamp: PolicyStamp,
}

impl Shared {
    /// The refusal as those are told it who share it: only what the shared windows, or pressure, need themselves. The
    /// other limits and budgets of whoever asked are nobody else's, not even within a session: agents have their own.
    #[must_use]
    pub fn repeated(self, refusal: &Refusal, limits: &[LimitState]) -> Refusal {
        let needed_ms = match self {
            Self::BySession => full_ms(limits).min(refusal.retry_after_ms),
            Self::ByUserType => refusal.pressure_ms,
        };
        Refusal { retry_after_ms: needed_ms, ..refusal.clone() }
    }
}

/// How long until none of the session's own windows is full, ms.
fn full_ms(limits: &[LimitState]) -> u64 {
    let full = limits.iter().filter(|limit| limit.is_of_session() && limit.remaining == 0);
    full.map(|limit| limit.reset_ms).max().unwrap_or(0)
}

impl Term {
    /// The term of a decision about a request that counts as `cost`, if its like will be decided the same for a while:
    /// a full window of a session, and pressure on a user type. Everything else depends on more than the caller, such
    /// as a deadline or a kind; so does a window that is only too full for a request that counts for many.
    ///
    /// `asked_at` is when the call was sent: the decision was made no earlier, and an answer may come late.
    #[must_use]
    pub fn of(
        asked_at: Instant,
        cost: u32,
        refusal: &Refusal,
        limits: &[LimitState],
        stamp: PolicyStamp,
    ) -> Option<(Shared, Self)> {
        let (shared, length) = match refusal.reason {
            Reason::BurstLimit | Reason::HourlyLimit if cost == 1 => {
                // Another gate, which may be the kind's alone, may need longer than the window does.
                let full = limits.iter().find(|limit| Some(&limit.name) == refusal.name.as_ref());
                let window = full.map_or(Duration::MAX, |limit| Duration::from_millis(limit.reset_ms));
                (Shared::BySession, SESSION_MEMORY.min(window).min(Duration::from_millis(refusal.retry_after_ms)))
            }
            reason if reason.is_shared_pressure() => {
                let affordable = Duration::from_millis(refusal.backlog_ms) / BACKLOG_SHARE;
                let pressure = Duration::from_millis(refusal.pressure_ms);
                (Shared::ByUserType, PRESSURE_MEMORY.min(pressure.max(affordable)))
            }
            _ => return None,
        };
        let forget_at = asked_at + length;
        let ask_ahead_at = match shared {
            // A window says to the millisecond when it has room.
            Shared::BySession => forget_at,
            Shared::ByUserType => forget_at - length / ASK_AHEAD_SHARE,
        };
        Some((shared, Self { asked_at, ask_ahead_at, forget_at, stamp }))
    }

    /// The term for a pass. No queue keeps an application busy behind one, so a place that comes free must not wait for
    /// a memory to end: it lasts an eighth of the time in which one is expected to. However many come, Redis is then
    /// asked eight times for each that can be let through.
    #[must_use]
    pub fn of_pass(self, refusal: &Refusal) -> Self {
        if !refusal.reason.is_shared_pressure() {
            return self;
        }
        let expected = Duration::from_millis(refusal.pressure_ms);
        let forget_at = self.forget_at.min(self.asked_at + expected / ASKED_FOR_EACH);
        Self { ask_ahead_at: forget_at, forget_at, ..self }
    }

    /// Whether it was asked for after that moment, so that it knows of what happened by then.
    #[must_use]
    pub fn is_later_than(&self, moment: Instant) -> bool {
        self.asked_at > moment
    }

    /// How much of it has passed, if it still stands now under this policy.
    #[must_use]
    pub fn passed(&self, now: Instant, stamp: PolicyStamp) -> Option<Duration> {
        (self.stamp == stamp && now < self.forget_at).then(|| now.saturating_duration_since(self.asked_at))
    }

    /// Whether one caller may ask now although it stands, so that its successor is known before everybody asks. The
    /// others are refused until it ends: an answer that never comes keeps nobody out for longer.
    #[must_use]
    pub fn may_ask_ahead(&self, now: Instant) -> bool {
        now >= self.ask_ahead_at
    }

    /// Whether an admission that was asked for then is news that this refusal does not know of.
    #[must_use]
    pub fn is_refuted_by(&self, admission_asked_at: Instant) -> bool {
        admission_asked_at > self.asked_at
    }

    /// After which time whoever asked is to come back, ms: 0, which is never, stays so.
    #[must_use]
    pub fn asker_retry_after_ms(&self, refusal: &Refusal) -> u64 {
        if refusal.retry_after_ms == 0 { 0 } else { self.retry_after_ms(refusal, Duration::ZERO) }
    }

    /// After which time to come back, ms, when a caller is told so `passed` after the question: what is left of the
    /// refusal's own time, and never while it would still be repeated.
    #[must_use]
    pub fn retry_after_ms(&self, refusal: &Refusal, passed: Duration) -> u64 {
        let left = (self.forget_at - self.asked_at).saturating_sub(passed).as_micros().div_ceil(1000) as u64;
        // Never 0: what is remembered still stands.
        refusal.retry_after_ms.saturating_sub(passed.as_millis() as u64).max(left).max(1)
    }
}
