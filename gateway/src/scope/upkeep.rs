//! Keeping one scope in step with Redis: what is due, and doing it.
//!
//! Responsible for a look at the stored policy after every piece of news, for the reports by which everybody sees which
//! policy this gateway holds, for the counts on their way into the statistics, and for taking back the passes of
//! gateways that vanished. Reports are the slow poll as well: each hears what is stored. Must never be what correctness
//! rests on: `admit` refuses whoever missed a change.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use portcullis_lua::{PolicyStamp, Presence, Said, StoreError, Topic};
use tokio::time::Instant;

use super::ServedScope;
use crate::degraded::Fallback;
use crate::metric;

/// What a gateway follows of a scope.
const TOPICS: [Topic; 2] = [Topic::Tasks, Topic::Policy];

/// Pause before something that Redis did not answer is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Longest time between two reports, however long one counts: a connection that broke without a sign is noticed by
/// then.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Pause between two searches for lapsed passes in a scope that is in use. Their places have not counted since they
/// lapsed; this is how much longer their budget holds last.
const LAPSE: Duration = Duration::from_millis(500);

/// Pause until those that could not be ended are tried again. Those that lapse later are searched for as always.
const REFUSED: Duration = Duration::from_secs(5);

/// Longest time between two questions about what is revoked in a scope that is in use: how long a message that was lost
/// keeps alive who only reads.
const REVOCATIONS: Duration = Duration::from_secs(2);

/// How much later than it should be asked what is revoked is too late: of a scope in use, what is known may be five
/// seconds old.
const OVERDUE: Duration = Duration::from_secs(3);

/// A scope that nobody has used for this long is searched no more often than it reports.
const QUIET: Duration = Duration::from_secs(60);

/// What a scope is waiting for.
#[derive(Debug)]
pub(super) struct Due {
    /// Whether news of it has been asked for.
    subscribed: bool,
    /// Pieces of news heard.
    heard: u64,
    /// How many of them have been looked at.
    looked: u64,
    /// When to report at the latest.
    report_at: Instant,
    /// When to look for lapsed passes.
    lapse_at: Instant,
    /// How many of those that lapsed first to leave out then.
    lapse_first: usize,
    /// When to leave out none.
    lapse_all_at: Instant,
    /// When it was last asked what is revoked.
    revocations_asked: Option<Instant>,
    /// Not before, because Redis did not answer.
    not_before: Instant,
    /// What was last reported.
    reported: Option<Holding>,
    /// Whether counts wait to be written that could not be.
    tally_delayed: bool,
}

/// What this gateway holds of a scope's policy, and why it cannot hold what is stored.
type Holding = (PolicyStamp, Option<String>);

impl Due {
    /// Of a scope nothing has been done about yet.
    pub(super) fn at_once() -> Self {
        let now = Instant::now();
        Self {
            subscribed: false,
            heard: 0,
            looked: 0,
            report_at: now,
            lapse_at: now,
            lapse_first: 0,
            lapse_all_at: now,
            revocations_asked: None,
            not_before: now,
            reported: None,
            tally_delayed: false,
        }
    }

    /// Whether to report what is held.
    fn report(&self, holding: &Holding) -> bool {
        Instant::now() >= self.report_at || self.reported.as_ref() != Some(holding)
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
        let (now, due) = (Instant::now(), self.due());
        let by_time = now >= due.lapse_at || self.ask_for_revocations(&due);
        now >= due.not_before && (!due.subscribed || due.heard != due.looked || by_time || due.report(&holding))
    }

    /// What this scope rests on here instead of what it should.
    pub(crate) fn fallbacks(&self) -> impl Iterator<Item = Fallback> {
        let revoked = self.revocations.load();
        let (unlooked, tally_delayed) = {
            let due = self.due();
            (due.heard != due.looked, due.tally_delayed)
        };
        let found = [
            (!self.store.hears_policy(), Fallback::SubscriptionLost),
            (unlooked, Fallback::PolicyUnconfirmed),
            (self.live.fault().is_some(), Fallback::PolicyUnusable),
            (!revoked.is_fresh(self.revocations_pause() + OVERDUE), Fallback::RevocationsStale),
            (revoked.is_lost(), Fallback::RevocationsLost),
            (tally_delayed, Fallback::StatisticsDelayed),
        ];
        found.into_iter().filter_map(|(in_use, fallback)| in_use.then_some(fallback))
    }

    /// Subscribes, looks at news and reports, where due. What Redis does not answer stays due.
    pub(crate) async fn keep_in_step(&self) {
        if let Err(error) = self.do_what_is_due().await {
            metric::upkeep_failed();
            tracing::debug!(%error, scope = %self.store.scope(), "not in step with redis yet");
            self.due().not_before = Instant::now() + RETRY;
        }
    }

    /// Whether it is time to ask what is revoked, whatever was heard.
    fn ask_for_revocations(&self, due: &Due) -> bool {
        due.revocations_asked.is_none_or(|asked| asked.elapsed() >= self.revocations_pause())
    }

    fn revocations_pause(&self) -> Duration {
        if self.unused_for() < QUIET { REVOCATIONS } else { LONGEST_SILENCE }
    }

    async fn do_what_is_due(&self) -> Result<(), StoreError> {
        let (subscribed, heard, looked) = {
            let due = self.due();
            (due.subscribed, due.heard, due.looked)
        };
        // Not where the scope is made: whoever made it may go away meanwhile, and what a new subscription has to say is
        // for a scope that is served.
        if !subscribed {
            self.store.subscribe(&TOPICS).await?;
            self.due().subscribed = true;
        }
        let ask = heard != looked || self.ask_for_revocations(&self.due());
        if ask {
            self.catch_up_with_revocations().await?;
            self.due().revocations_asked = Some(Instant::now());
        }
        if heard != looked {
            self.catch_up().await?;
            // What was heard during the look asks for another one.
            self.due().looked = heard;
        }
        let holding = self.holding();
        let report = self.due().report(&holding);
        if report {
            self.report(holding).await?;
        }
        // Whatever the policy guards: there may be passes of a policy before it, and of decisions for other proxies.
        let lapse = Instant::now() >= self.due().lapse_at;
        if lapse { self.take_back_lapsed().await } else { Ok(()) }
    }

    /// Takes back passes whose gateways vanished; at once again while there are more of them than one call takes. Those
    /// that cannot be taken back are left out for a while: each time there may be thousands of them.
    async fn take_back_lapsed(&self) -> Result<(), StoreError> {
        let (policy, first) = (self.policy(), self.due().lapse_first);
        let lapsed = self.shared.breaker.call(self.store.lapse(policy.compiled(), first)).await?;
        metric::passes_taken_back(lapsed.taken_back as u64);
        let left = first + lapsed.refused;
        let pause = match self.unused_for() {
            _ if lapsed.more => Duration::ZERO,
            unused if unused < QUIET && policy.guards_paths() => LAPSE,
            _ => LONGEST_SILENCE,
        };
        let (mut due, now) = (self.due(), Instant::now());
        let all = !lapsed.more && now >= due.lapse_all_at;
        if all && left > 0 {
            tracing::error!(passes = left, scope = %self.store.scope(), "lapsed passes cannot be ended");
            due.lapse_all_at = now + REFUSED;
        }
        due.lapse_first = if all { 0 } else { left };
        due.lapse_at = now + pause;
        Ok(())
    }

    /// Says which policy this gateway holds, hears which is stored, and follows it.
    async fn report(&self, holding: Holding) -> Result<(), StoreError> {
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
            due.report_at = Instant::now() + Duration::from_millis(timeout_ms / 2).min(LONGEST_SILENCE);
            due.reported = Some(holding);
        }
        breaker.call(self.live.hear(stored)).await?;
        if self.live.stamp() != presence.stamp {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Reports now, whenever it last did.
    pub(crate) async fn report_anew(&self) {
        self.due().reported = None;
        self.keep_in_step().await;
    }

    /// What this gateway is called in the reports of replicas.
    pub(crate) fn replica(&self) -> &str {
        &self.shared.replica
    }

    /// Takes this gateway's report back.
    pub(crate) async fn unfollow(&self) {
        let taken_back = self.shared.breaker.call(self.store.unfollow(&self.shared.replica)).await;
        if let Err(error) = taken_back {
            tracing::debug!(%error, scope = %self.store.scope(), "the report lapses by itself");
        }
    }

    /// Writes what was decided to the scope's statistics; what cannot be written now is written later. Whether nothing
    /// is left to be written.
    pub(crate) async fn flush_tally(&self) -> bool {
        while let Some(flush) = self.tally.next_flush() {
            let policy = self.policy();
            let written = self.store.tally(policy.compiled(), &self.shared.replica, &flush);
            if let Err(error) = self.shared.breaker.call(written).await {
                tracing::debug!(%error, "the latest decisions are not in the statistics yet");
                self.due().tally_delayed = true;
                return false;
            }
            self.tally.written(&flush);
        }
        self.due().tally_delayed = false;
        true
    }

    fn holding(&self) -> Holding {
        (self.live.stamp(), self.live.fault())
    }

    fn due(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
