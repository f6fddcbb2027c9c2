//! Which refusals may be repeated without asking, for whom and for how long.
//!
//! Responsible for the rule, apart from where refusals are kept, so that the simulation of a cluster goes by the same
//! one. Must never read a clock: every instant is handed in.

use std::time::Duration;

use portcullis_lua::{LimitState, PolicyStamp, Reason, Refusal, Step};
use tokio::time::Instant;

/// How long a session's refusal is repeated at most. A tenth less than what is waited for after a change of policy
/// ([`LONGEST_MEMORY`](super::LONGEST_MEMORY)), as the clocks of two machines need not run alike.
const SESSION_MEMORY: Duration = Duration::from_millis(900);

/// How long a user type's refusal under pressure is repeated at most: depth changes with every task that ends.
const PRESSURE_MEMORY: Duration = Duration::from_millis(100);

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
    forget_at: Instant,
    stamp: PolicyStamp,
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
        let (shared, longest) = match refusal.reason {
            Reason::BurstLimit | Reason::HourlyLimit if cost == 1 => {
                // Another gate, which may be the kind's alone, may need longer than the window does.
                let full = limits.iter().find(|limit| Some(&limit.name) == refusal.name.as_ref());
                let window = full.map_or(Duration::MAX, |limit| Duration::from_millis(limit.reset_ms));
                (Shared::BySession, SESSION_MEMORY.min(window))
            }
            Reason::PressureThreshold | Reason::HardLimit | Reason::NoLiveProcessors => {
                (Shared::ByUserType, PRESSURE_MEMORY)
            }
            _ => return None,
        };
        let forget_at = asked_at + longest.min(Duration::from_millis(refusal.retry_after_ms));
        Some((shared, Self { asked_at, forget_at, stamp }))
    }

    /// The term for a pass. No queue keeps an application busy behind one, so a place that comes free must not wait for
    /// a memory to end: it lasts an eighth of the time in which one is expected to. However many come, Redis is then
    /// asked eight times for each that can be let through.
    #[must_use]
    pub fn of_pass(self, refusal: &Refusal) -> Self {
        if refusal.reason.step() != Step::Backpressure {
            return self;
        }
        let expected = Duration::from_millis(refusal.retry_after_ms);
        Self { forget_at: self.forget_at.min(self.asked_at + expected / ASKED_FOR_EACH), ..self }
    }

    /// When it was asked for.
    #[must_use]
    pub fn asked_at(&self) -> Instant {
        self.asked_at
    }

    /// How much of it has passed, if it still stands now under this policy.
    #[must_use]
    pub fn passed(&self, now: Instant, stamp: PolicyStamp) -> Option<Duration> {
        (self.stamp == stamp && now < self.forget_at).then(|| now.saturating_duration_since(self.asked_at))
    }
}
