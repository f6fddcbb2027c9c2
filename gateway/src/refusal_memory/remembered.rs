//! Which refusals may be repeated without asking, for how long, and what is left of one.
//!
//! Responsible for the rule, apart from where refusals are kept, so that the simulation of a cluster goes by the same
//! one. Must never read a clock: every instant is handed in.

use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{LimitState, PolicyStamp, Reason, Refusal};
use tokio::time::Instant;

use crate::refusal::Limits;

/// How long a session's refusal is repeated at most.
pub(super) const SESSION_MEMORY: Duration = Duration::from_secs(1);

/// How long a user type's refusal under pressure is repeated at most: depth changes with every task that ends.
const PRESSURE_MEMORY: Duration = Duration::from_millis(100);

/// A refusal repeated from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// The decision, with the time that is left of it.
    pub refusal: Refusal,
    /// The caller's limits at that decision, and how long ago it was.
    pub limits: Limits,
}

/// Whose refusal it is that would be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// Everybody of this session.
    BySession,
    /// Everybody of this user type.
    ByUserType,
}

/// A refusal that may be repeated for a while, under the same policy.
#[derive(Debug)]
pub struct Remembered {
    refusal: Refusal,
    limits: Arc<[LimitState]>,
    decided_at: Instant,
    forget_at: Instant,
    stamp: PolicyStamp,
}

impl Remembered {
    /// What is to be remembered of a decision about a request that counts as `cost`, if its like will be decided the
    /// same for a while: a full window of a session, and pressure on a user type. Everything else depends on more than
    /// the caller, such as a deadline or a kind; so does a window that is only too full for a request that counts for
    /// many.
    #[must_use]
    pub fn of(
        now: Instant,
        cost: u32,
        refusal: &Refusal,
        limits: &Arc<[LimitState]>,
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
        let forget_at = now + longest.min(Duration::from_millis(refusal.retry_after_ms));
        let (refusal, limits) = (refusal.clone(), limits.clone());
        Some((shared, Self { refusal, limits, decided_at: now, forget_at, stamp }))
    }

    /// The refusal, if it would be repeated now under this policy.
    #[must_use]
    pub fn recall(&self, now: Instant, stamp: PolicyStamp) -> Option<Recalled> {
        if self.stamp != stamp || now >= self.forget_at {
            return None;
        }
        let passed_ms = now.duration_since(self.decided_at).as_millis() as u64;
        // Never 0: what is remembered still stands.
        let retry_after_ms = self.refusal.retry_after_ms.saturating_sub(passed_ms).max(1);
        let limits = Limits { states: self.limits.clone(), aged_ms: passed_ms };
        Some(Recalled { refusal: Refusal { retry_after_ms, ..self.refusal.clone() }, limits })
    }
}
