//! The places of a gateway's passes in flight: kept while their requests run, given back when they are over.
//!
//! Responsible for giving back every place that this gateway has got, once, also when its request was dropped on the
//! way; for extending those of long answers, and saying with that how they began, so that a probe is judged long
//! before they end; and for trying again while Redis is away. Must never hold a request up:
//! whoever ends a pass says so and goes on. What is never written lapses by itself, which is also what becomes of the
//! places of a gateway that is killed, and of passes whose ends Redis does not take.

mod kept;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream};
use portcullis_lua::{
    LivePolicy, PASS_BATCH, PassEnd, PassEnded, PassExtension, PassHead, PassLease, PassOutcome, ScopeStore,
    StoreError, TaskId,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::metric;
use crate::policy_in_force::PolicyInForce;
use crate::refusal_memory::RefusalMemory;
use crate::store_breaker::StoreBreaker;

use kept::{Ended, Kept, ToExtend};

/// Calls about passes that are in flight at once: each is a batch of one scope.
const AT_ONCE: usize = 16;

/// Pause before what Redis did not answer is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Longest sleep when nothing is due.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// What of a scope is needed to end its passes; they may outlast its use by anybody.
#[derive(Debug)]
pub(crate) struct PassScope {
    pub(crate) store: ScopeStore,
    pub(crate) live: LivePolicy<PolicyInForce>,
}

/// The passes of one gateway, in all its scopes.
#[derive(Debug, Default)]
pub(crate) struct PassKeeper {
    kept: Mutex<Kept>,
    /// Something has ended, or is to be extended sooner than all else.
    due: Notify,
}

/// A place among the passes in flight. Dropped, it is given back as abandoned.
#[derive(Debug)]
pub(crate) struct Place {
    keeper: Arc<PassKeeper>,
    /// `None` once it has been given back.
    number: Option<u64>,
}

impl Place {
    /// The answer begins; its breaker hears of it if it lasts.
    pub(crate) fn note_answered(&self, head: PassHead) {
        if let Some(number) = self.number {
            self.keeper.kept().answered(number, head);
        }
    }

    /// Gives it back, soon; `usage` by unit, and the time until the answer began.
    pub(crate) fn give_back(mut self, outcome: PassOutcome, usage: Vec<(String, u64)>, answered_ms: Option<u64>) {
        self.end(outcome, usage, answered_ms);
    }

    /// Leaves it to somebody else to give it back; `None` if it has lapsed.
    pub(crate) fn hand_over(mut self) -> Option<TaskId> {
        let (in_flight, pass_id) = self.keeper.kept().hand_over(self.number.take()?);
        metric::passes_in_flight(in_flight);
        pass_id
    }

    fn end(&mut self, outcome: PassOutcome, usage: Vec<(String, u64)>, answered_ms: Option<u64>) {
        if let Some(number) = self.number.take() {
            self.keeper.end(number, outcome, usage, answered_ms);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end(PassOutcome::Abandoned, Vec::new(), None);
    }
}

impl PassKeeper {
    /// Keeps a place that was asked for at `asked_at`: it lasts at least as long as if it had been given then.
    pub(crate) fn keep(self: &Arc<Self>, scope: Arc<PassScope>, lease: PassLease, asked_at: Instant) -> Place {
        let (number, in_flight, first) = self.kept().keep(scope, lease, asked_at);
        metric::passes_in_flight(in_flight);
        if first {
            self.due.notify_one();
        }
        Place { keeper: self.clone(), number: Some(number) }
    }

    fn end(&self, number: u64, outcome: PassOutcome, usage: Vec<(String, u64)>, answered_ms: Option<u64>) {
        let (in_flight, remembered) = self.kept().end(number, outcome, usage, answered_ms);
        metric::passes_in_flight(in_flight);
        if !remembered {
            metric::passes_lost(1);
        }
        self.due.notify_one();
    }

    /// Gives back what has ended and extends what lasts, until the gateway stops; what has ended then is given back
    /// once more, what has not lapses.
    pub(crate) async fn tend(&self, breaker: &StoreBreaker, memory: &RefusalMemory, stopping: CancellationToken) {
        loop {
            let stopped = stopping.is_cancelled();
            if !breaker.is_open() {
                self.write(breaker, memory).await;
            }
            if stopped {
                return;
            }
            if breaker.is_open() {
                // What ends meanwhile gathers.
                stopping.run_until_cancelled(sleep(RETRY)).await;
                continue;
            }
            let rest = self.kept().next_due().unwrap_or_else(|| Instant::now() + LONGEST_REST);
            tokio::select! {
                () = self.due.notified() => {}
                () = sleep_until(rest) => {}
                () = stopping.cancelled() => {}
            }
        }
    }

    async fn write(&self, breaker: &StoreBreaker, memory: &RefusalMemory) {
        let now = Instant::now();
        let (ended, extensions) = {
            let mut kept = self.kept();
            (kept.take_ended(now, PASS_BATCH), kept.take_due(now, PASS_BATCH))
        };
        let given_back = ended.into_iter().map(|batch| self.finish(breaker, memory, batch).boxed());
        let extended = extensions.into_iter().map(|batch| self.extend(breaker, batch).boxed());
        let calls: Vec<_> = given_back.chain(extended).collect();
        stream::iter(calls).for_each_concurrent(AT_ONCE, |call| call).await;
    }

    async fn finish(&self, breaker: &StoreBreaker, memory: &RefusalMemory, batch: Vec<Ended>) {
        let Some(scope) = batch.first().map(|ended| ended.scope.clone()) else { return };
        let ends: Vec<PassEnd> = batch.iter().map(|ended| ended.end.clone()).collect();
        let (policy, said_at) = (scope.live.load(), Instant::now());
        match breaker.call(scope.store.finish(policy.compiled(), &ends)).await {
            Ok(answers) => {
                memory.note_place_free();
                let refused = answers.iter().filter(|answer| **answer == PassEnded::Refused).count();
                if refused > 0 {
                    tracing::error!(passes = refused, "the ends of passes are refused: they are left to lapse");
                }
                let told = batch.iter().zip(answers);
                metric::passes_lost(told.filter(|(ended, answer)| ended.is_lost(*answer, said_at)).count());
            }
            // Said twice it changes nothing.
            Err(StoreError::Unavailable(_)) => self.kept().put_back(batch, Instant::now() + RETRY),
            Err(error) => {
                tracing::error!(%error, "passes that have ended are left to lapse");
                metric::passes_lost(batch.len());
            }
        }
    }

    async fn extend(&self, breaker: &StoreBreaker, batch: Vec<ToExtend>) {
        let Some(scope) = batch.first().map(|due| due.scope.clone()) else { return };
        let extensions: Vec<PassExtension> = batch.iter().map(|due| due.extension.clone()).collect();
        let (policy, asked_at) = (scope.live.load(), Instant::now());
        let answers = breaker.call(scope.store.extend(policy.compiled(), &extensions)).await;
        let mut kept = self.kept();
        match answers {
            Ok(answers) => {
                let answers = batch.iter().zip(answers);
                let lost = answers.filter(|(due, held)| kept.was_extended(due.number, *held, asked_at)).count();
                metric::passes_lost(lost);
            }
            Err(error) => {
                tracing::debug!(%error, "passes are not extended yet");
                for due in &batch {
                    kept.not_extended(due, asked_at + RETRY);
                }
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Gateway;
    use crate::state::tests::options_without_redis;

    #[tokio::test]
    async fn a_place_that_is_dropped_is_given_back_as_abandoned_and_one_that_was_given_back_is_not() {
        let gateway = Gateway::new(options_without_redis());
        let keeper = gateway.passes().clone();
        let scope = gateway.scopes().default_scope().decider().pass_scope.clone();
        let keep = || {
            let (pass_id, kind) = (TaskId::generate(), "guarded".to_owned());
            let lease = PassLease { pass_id, kind, lease_ms: 9_000, pooled: false, holds: Vec::new(), acting: None };
            keeper.keep(scope.clone(), lease, Instant::now())
        };
        drop(keep());
        keep().give_back(PassOutcome::Failed, vec![("tokens".to_owned(), 3)], Some(7));
        let ended: Vec<Ended> = keeper.kept().take_ended(Instant::now(), 64).into_iter().flatten().collect();
        let said: Vec<_> = ended.iter().map(|ended| (ended.end.outcome, ended.end.answered_ms)).collect();
        assert_eq!(said, [(PassOutcome::Abandoned, None), (PassOutcome::Failed, Some(7))]);
        assert_eq!(ended[1].end.usage, [("tokens".to_owned(), 3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_redis_does_not_answer_stays_to_be_said_and_stopping_does_not_wait_for_it() {
        let gateway = Gateway::new(options_without_redis());
        let keeper = gateway.passes();
        let scope = gateway.scopes().default_scope().decider().pass_scope.clone();
        let lease = PassLease {
            pass_id: TaskId::generate(),
            kind: "guarded".to_owned(),
            lease_ms: 9_000,
            pooled: false,
            holds: Vec::new(),
            acting: None,
        };
        drop(keeper.keep(scope, lease, Instant::now()));
        keeper.write(gateway.store_breaker(), gateway.refusal_memory()).await;
        assert!(keeper.kept().next_due().is_some());
        let stopping = CancellationToken::new();
        stopping.cancel();
        keeper.tend(gateway.store_breaker(), gateway.refusal_memory(), stopping).await;
        assert!(keeper.kept().next_due().is_some(), "nothing is forgotten that was not written");
    }
}
