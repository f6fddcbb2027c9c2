//! Whoever changes the policy: reads what is stored, writes on top of it, and waits until everybody follows.
//!
//! Responsible for the promise that an update makes to its author, as `admin/policy/` of the gateway gives it: after
//! the answer nobody is told anything by an older policy. Restates `revise.rs` (a lost answer is looked up) and
//! `convergence.rs` (each live gateway has said that it holds it, or has had the time to forget). Must never write
//! twice.

use std::collections::VecDeque;
use std::time::Duration;

use portcullis_lua::PolicyStamp;
use tokio::time::Instant;

use super::call::{Answer, Call, Heard};
use super::clock::Clock;
use super::context::{Context, Life};
use super::event::Timer;
use super::plan::Place;
use super::rules;

/// `PORTCULLIS_STORE_TIMEOUT_MS` as shipped.
const STORE_TIMEOUT: Duration = Duration::from_millis(40);
/// For how long a lost answer is looked up, and how often (`revise.rs`).
const READ_BACK: Duration = Duration::from_secs(2);
const READ_BACK_PAUSE: Duration = Duration::from_millis(50);
/// Longest memory of refusals, and pauses between two looks at who follows (`convergence.rs`).
const LONGEST_MEMORY: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LAST_PAUSE: Duration = Duration::from_millis(128);

/// The author of policies.
pub(super) struct Operator {
    pub(super) life: Life<()>,
    changes: VecDeque<u64>,
    stage: Stage,
    writes: u64,
}

/// How far the change at hand has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    Reading,
    Writing,
    /// The answer to the write was lost.
    ReadingBack {
        since: Instant,
    },
    Converging {
        stamp: PolicyStamp,
        since: Instant,
        pause: Duration,
    },
}

impl Operator {
    pub(super) fn new() -> Self {
        let mut life = Life::new(Place::Operator, Clock::gaining(0));
        life.begin();
        Self { life, changes: VecDeque::new(), stage: Stage::Idle, writes: 0 }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// Wants the policy of this number.
    pub(super) fn change(&mut self, context: &mut Context, number: u64) {
        self.changes.push_back(number);
        if self.is_idle() {
            self.read(context);
        }
    }

    fn read(&mut self, context: &mut Context) {
        self.stage = if self.changes.is_empty() { Stage::Idle } else { Stage::Reading };
        if !self.is_idle() {
            self.call(context, Call::ReadPolicy);
        }
    }

    fn call(&mut self, context: &mut Context, call: Call) {
        context.call(&mut self.life, STORE_TIMEOUT, call, ());
    }

    fn write_id(&self) -> String {
        format!("write-{}", self.writes)
    }

    pub(super) fn answered(&mut self, context: &mut Context, id: u64, heard: Heard) {
        if self.life.awaited.remove(&id).is_none() {
            return;
        }
        let now = self.life.now(context);
        match (self.stage, heard) {
            (Stage::Reading, Ok(Answer::Policy(stored))) => {
                let Some(number) = self.changes.front() else { return self.read(context) };
                self.writes += 1;
                self.stage = Stage::Writing;
                let expected = stored.map_or(PolicyStamp::NONE, |stored| stored.stamp);
                let (document, write_id) = (rules::document(*number), self.write_id());
                self.call(context, Call::Revise { expected, document, write_id });
            }
            (Stage::Writing, Ok(Answer::Revised(Ok(stored)))) => self.stored(context, stored.stamp),
            (Stage::Writing, Ok(_)) => self.read(context),
            (Stage::Writing, Err(_)) => {
                self.stage = Stage::ReadingBack { since: now };
                context.wake(&self.life, READ_BACK_PAUSE, Timer::Operator);
            }
            (Stage::ReadingBack { .. }, Ok(Answer::Policy(Some(stored)))) if stored.write_id == self.write_id() => {
                context.coverage.count("write looked up");
                self.stored(context, stored.stamp);
            }
            (Stage::ReadingBack { since }, _) if now - since < READ_BACK => {
                context.wake(&self.life, READ_BACK_PAUSE, Timer::Operator);
            }
            (Stage::ReadingBack { .. } | Stage::Reading, _) => {
                // Nothing is promised to whoever gets no answer.
                self.changes.pop_front();
                self.read(context);
            }
            (Stage::Converging { stamp, since, pause }, heard) => {
                let all = matches!(heard, Ok(Answer::Converged(true)));
                if all || now - since >= LONGEST_MEMORY {
                    context.judge.accepted(stamp);
                    context.coverage.count(if all { "policy converged" } else { "policy waited for" });
                    self.changes.pop_front();
                    return self.read(context);
                }
                let left = LONGEST_MEMORY.saturating_sub(now - since);
                let next = Stage::Converging { stamp, since, pause: (pause * 2).min(LAST_PAUSE) };
                self.stage = next;
                context.wake(&self.life, pause.min(left), Timer::Operator);
            }
            (Stage::Idle, _) => {}
        }
    }

    fn stored(&mut self, context: &mut Context, stamp: PolicyStamp) {
        self.stage = Stage::Converging { stamp, since: self.life.now(context), pause: FIRST_PAUSE };
        self.call(context, Call::Convergence);
    }

    pub(super) fn timer(&mut self, context: &mut Context) {
        match self.stage {
            Stage::ReadingBack { .. } => self.call(context, Call::ReadPolicy),
            Stage::Converging { .. } => self.call(context, Call::Convergence),
            _ => {}
        }
    }
}
