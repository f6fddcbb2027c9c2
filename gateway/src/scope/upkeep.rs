//! Keeping one scope in step with Redis: what is due, and doing it.
//!
//! Responsible for a look at the stored policy after every piece of news, for the reports by which everybody sees which
//! policy this gateway holds, and for the counts on their way into the statistics. Reports are the slow poll as well:
//! each hears what is stored. Must never be what correctness rests on: `admit` refuses whoever missed a change.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::{PolicyStamp, Presence, Said, StoreError};
use tokio::time::Instant;

use super::ServedScope;
use crate::metric;

/// Pause before something that Redis did not answer is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// What a scope is waiting for.
#[derive(Debug)]
pub(super) struct Due {
    /// Pieces of news heard.
    heard: u64,
    /// How many of them have been looked at.
    looked: u64,
    /// When to report at the latest.
    report_at: Instant,
    /// Not before, because Redis did not answer.
    not_before: Instant,
    /// What was last reported.
    reported: Option<Holding>,
}

/// What this gateway holds of a scope's policy, and why it cannot hold what is stored.
type Holding = (PolicyStamp, Option<String>);

impl Due {
    /// Of a scope nothing has been done about yet.
    pub(super) fn at_once() -> Self {
        let now = Instant::now();
        Self { heard: 0, looked: 0, report_at: now, not_before: now, reported: None }
    }
}

impl ServedScope {
    /// There may be another policy.
    pub(crate) fn note_news(&self) {
        self.due().heard += 1;
    }

    /// Whether a refusal under the policy in force may be repeated from memory: nothing can have been missed, and
    /// nothing has been heard that was not looked at.
    pub(crate) fn is_abreast(&self) -> bool {
        let due = self.due();
        due.heard == due.looked && self.store.hears_policy()
    }

    /// Whether there is anything for [`keep_in_step`](Self::keep_in_step) to do.
    pub(crate) fn is_due(&self) -> bool {
        let holding = self.holding();
        let (due, now) = (self.due(), Instant::now());
        now >= due.not_before && (due.heard != due.looked || now >= due.report_at || due.reported.as_ref() != Some(&holding))
    }

    /// Looks at news and reports, where due. What Redis does not answer stays due.
    pub(crate) async fn keep_in_step(&self) {
        let (heard, looked) = {
            let due = self.due();
            (due.heard, due.looked)
        };
        if heard != looked {
            if let Err(error) = self.catch_up().await {
                return self.try_later(&error);
            }
            // What was heard during the look asks for another one.
            self.due().looked = heard;
        }
        if let Err(error) = self.report().await {
            self.try_later(&error);
        }
    }

    /// Says which policy this gateway holds, hears which is stored, and follows it.
    async fn report(&self) -> Result<(), StoreError> {
        let holding = self.holding();
        let timeout_ms = self.policy().policy().monitoring.heartbeat_timeout_seconds * 1000;
        let presence = Presence {
            name: self.shared.replica.to_string(),
            said: Said { version: env!("CARGO_PKG_VERSION").to_owned(), fault: holding.1.clone() },
            stamp: holding.0,
            timeout_ms,
        };
        let breaker = &self.shared.breaker;
        let stored = breaker.call(self.store.follow(&presence)).await?;
        {
            let mut due = self.due();
            due.report_at = Instant::now() + Duration::from_millis(timeout_ms / 2);
            due.reported = Some(holding);
        }
        breaker.call(self.live.hear(stored)).await?;
        if self.live.stamp() != presence.stamp {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Takes this gateway's report back.
    pub(crate) async fn unfollow(&self) {
        let taken_back = self.shared.breaker.call(self.store.unfollow(&self.shared.replica)).await;
        if let Err(error) = taken_back {
            tracing::debug!(%error, scope = %self.store.scope(), "the report lapses by itself");
        }
    }

    /// Writes what was decided to the scope's statistics; what cannot be written now is written later.
    pub(crate) async fn flush_tally(&self) {
        let counts = self.tally.take();
        if counts.is_empty() {
            return;
        }
        let (policy, entries) = (self.policy(), counts.entries());
        let written = self.shared.breaker.call(self.store.tally(policy.compiled(), &entries)).await;
        if let Err(error) = written {
            tracing::debug!(%error, "the latest decisions are not in the statistics yet");
            self.tally.put_back(&counts);
        }
    }

    fn holding(&self) -> Holding {
        (self.live.stamp(), self.live.fault())
    }

    fn try_later(&self, error: &StoreError) {
        metric::upkeep_failed();
        tracing::debug!(%error, scope = %self.store.scope(), "not in step with redis yet");
        self.due().not_before = Instant::now() + RETRY;
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
