//! One run of a handler under its lease, and what became of it.
//!
//! Responsible for ending the run the moment any of its bounds is reached: answer, lease, deadline, timeout, drain. The
//! policy it begins under sets its bounds, because its handler has been told them; the backoff after it is the policy's
//! of that moment. Must never settle: it answers an outcome, or none when the lease may belong to somebody else by now.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use portcullis_config::{Policy, Scope};
use portcullis_lua::{Lease, Outcome, TaskError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::clock::RedisClock;
use crate::handler::{AttemptContext, Handler, HandlerOutcome, Handlers, error};
use crate::lease::{Held, LeaseEnd};
use crate::output::{OutputSink, StaleOutput};
use crate::policy::ScopePolicy;
use crate::store::TaskStore;
use crate::{backoff, metric, output};

/// Label of attempts for which nobody is registered.
const NO_HANDLER: &str = "none";

/// What every attempt of a processor shares.
pub(crate) struct Runner {
    pub(crate) store: Arc<dyn TaskStore>,
    pub(crate) policy: ScopePolicy,
    pub(crate) scope: Scope,
    pub(crate) handlers: Handlers,
    /// Carries deadlines over to our own clock: early, never late.
    pub(crate) clock: RedisClock,
    /// Cancelled when the drain time is over.
    pub(crate) cutoff: CancellationToken,
}

/// What an attempt may not exceed, whatever becomes of the policy meanwhile.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Local instants at which it is over.
    deadline: Option<Instant>,
    timeout: Instant,
    /// What the latter was made of.
    timeout_ms: u64,
    max_result_bytes: u64,
}

impl Runner {
    /// Runs the lease's handler. `None` means settle nothing.
    pub(crate) async fn run(&self, lease: &Lease, held: &Held) -> Option<Outcome> {
        let bounds = Bounds::new(self.policy.load().policy(), lease, &self.clock);
        let Some((registered, handler)) = self.handlers.find(&lease.envelope.kind) else {
            let detail = format!("no handler for {:?} on this processor", lease.envelope.kind);
            let outcome = self.outcome_of(HandlerOutcome::retry("no_handler", detail), &bounds, lease);
            report(NO_HANDLER, lease, Some(&outcome), Duration::ZERO);
            return Some(outcome);
        };
        let started = Instant::now();
        let outcome = match self.may_start(&bounds, held) {
            Ok(()) => self.attempt(lease, held, handler.as_ref(), bounds).await,
            Err(outcome) => Some(outcome),
        };
        report(registered, lease, outcome.as_ref(), started.elapsed());
        outcome
    }

    /// Nothing starts after its deadline, after the lease, or after the drain time; the error is what to settle then.
    fn may_start(&self, bounds: &Bounds, held: &Held) -> Result<(), Outcome> {
        if bounds.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Outcome::Expired);
        }
        // The claim's answer took as long as the lease. If the lease is still ours after all, this gives it back at
        // once and costs the task no attempt; if not, the token is stale and nothing happens.
        if !held.trusted() || self.cutoff.is_cancelled() { Err(Outcome::HandedBack) } else { Ok(()) }
    }

    async fn attempt(&self, lease: &Lease, held: &Held, handler: &dyn Handler, bounds: Bounds) -> Option<Outcome> {
        let (sink, writer) = output::channel();
        let over = CancellationToken::new();
        // Tells what the handler has spawned, on every way out of here.
        let _ends_with_us = over.clone().drop_guard();
        let context = self.context(lease, &bounds, over, sink);
        let answered = CancellationToken::new();
        let answering = async {
            let answer = AssertUnwindSafe(handler.handle(context)).catch_unwind().await;
            answered.cancel();
            Ok(answer.unwrap_or_else(|_| HandlerOutcome::retry("handler_panicked", "the handler panicked")))
        };
        let writing = writer.write(self.store.as_ref(), lease, answered.clone());
        tokio::select! {
            biased;
            worked = async { tokio::try_join!(answering, writing) } => match worked {
                Ok((answer, ())) => Some(self.outcome_of(answer, &bounds, lease)),
                Err(StaleOutput) => None,
            },
            end = held.ended() => match end {
                LeaseEnd::Cancelled => Some(Outcome::Cancelled),
                LeaseEnd::Lost => None,
            },
            () = reach(bounds.deadline) => Some(Outcome::Expired),
            () = sleep_until(bounds.timeout) => {
                let detail = format!("no answer within {} ms", bounds.timeout_ms);
                Some(self.outcome_of(HandlerOutcome::retry("handler_timeout", detail), &bounds, lease))
            }
            () = self.cutoff.cancelled() => Some(Outcome::HandedBack),
        }
    }

    fn context(&self, lease: &Lease, bounds: &Bounds, over: CancellationToken, sink: OutputSink) -> AttemptContext {
        let timeout_ms = lease.claimed_ms.saturating_add(bounds.timeout_ms);
        AttemptContext {
            task_id: lease.task_id.clone(),
            scope: self.scope.clone(),
            number: lease.attempt,
            max_attempts: lease.max_attempts,
            token: lease.token,
            deadline_ms: lease.deadline_ms.map_or(timeout_ms, |deadline_ms| deadline_ms.min(timeout_ms)),
            envelope: lease.envelope.clone(),
            payload: lease.payload.clone(),
            max_result_bytes: bounds.max_result_bytes,
            cancelled: over,
            output: sink,
        }
    }

    /// A handler's answer in the queue's words, within the attempt's bounds.
    fn outcome_of(&self, answer: HandlerOutcome, bounds: &Bounds, lease: &Lease) -> Outcome {
        let max_result_bytes = bounds.max_result_bytes;
        match answer {
            HandlerOutcome::Succeeded { result, usage } if result.body.len() as u64 > max_result_bytes => {
                let detail = format!("the result is larger than {max_result_bytes} bytes");
                Outcome::Failed { error: error("result_too_large", detail), usage }
            }
            HandlerOutcome::Succeeded { result, usage } => Outcome::Succeeded { result, usage },
            HandlerOutcome::Failed { error, usage } => Outcome::Failed { error, usage },
            HandlerOutcome::Retry { error, after } => {
                let asked_ms = after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
                let retry = self.policy.load().policy().retry_of(&lease.envelope.kind);
                Outcome::Retry { error, after_ms: backoff::retry_ms(&retry, lease.attempt).max(asked_ms) }
            }
        }
    }
}

impl Bounds {
    fn new(policy: &Policy, lease: &Lease, clock: &RedisClock) -> Self {
        let timeout_ms = policy.attempt_timeout_ms_of(&lease.envelope.kind);
        Self {
            deadline: lease.deadline_ms.and_then(|at_ms| clock.earliest(at_ms)),
            timeout: Instant::now() + Duration::from_millis(timeout_ms),
            timeout_ms,
            max_result_bytes: policy.queue.max_result_bytes,
        }
    }
}

async fn reach(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn report(registered: &str, lease: &Lease, outcome: Option<&Outcome>, ran: Duration) {
    let (label, error) = match outcome {
        Some(Outcome::Succeeded { .. }) => ("succeeded", None),
        Some(Outcome::Failed { error, .. }) => ("failed", Some(error)),
        Some(Outcome::Retry { error, .. }) => ("retry", Some(error)),
        Some(Outcome::Dead { error }) => ("dead", Some(error)),
        Some(Outcome::Cancelled) => ("cancelled", None),
        Some(Outcome::Revoked { error }) => ("revoked", Some(error)),
        Some(Outcome::Expired) => ("expired", None),
        Some(Outcome::HandedBack) => ("handed_back", None),
        None => ("lost", None),
    };
    metric::attempt(registered, label, ran);
    let (task_id, attempt, ran_ms) = (&lease.task_id, lease.attempt, ran.as_millis() as u64);
    if let Some(TaskError { code, detail }) = error {
        tracing::info!(%task_id, attempt, ran_ms, outcome = label, code, detail, "attempt");
    } else {
        tracing::debug!(%task_id, attempt, ran_ms, outcome = label, "attempt");
    }
}

#[cfg(test)]
mod tests;
