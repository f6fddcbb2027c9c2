//! How far one lease may be trusted: the arithmetic of the trust window, apart from whoever waits for it.
//!
//! Responsible for the instants at which a lease is renewed and given up, so that the simulation of a cluster goes by
//! the same ones. Must never read a clock: every instant is handed in.

use std::time::Duration;

use portcullis_lua::Renewal;
use tokio::time::Instant;

/// Longest time between two renewals; with it a cancellation reaches an attempt within a second.
const RENEW_PERIOD_MAX: Duration = Duration::from_millis(500);

/// Why an attempt may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseEnd {
    /// The task's caller cancelled it; the lease is still ours to settle.
    Cancelled,
    /// Somebody else may hold the task: nothing may be settled.
    Lost,
}

/// What a holder knows of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// From this instant on somebody else may hold the task.
    pub trusted_until: Instant,
    /// The task's caller has cancelled it.
    pub cancelled: bool,
    /// Redis has said that the lease is nobody's, or somebody else's.
    pub lost: bool,
}

impl Standing {
    /// A lease fresh from a call.
    #[must_use]
    pub fn new(trusted_until: Instant) -> Self {
        Self { trusted_until, cancelled: false, lost: false }
    }

    /// A renewal is being sent that would make the lease last until this instant. Redis may run it although its answer
    /// is lost, and the policy may have made leases shorter meanwhile: from here on the lease is trusted for no longer.
    /// Whether that is sooner than before.
    pub fn expect_no_longer(&mut self, until: Instant) -> bool {
        let sooner = until < self.trusted_until;
        self.trusted_until = self.trusted_until.min(until);
        sooner
    }

    /// A renewal was answered, which makes the lease last until this instant if it was ours.
    pub fn note(&mut self, renewal: Renewal, until: Instant) {
        match renewal {
            Renewal::Held => self.trusted_until = until,
            Renewal::Cancelled => {
                self.trusted_until = until;
                self.cancelled = true;
            }
            Renewal::Lost => self.lost = true,
        }
    }

    /// Whether nobody else can hold the task yet.
    #[must_use]
    pub fn is_trusted(&self, now: Instant) -> bool {
        !self.lost && now < self.trusted_until
    }

    /// Why the attempt may not go on, if it may not. Cancellation wins over loss only while the lease is trusted.
    #[must_use]
    pub fn end(&self, now: Instant) -> Option<LeaseEnd> {
        if !self.is_trusted(now) {
            return Some(LeaseEnd::Lost);
        }
        self.cancelled.then_some(LeaseEnd::Cancelled)
    }
}

/// Time between two renewals: a third of the lease, so that two may fail before it is in danger.
#[must_use]
pub fn renew_period(lease_ms: u64) -> Duration {
    Duration::from_millis(lease_ms / 3).min(RENEW_PERIOD_MAX)
}

/// How long a lease of a call that was sent at `sent` is trusted. A tenth of it is the margin for clock drift and for
/// ending the attempt.
#[must_use]
pub fn trusted_until(sent: Instant, lease_ms: u64) -> Instant {
    sent + Duration::from_millis(lease_ms - lease_ms / 10)
}
