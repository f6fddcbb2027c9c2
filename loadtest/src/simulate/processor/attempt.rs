//! An attempt of a simulated processor: from its lease to its outcome.
//!
//! Responsible for the bounds of an attempt, and for telling the judge what this processor believes. Must never settle.

use std::time::Duration;

use portcullis_lua::{FencingToken, Lease, Outcome, Purpose, TaskError, TaskResult};
use portcullis_processor::{LeaseEnd, Standing, jittered_retry_ms, trusted_until};
use tokio::time::Instant;

use super::{Leaving, Processor};
use crate::simulate::context::Context;
use crate::simulate::event::Timer;
use crate::simulate::judge::Claim;
use crate::simulate::mistake::Mistake;

/// A lease that this processor keeps.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) lease: Lease,
    pub(super) standing: Standing,
    /// An attempt runs under it; else it is on its way to be settled.
    pub(super) runs: bool,
    /// The handler may not answer after this.
    deadline: Option<Instant>,
    timeout: Instant,
}

/// What a lease that must not be run is settled as; `None` for one to run.
pub(super) fn unrun(purpose: Purpose) -> Option<Outcome> {
    match purpose {
        Purpose::Run => None,
        Purpose::Expire => Some(Outcome::Expired),
        Purpose::Cancel => Some(Outcome::Cancelled),
        Purpose::Bury | Purpose::Unreadable => Some(Outcome::Dead { error: error() }),
    }
}

fn error() -> TaskError {
    TaskError { code: String::new(), detail: String::new() }
}

impl Processor {
    /// Until when a lease of a call sent then is trusted.
    pub(super) fn trusted_until(&self, context: &Context, sent_us: u64, lease_ms: u64) -> Instant {
        let sent = self.life.clock.at(sent_us);
        let until = trusted_until(sent, lease_ms);
        if context.makes(Mistake::TrustsTooLong) { sent + Duration::from_millis(lease_ms) * 12 / 10 } else { until }
    }

    /// Keeps a lease that was granted by a call sent at `sent_us`.
    pub(super) fn hold(&mut self, context: &mut Context, lease: Lease, sent_us: u64, lease_ms: u64, runs: bool) {
        let from_us = if context.makes(Mistake::TrustsFromReceipt) { context.now_us } else { sent_us };
        let standing = Standing::new(self.trusted_until(context, from_us, lease_ms));
        let sent = self.life.clock.at(sent_us);
        let until_ms = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(lease.claimed_ms));
        let deadline = lease.deadline_ms.map(|at_ms| sent + until_ms(at_ms));
        let timeout_ms = self.replica.policy().attempt_timeout_ms_of(&lease.envelope.kind);
        let timeout = self.life.now(context) + Duration::from_millis(timeout_ms);
        let token = lease.token;
        self.held.insert(token, Held { lease, standing, runs, deadline, timeout });
        self.watch(context, token, Some(sent_us));
        if self.life.now(context) - sent > Duration::from_millis(lease_ms / 2) {
            // Half of it may be over.
            self.renew(context);
        }
    }

    /// Starts what came with a claim.
    pub(super) fn start(&mut self, context: &mut Context, lease: Lease, sent_us: u64, lease_ms: u64) {
        let token = lease.token;
        let late = (self.leaving != Leaving::No).then_some(Outcome::HandedBack);
        let unrun = unrun(lease.purpose).or(late);
        self.hold(context, lease, sent_us, lease_ms, true);
        let now = self.life.now(context);
        let Some(held) = self.held.get(&token) else { return };
        let may_not_start = if held.deadline.is_some_and(|deadline| deadline <= now) {
            Some(Outcome::Expired)
        } else {
            (!held.standing.is_trusted(now)).then_some(Outcome::HandedBack)
        };
        if let Some(outcome) = unrun.or(may_not_start) {
            return self.hand_over(context, token, outcome);
        }
        context.coverage.count("attempt");
        let takes_us = match self.dice.between(0, 19) {
            0 => 30_000_000,
            1 | 2 => self.dice.between(1_000_000, 4_500_000),
            _ => self.dice.exponential(250_000),
        };
        context.wake(&self.life, Duration::from_micros(takes_us), Timer::Answer(token));
        let ends = [held.deadline, Some(held.timeout)].into_iter().flatten().min().unwrap_or(held.timeout);
        context.wake(&self.life, ends.saturating_duration_since(now), Timer::Look(token));
    }

    /// Tells the judge what is believed now, and comes back when the trust ends. `granted_us` is when the call was sent
    /// that has just granted or extended the lease; `None` when its trust has only become shorter.
    pub(super) fn watch(&mut self, context: &mut Context, token: FencingToken, granted_us: Option<u64>) {
        let Some(held) = self.held.get_mut(&token).filter(|held| held.runs) else { return };
        let until_us = self.life.clock.when(held.standing.trusted_until);
        if held.standing.lost {
            return context.judge.gives_up(token);
        }
        match granted_us {
            Some(sent_us) => {
                let (task_id, holder) = (held.lease.task_id.clone(), self.life.place);
                context.judge.believes(context.now_us, token, Claim { task_id, holder, until_us, sent_us });
            }
            None => context.judge.doubts(token, until_us),
        }
        let left = held.standing.trusted_until.saturating_duration_since(self.life.clock.at(context.now_us));
        context.wake(&self.life, left, Timer::Look(token));
    }

    /// The handler has an answer, if its attempt still runs.
    pub(super) fn handler_answers(&mut self, context: &mut Context, token: FencingToken) {
        let Some(held) = self.held.get(&token).filter(|held| held.runs) else { return };
        let (kind, attempt) = (held.lease.envelope.kind.clone(), held.lease.attempt);
        let failing = context.backend_fails_until_us > context.now_us;
        let outcome = match self.dice.between(0, 99) {
            0..=79 if failing => self.retry(&kind, attempt),
            0..=9 => self.retry(&kind, attempt),
            10..=14 => Outcome::Failed { error: error(), usage: Vec::new() },
            _ => {
                let used = self.dice.chance(0.5).then(|| ("tokens".to_owned(), self.dice.between(0, 60)));
                let result = TaskResult { content_type: String::new(), body: bytes::Bytes::new() };
                Outcome::Succeeded { result, usage: used.into_iter().collect() }
            }
        };
        self.hand_over(context, token, outcome);
    }

    fn retry(&mut self, kind: &str, attempt: u32) -> Outcome {
        let jitter = self.dice.fraction(0.5, 1.0);
        let after_ms = jittered_retry_ms(&self.replica.policy().retry_of(kind), attempt, jitter);
        Outcome::Retry { error: error(), after_ms }
    }

    /// Ends an attempt of which some bound is reached.
    pub(super) fn look_at(&mut self, context: &mut Context, token: FencingToken) {
        let now = self.life.now(context);
        let Some(held) = self.held.get(&token).filter(|held| held.runs) else { return };
        let (kind, attempt) = (held.lease.envelope.kind.clone(), held.lease.attempt);
        match held.standing.end(now) {
            Some(LeaseEnd::Cancelled) => return self.hand_over(context, token, Outcome::Cancelled),
            Some(LeaseEnd::Lost) => {
                context.coverage.count("attempt given up");
                context.judge.gives_up(token);
                self.held.remove(&token);
                return self.slot_is_free(context);
            }
            None => {}
        }
        if held.deadline.is_some_and(|deadline| deadline <= now) {
            context.coverage.count("cut off at its deadline");
            self.hand_over(context, token, Outcome::Expired);
        } else if held.timeout <= now {
            context.coverage.count("handler timed out");
            let outcome = self.retry(&kind, attempt);
            self.hand_over(context, token, outcome);
        }
    }

    /// The drain time is over: what runs is given back.
    pub(super) fn cut_off(&mut self, context: &mut Context) {
        self.leaving = Leaving::CutOff;
        let running: Vec<FencingToken> =
            self.held.iter().filter(|(_, held)| held.runs).map(|(token, _)| *token).collect();
        for token in running {
            context.coverage.count("handed back");
            self.hand_over(context, token, Outcome::HandedBack);
        }
        context.wake(&self.life, Duration::from_secs(3), Timer::Leave);
    }

    /// An attempt is over; its lease is kept until it is settled.
    pub(super) fn hand_over(&mut self, context: &mut Context, token: FencingToken, outcome: Outcome) {
        let Some(held) = self.held.get_mut(&token) else { return };
        held.runs = false;
        context.judge.gives_up(token);
        let lease = held.lease.clone();
        self.pending.push_back(portcullis_lua::Settlement { lease, outcome });
        self.settle(context);
        self.slot_is_free(context);
    }

    pub(super) fn slot_is_free(&mut self, context: &mut Context) {
        self.claim(context);
        self.leave_if_done(context);
    }
}
