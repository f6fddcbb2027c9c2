//! What the tasks of a gateway do with its scopes, all of them in turn.
//!
//! Responsible for looking after thousands of scopes with a handful of tasks: one keeps them in step with Redis, one
//! writes their counts, one drops those that nobody uses. Must never look after one scope so long that the others wait.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use portcullis_config::Scope;
use tokio::time::sleep;

use super::Scopes;

/// A scope that nobody has used for this long is dropped: its next use costs one more round trip.
pub(super) const UNUSED: Duration = Duration::from_secs(600);

/// Pause between two searches for such scopes.
pub(super) const SWEEP: Duration = Duration::from_secs(30);

/// How many scopes are looked after at once: enough to be through with thousands in a second, few enough to leave Redis
/// to the requests.
const AT_ONCE: usize = 16;

/// Longest time between two looks at what is due, when nobody calls for one.
const TICK: Duration = Duration::from_millis(200);

/// Pause between two writes of what was decided.
const TALLY_INTERVAL: Duration = Duration::from_secs(1);

impl Scopes {
    /// There may be another policy for this scope.
    pub(crate) fn note_news(&self, scope: &Scope) {
        if let Some(served) = self.find(scope) {
            served.note_news();
            self.shared.wake.notify_one();
        }
    }

    /// There may be another policy for any scope.
    pub(crate) fn note_news_of_all(&self) {
        self.served().iter().for_each(|served| served.note_news());
        self.shared.wake.notify_one();
    }

    /// Keeps every scope in step with Redis until the gateway stops; then takes back what this gateway reported.
    pub(crate) async fn keep_in_step(self: Arc<Self>) {
        let stopping = self.shared.background.stopping().clone();
        while !stopping.is_cancelled() {
            if !self.shared.breaker.is_open() {
                let due = self.served().into_iter().filter(|served| served.is_due());
                let kept = stream::iter(due).for_each_concurrent(AT_ONCE, |served| async move {
                    Box::pin(served.keep_in_step()).await;
                });
                stopping.run_until_cancelled(kept).await;
            }
            tokio::select! {
                () = self.shared.wake.notified() => {}
                () = sleep(TICK) => {}
                () = stopping.cancelled() => {}
            }
        }
        let leaving = stream::iter(self.served());
        leaving.for_each_concurrent(AT_ONCE, |served| async move { served.unfollow().await }).await;
    }

    /// Writes the counts of every scope until the gateway stops, and once more then.
    pub(crate) async fn keep_tallies(self: Arc<Self>) {
        let stopping = self.shared.background.stopping().clone();
        loop {
            let stopped = stopping.run_until_cancelled(sleep(TALLY_INTERVAL)).await.is_none();
            let counted = stream::iter(self.served());
            counted
                .for_each_concurrent(AT_ONCE, |served| async move {
                    served.flush_tally().await;
                })
                .await;
            if stopped {
                return;
            }
        }
    }

    /// Drops scopes that nobody uses, for ever.
    pub(crate) async fn keep_swept(self: Arc<Self>) {
        loop {
            sleep(SWEEP).await;
            let unused: Vec<_> = {
                let table = self.read();
                let unused = table.iter().filter(|(_, slot)| slot.unused_for().is_some_and(|time| time >= UNUSED));
                unused.map(|(scope, slot)| (scope.clone(), slot.clone())).collect()
            };
            for (scope, slot) in unused {
                self.close(&scope, slot).await;
            }
        }
    }
}
