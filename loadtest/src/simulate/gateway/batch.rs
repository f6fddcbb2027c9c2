//! Admissions of a simulated gateway: gathered, sent together, and answered one by one.
//!
//! Responsible for who is told what. A batch under a stale policy is sent again once the gateway has caught up; one
//! without an answer never is. Must never remember a refusal that the gateway itself would not.

use std::sync::Arc;
use std::time::Duration;

use portcullis_gateway::{Shared, Term};
use portcullis_lua::{ADMIT_BATCH, AdmitRequest, Decision, PolicyStamp, StoreError, Verdict};

use super::{Awaited, Gateway, Looker, Remembered};
use crate::simulate::call::{Call, unavailable};
use crate::simulate::context::Context;
use crate::simulate::event::{Event, Told};
use crate::simulate::mistake::Mistake;

/// Calls in flight at once (`group_commit.rs`).
const SENDERS: usize = 2;
/// Longest time a request waits for its call (`group_commit.rs`).
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a batch is sent (`decider.rs`).
const ROUNDS: u8 = 3;

/// A request that waits for its call.
#[derive(Debug)]
pub(in crate::simulate) struct Waiting {
    pub(super) client: usize,
    pub(super) number: u64,
    pub(super) request: AdmitRequest,
    pub(super) since_us: u64,
}

/// Requests that are decided together.
#[derive(Debug)]
pub(in crate::simulate) struct Batch {
    pub(super) requests: Vec<Waiting>,
    stamp: PolicyStamp,
    /// When it was last asked about.
    pub(super) asked_us: u64,
    round: u8,
}

impl Gateway {
    /// Sends what has gathered, while there is a sender.
    pub(super) fn send(&mut self, context: &mut Context) {
        while self.in_flight < SENDERS && !self.waiting.is_empty() {
            let taken = self.waiting.len().min(ADMIT_BATCH);
            let mut requests: Vec<Waiting> = self.waiting.drain(..taken).collect();
            let patience_us = PATIENCE.as_micros() as u64;
            requests.retain(|waiting| {
                let in_time = context.now_us - waiting.since_us <= patience_us;
                if !in_time {
                    tell(context, waiting, Told::Unavailable);
                }
                in_time
            });
            if requests.is_empty() {
                continue;
            }
            if requests.len() > 1 {
                context.coverage.count("batch of several");
            }
            self.in_flight += 1;
            self.ask(context, Batch { requests, stamp: PolicyStamp::NONE, asked_us: 0, round: 1 });
        }
        self.leave_if_idle(context);
    }

    /// Asks about a batch under the policy in force.
    pub(super) fn ask(&mut self, context: &mut Context, mut batch: Batch) {
        let (policy, stamp) = (Arc::clone(self.replica.policy()), self.replica.stamp());
        (batch.stamp, batch.asked_us) = (stamp, context.now_us);
        for waiting in &mut batch.requests {
            waiting.request.cost = policy.cost_of(&waiting.request.kind) as u32;
            waiting.request.max_attempts = policy.max_attempts_of(&waiting.request.kind) as u32;
        }
        let requests = batch.requests.iter().map(|waiting| waiting.request.clone()).collect();
        if let Err(Awaited::Admit(batch)) =
            self.call(context, Call::Admit { policy, stamp, requests }, Awaited::Admit(batch))
        {
            self.conclude(context, batch, Err(unavailable()));
        }
    }

    /// What a batch has come to.
    pub(super) fn conclude(
        &mut self,
        context: &mut Context,
        mut batch: Batch,
        heard: Result<Vec<Decision>, StoreError>,
    ) {
        match heard {
            Ok(decisions) => {
                for (waiting, decision) in batch.requests.iter().zip(decisions) {
                    self.decided(context, waiting, decision, (batch.stamp, batch.asked_us));
                }
            }
            Err(StoreError::StalePolicy { current, .. }) if batch.round < ROUNDS => {
                context.coverage.count("stale policy");
                batch.round += 1;
                return self.look(context, Some(current), Looker::Batch(batch));
            }
            Err(_) if context.makes(Mistake::ResendsAdmissions) && batch.round < ROUNDS => {
                batch.round += 1;
                return self.ask(context, batch);
            }
            Err(error) => {
                for waiting in &batch.requests {
                    tell(context, waiting, Told::Unavailable);
                }
                if matches!(error, StoreError::Unavailable(_)) {
                    let behind = std::mem::take(&mut self.waiting);
                    for waiting in &behind {
                        tell(context, waiting, Told::Unavailable);
                    }
                }
            }
        }
        self.in_flight -= 1;
        self.send(context);
    }

    fn decided(&mut self, context: &mut Context, waiting: &Waiting, decision: Decision, asked: (PolicyStamp, u64)) {
        let (stamp, asked_at) = (asked.0, self.life.clock.at(asked.1));
        let told = match decision.verdict {
            Verdict::Admitted { task_id, .. } => {
                let user_type = &waiting.request.user_type;
                if self.user_types.get(user_type).is_some_and(|remembered| remembered.term.is_refuted_by(asked_at)) {
                    context.coverage.count("admission ends a remembered refusal");
                    self.user_types.remove(user_type);
                }
                Told::Accepted(task_id)
            }
            Verdict::Replayed { task_id } => Told::Accepted(task_id),
            // Simulated callers ask for tasks only.
            Verdict::Passed { .. } => Told::Unavailable,
            Verdict::Refused(refusal) => {
                let request = &waiting.request;
                let Some((shared, term)) = Term::of(asked_at, request.cost, &refusal, &decision.limits, stamp) else {
                    let retry_after_ms = refusal.retry_after_ms;
                    return tell(context, waiting, Told::Refused { retry_after_ms });
                };
                let retry_after_ms = term.asker_retry_after_ms(&refusal);
                let repeated = shared.repeated(&refusal, &decision.limits);
                let remembered = Remembered { term, stamp, refusal: repeated, asked_ahead: false };
                match shared {
                    Shared::BySession => self.sessions.insert(request.session_id.clone(), remembered),
                    Shared::ByUserType => self.user_types.insert(request.user_type.clone(), remembered),
                };
                Told::Refused { retry_after_ms }
            }
        };
        tell(context, waiting, told);
    }
}

/// Tells a caller, a moment later.
pub(super) fn tell(context: &mut Context, waiting: &Waiting, told: Told) {
    context.after(200, Event::Told { client: waiting.client, request: waiting.number, told });
}
