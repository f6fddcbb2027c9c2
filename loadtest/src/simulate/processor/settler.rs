//! The settler of a simulated processor: outcomes on their way to Redis, sent again until there is an answer.
//!
//! Responsible for never losing a settlement, as the processor's `settle.rs` has it. Must never interpret a stale
//! answer.

use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::Settled;

use super::{Awaited, Processor};
use crate::simulate::call::{Answer, Call, Heard};
use crate::simulate::context::Context;
use crate::simulate::event::Timer;
use crate::simulate::mistake::Mistake;

/// Most settlements in one call.
const BATCH: usize = 16;

/// How the sending goes.
#[derive(Debug, Default)]
pub(super) struct State {
    /// A call is under way, or the pause after one that failed is not over.
    busy: bool,
    failures: u32,
    /// How many settlements to send one at a time since a call failed.
    suspects: usize,
}

impl Processor {
    /// The pause after a failed call is over.
    pub(super) fn resettle(&mut self, context: &mut Context) {
        self.settle.busy = false;
        self.settle(context);
    }

    /// Sends what has gathered, unless a call is under way or a pause is not over.
    pub(super) fn settle(&mut self, context: &mut Context) {
        if self.settle.busy {
            return;
        }
        if self.pending.is_empty() {
            self.settle.suspects = 0;
            return self.leave_if_done(context);
        }
        let most = if self.settle.suspects > 0 { 1 } else { BATCH };
        let settlements: Vec<_> = self.pending.iter().take(most).cloned().collect();
        let (policy, number) = (Arc::clone(self.replica.policy()), settlements.len());
        self.settle.busy = true;
        self.call(context, Call::Settle { policy, settlements }, Awaited::Settle { number });
    }

    pub(super) fn settled(&mut self, context: &mut Context, number: usize, heard: Heard) {
        if let Ok(Answer::Settled(answers)) = heard {
            self.settle = State { suspects: self.settle.suspects.saturating_sub(number), ..State::default() };
            for (settlement, answer) in self.pending.drain(..number).zip(answers) {
                if answer == Settled::Stale {
                    context.coverage.count("settled too late");
                }
                self.held.remove(&settlement.lease.token);
            }
            return self.settle(context);
        }
        context.coverage.count("settled again");
        if context.makes(Mistake::SettlesOnce) {
            // The lease stays held, and is renewed.
            self.pending.drain(..number);
            self.settle = State::default();
            return self.settle(context);
        }
        if number == 1 {
            self.pending.rotate_left(1);
        }
        let failures = self.settle.failures + 1;
        let longest_ms = (50_u64 << (failures - 1).min(4)).min(500);
        self.settle = State { busy: true, failures, suspects: self.pending.len() };
        let pause = Duration::from_millis(self.dice.between(longest_ms / 2, longest_ms));
        context.wake(&self.life, pause, Timer::Settle);
    }
}
