//! A simulated processor: says that it lives, claims, runs, renews, settles and reclaims.
//!
//! Responsible for what the processor's own code does between two calls. Goes by the processor's own rules where they
//! are pure: the trust window and the time of renewals ([`portcullis_processor::Standing`]) and the backoff of retries.
//! Restates, because they live in async code: the loop of claims (`worker.rs`), the heartbeat and who counts as being
//! in contact (`heartbeat.rs`), the pause before a settlement is sent again (`backoff.rs`), the reclaimer and the order
//! of leaving (`processor.rs`). Must never look into Redis.

mod attempt;
mod duty;
mod settler;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::{FencingToken, PolicyStamp, Settlement, TaskId};
use tokio::time::Instant;

use super::call::{Answer, Call, Heard};
use super::clock::Clock;
use super::context::{Context, Life};
use super::dice::Dice;
use super::event::Timer;
use super::mistake::Mistake;
use super::plan::Place;
use super::replica::{Replica, Step};
use attempt::Held;

/// `PORTCULLIS_PROCESSOR_STORE_TIMEOUT_MS` as shipped.
const STORE_TIMEOUT: Duration = Duration::from_millis(500);
/// Longest wait for work, and the part of a lease that it may be (`worker.rs`).
const WAIT_MAX: Duration = Duration::from_secs(1);
const WAIT_OF_LEASE: u64 = 8;
/// Pause after a claim that left tasks waiting yet got none (`worker.rs`).
const CONTENDED: Duration = Duration::from_millis(20);
/// How late beyond its limit a blocking pop may end (`wake.rs`).
const POP_LATE: Duration = Duration::from_millis(700);

/// A processor.
pub(super) struct Processor {
    pub(super) life: Life<Awaited>,
    leaving: Leaving,
    dice: Dice,
    replica: Replica,
    /// What was heard last by a heartbeat, and news: each asks for a look.
    heard: VecDeque<Option<(PolicyStamp, PolicyStamp)>>,
    held: BTreeMap<FencingToken, Held>,
    /// Ended attempts that are not settled yet; their leases are still held.
    pending: VecDeque<Settlement>,
    settle: settler::State,
    claiming: bool,
    claim_due: bool,
    beat: u32,
    /// Since when Redis answers without a break.
    answering_since: Option<Instant>,
    started: bool,
}

/// How far a processor is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// Nothing is claimed any more.
    Draining,
    /// What still ran has been handed back.
    CutOff,
}

/// What a call was for.
#[derive(Debug)]
pub(super) enum Awaited {
    Look,
    Beat { number: u32, held: PolicyStamp },
    Claim { lease_ms: u64 },
    Renew { lease_ms: u64, leases: Vec<(TaskId, FencingToken)>, started: Instant },
    Settle { number: usize },
    Reclaim { lease_ms: u64 },
    Leave,
}

impl Processor {
    pub(super) fn new(place: Place, clock: Clock, dice: Dice) -> Self {
        Self {
            life: Life::new(place, clock),
            leaving: Leaving::No,
            dice,
            replica: Replica::new(false),
            heard: VecDeque::new(),
            held: BTreeMap::new(),
            pending: VecDeque::new(),
            settle: settler::State::default(),
            claiming: false,
            claim_due: false,
            beat: 0,
            answering_since: None,
            started: false,
        }
    }

    /// A start, with nothing but the boot document: it asks for the policy before anything else.
    pub(super) fn begin(&mut self, context: &mut Context) {
        let mut fresh = Self::new(self.life.place, self.life.clock, self.dice.clone());
        fresh.life.number = self.life.number;
        *self = fresh;
        self.replica = Replica::new(context.makes(Mistake::NeverGivesBack));
        self.life.begin();
        self.look(context, None);
    }

    /// The process is gone.
    pub(super) fn crash(&mut self, context: &mut Context) {
        self.life.alive = false;
        self.held.keys().for_each(|token| context.judge.gives_up(*token));
        self.held.clear();
        self.pending.clear();
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Name under which this start is known.
    pub(super) fn worker(&self) -> String {
        format!("{:?}-{}", self.life.place, self.life.number)
    }

    /// There may be another policy.
    pub(super) fn news(&mut self, context: &mut Context) {
        if self.started {
            self.heard.push_back(None);
            self.look_next(context);
        }
    }

    fn call(&mut self, context: &mut Context, call: Call, then: Awaited) {
        context.call(&mut self.life, STORE_TIMEOUT, call, then);
    }

    fn after(&mut self, context: &mut Context, low_ms: u64, high_ms: u64, timer: Timer) {
        let pause = Duration::from_millis(self.dice.between(low_ms, high_ms));
        context.wake(&self.life, pause, timer);
    }

    pub(super) fn timer(&mut self, context: &mut Context, timer: Timer) {
        match timer {
            Timer::Begin => self.look(context, None),
            Timer::Beat(number) if number == self.beat => self.send_beat(context),
            Timer::Renew => self.renew(context),
            Timer::Reclaim => self.reclaim(context),
            Timer::Claim => self.claim(context),
            Timer::Answer(token) => self.handler_answers(context, token),
            Timer::Look(token) => self.look_at(context, token),
            Timer::Settle => self.resettle(context),
            Timer::CutOff => self.cut_off(context),
            Timer::Leave => self.leave(context),
            _ => {}
        }
    }

    /// A call has ended, one way or the other.
    pub(super) fn answered(&mut self, context: &mut Context, id: u64, heard: Heard) {
        let Some((sent_us, awaited)) = self.life.awaited.remove(&id) else { return };
        match awaited {
            Awaited::Look => {
                let step = self.replica.answered(heard);
                self.looked(context, step);
            }
            Awaited::Beat { number, held } => self.beat_answered(context, number, held, &heard),
            Awaited::Claim { lease_ms } => self.claimed(context, sent_us, lease_ms, heard),
            Awaited::Renew { lease_ms, leases, started } => {
                self.renewed(context, sent_us, lease_ms, &leases, started, heard);
            }
            Awaited::Settle { number } => self.settled(context, number, heard),
            Awaited::Reclaim { lease_ms } => self.reclaimed(context, sent_us, lease_ms, heard),
            Awaited::Leave => {}
        }
    }

    fn slots(&self) -> u32 {
        self.replica.policy().service_capacity.concurrent_requests_per_process as u32
    }

    fn running(&self) -> u32 {
        self.held.values().filter(|held| held.runs).count() as u32
    }

    /// Claims for the slots that are free: at once if there may be work, else behind a blocking pop.
    fn claim(&mut self, context: &mut Context) {
        let free = self.slots().saturating_sub(self.running());
        if self.claiming || self.leaving != Leaving::No || free == 0 || !self.started {
            return;
        }
        self.claiming = true;
        let policy = Arc::clone(self.replica.policy());
        let lease_ms = policy.queue.lease_ms;
        let wait = Duration::from_millis(lease_ms / WAIT_OF_LEASE).min(WAIT_MAX);
        let wait = if self.claim_due { Duration::ZERO } else { wait };
        let call = Call::Claim { policy, slots: free, wait_us: wait.as_micros() as u64 };
        let timeout = if wait.is_zero() { STORE_TIMEOUT } else { wait + POP_LATE };
        context.call(&mut self.life, timeout, call, Awaited::Claim { lease_ms });
    }

    fn claimed(&mut self, context: &mut Context, sent_us: u64, lease_ms: u64, heard: Heard) {
        self.claiming = false;
        let Ok(Answer::Claimed { leases, waiting, next_due_ms }) = heard else {
            self.claim_due = true;
            return self.after(context, 50, 100, Timer::Claim);
        };
        let got = !leases.is_empty();
        for lease in leases {
            self.start(context, lease, sent_us, lease_ms);
        }
        self.claim_due = waiting > 0;
        if waiting > 0 && !got {
            return context.wake(&self.life, CONTENDED, Timer::Claim);
        }
        if let Some(due_ms) = next_due_ms.filter(|_| waiting == 0) {
            self.claim_due = due_ms <= 1;
            // What is due sooner than a wait ends is claimed when it is due.
            context.wake(&self.life, Duration::from_millis(due_ms.clamp(1, 1_000)), Timer::Claim);
        }
        self.claim(context);
    }

    /// Told to leave: takes nothing new, says so at once, and gives what runs some time.
    pub(super) fn drain(&mut self, context: &mut Context, limit_us: u64) {
        if !self.started {
            self.life.alive = false;
            return;
        }
        self.leaving = Leaving::Draining;
        self.send_beat(context);
        context.wake(&self.life, Duration::from_micros(limit_us), Timer::CutOff);
        self.leave_if_done(context);
    }

    fn leave_if_done(&mut self, context: &mut Context) {
        let idle = self.held.is_empty() && self.pending.is_empty() && !self.claiming;
        if self.leaving != Leaving::No && self.life.alive && idle {
            self.leave(context);
        }
    }

    /// What is left now is left for others.
    fn leave(&mut self, context: &mut Context) {
        if self.leaving != Leaving::No && self.life.alive {
            let worker = self.worker();
            self.call(context, Call::Leave { worker }, Awaited::Leave);
            context.coverage.count("processor drained");
            self.crash(context);
        }
    }

    /// Looks what is stored.
    fn look(&mut self, context: &mut Context, heard: Option<PolicyStamp>) {
        let step = self.replica.look(heard);
        self.looked(context, step);
    }

    fn looked(&mut self, context: &mut Context, step: Step) {
        match step {
            Step::Ask(call) => return self.call(context, call, Awaited::Look),
            Step::Failed if !self.started => return self.after(context, 50, 100, Timer::Begin),
            Step::Failed => {}
            Step::Done if self.started => self.policy_changed(context),
            Step::Done => self.go(context),
        }
        self.look_next(context);
    }

    /// One look after the other; what was heard by a heartbeat of an earlier policy may be older than this one.
    fn look_next(&mut self, context: &mut Context) {
        while !self.replica.is_looking()
            && let Some(heard) = self.heard.pop_front()
        {
            match heard {
                Some((held, _)) if held != self.replica.stamp() => {}
                Some((_, stored)) if stored == self.replica.stamp() => {}
                heard => self.look(context, heard.map(|(_, stored)| stored)),
            }
        }
    }

    /// The policy is known: work begins.
    fn go(&mut self, context: &mut Context) {
        self.started = true;
        self.send_beat(context);
        self.claim_due = true;
        self.claim(context);
        self.after(context, 200, 300, Timer::Reclaim);
        context.wake(&self.life, self.renew_period(), Timer::Renew);
        // A subscription begins with news.
        self.heard.push_back(None);
    }
}
