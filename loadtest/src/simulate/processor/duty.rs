//! What a simulated processor does beside its attempts: heartbeats, renewals, reclaims.
//!
//! Responsible for their times and for what each answer changes. Must never end an attempt: it tells the attempt.

use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{FencingToken, Heartbeat, Outcome, PolicyStamp, Purpose, Renewal, TaskId};
use portcullis_processor::renew_period;
use tokio::time::Instant;

use super::attempt::unrun;
use super::{Awaited, Leaving, Processor};
use crate::simulate::call::{Answer, Call, Heard};
use crate::simulate::context::Context;
use crate::simulate::event::Timer;
use crate::simulate::mistake::Mistake;

/// Longest time between two heartbeats (`heartbeat.rs`).
const BEAT_MAX: Duration = Duration::from_secs(1);

/// How long Redis must have been answering before anything is reclaimed (`reclaimer.rs`).
const CALM: Duration = Duration::from_millis(600);

/// Most leases in one renewal (`lease.rs`).
const RENEW_BATCH: usize = 64;

impl Processor {
    /// Says that this processor lives; a beat that is under way is forgotten.
    pub(super) fn send_beat(&mut self, context: &mut Context) {
        self.beat += 1;
        let (policy, stamp) = (Arc::clone(self.replica.policy()), self.replica.stamp());
        let beat = Heartbeat {
            worker: self.worker(),
            instance: String::new(),
            slots: self.slots(),
            running: self.running(),
            draining: self.leaving != Leaving::No,
            version: String::new(),
            policy_revision: stamp.revision(),
            policy_fault: None,
            kinds: Vec::new(),
        };
        let call = Call::Beat { policy, beat: Box::new(beat), stamp };
        self.call(context, call, Awaited::Beat { number: self.beat, held: stamp });
    }

    pub(super) fn beat_answered(&mut self, context: &mut Context, number: u32, held: PolicyStamp, heard: &Heard) {
        let Ok(Answer::Stamp(stored)) = heard else {
            self.answering_since = None;
            if number == self.beat {
                self.after(context, 50, 100, Timer::Beat(self.beat));
            }
            return;
        };
        let now = self.life.now(context);
        self.answering_since.get_or_insert(now);
        self.heard.push_back(Some((held, *stored)));
        if number == self.beat {
            let timeout_seconds = self.replica.policy().monitoring.heartbeat_timeout_seconds;
            let pause = (Duration::from_secs(timeout_seconds) / 5).min(BEAT_MAX);
            context.wake(&self.life, pause, Timer::Beat(self.beat));
        }
        self.look_next(context);
    }

    /// Another policy may be in force: leases may be shorter, slots more, and gateways are to hear of it.
    pub(super) fn policy_changed(&mut self, context: &mut Context) {
        self.renew(context);
        self.claim(context);
    }

    pub(super) fn renew_period(&self) -> Duration {
        renew_period(self.replica.policy().queue.lease_ms)
    }

    /// Renews every lease, unless a renewal is under way.
    pub(super) fn renew(&mut self, context: &mut Context) {
        let under_way = self.life.awaited.values().any(|(_, awaited)| matches!(awaited, Awaited::Renew { .. }));
        if under_way {
            return;
        }
        let started = self.life.now(context);
        let leases: Vec<(TaskId, FencingToken)> =
            self.held.values().map(|held| (held.lease.task_id.clone(), held.lease.token)).take(RENEW_BATCH).collect();
        if leases.is_empty() {
            return context.wake(&self.life, self.renew_period(), Timer::Renew);
        }
        let policy = Arc::clone(self.replica.policy());
        let lease_ms = policy.queue.lease_ms;
        let until = self.trusted_until(context, context.now_us, lease_ms);
        for (_, token) in &leases {
            let shorter = self.held.get_mut(token).is_some_and(|held| held.standing.expect_no_longer(until));
            if shorter {
                self.watch(context, *token, None);
            }
        }
        let call = Call::Renew { policy, stamp: self.replica.stamp(), leases: leases.clone() };
        self.call(context, call, Awaited::Renew { lease_ms, leases, started });
    }

    pub(super) fn renewed(
        &mut self,
        context: &mut Context,
        sent_us: u64,
        lease_ms: u64,
        leases: &[(TaskId, FencingToken)],
        started: Instant,
        heard: Heard,
    ) {
        let Ok(Answer::Renewed(renewals)) = heard else {
            let pause = Duration::from_millis(self.dice.between(50, 100)).min(self.renew_period());
            return context.wake(&self.life, pause, Timer::Renew);
        };
        let from_us = if context.makes(Mistake::TrustsFromReceipt) { context.now_us } else { sent_us };
        let until = self.trusted_until(context, from_us, lease_ms);
        for ((_, token), renewal) in leases.iter().zip(renewals) {
            context.coverage.count(match renewal {
                Renewal::Held => "renewed",
                Renewal::Cancelled => "cancelled while it ran",
                Renewal::Lost => "lease lost",
            });
            // Settled while the call was in flight: its answer is about the past.
            if let Some(held) = self.held.get_mut(token) {
                held.standing.note(renewal, until);
                self.watch(context, *token, (renewal != Renewal::Lost).then_some(sent_us));
                self.look_at(context, *token);
            }
        }
        let passed = self.life.now(context) - started;
        context.wake(&self.life, self.renew_period().saturating_sub(passed), Timer::Renew);
    }

    /// Looks for lapsed leases, once Redis has been answering for a while.
    pub(super) fn reclaim(&mut self, context: &mut Context) {
        if self.leaving != Leaving::No || context.makes(Mistake::NeverReclaims) {
            return;
        }
        let now = self.life.now(context);
        if self.answering_since.is_none_or(|since| now - since < CALM) {
            return self.after(context, 200, 300, Timer::Reclaim);
        }
        let policy = Arc::clone(self.replica.policy());
        let lease_ms = policy.queue.lease_ms;
        self.call(context, Call::Reclaim { policy }, Awaited::Reclaim { lease_ms });
    }

    pub(super) fn reclaimed(&mut self, context: &mut Context, sent_us: u64, lease_ms: u64, heard: Heard) {
        let Ok(Answer::Reclaimed { requeued, leases }) = heard else {
            return self.after(context, 200, 300, Timer::Reclaim);
        };
        let found = requeued > 0 || !leases.is_empty();
        for lease in leases {
            let outcome = unrun(lease.purpose).unwrap_or(Outcome::HandedBack);
            context.coverage.count(match lease.purpose {
                Purpose::Bury => "buried",
                _ => "ended for another",
            });
            self.hold(context, lease.clone(), sent_us, lease_ms, false);
            self.hand_over(context, lease.token, outcome);
        }
        if found { self.reclaim(context) } else { self.after(context, 200, 300, Timer::Reclaim) }
    }
}
