//! A simulated gateway: remembers refusals, gathers admissions into batches, catches up with the policy, and leaves a
//! Redis alone that does not answer.
//!
//! Responsible for what the gateway's own code does between a request and its answer. Goes by the gateway's own rules
//! where they are pure: what is remembered and recalled ([`Term`]), the breaker for Redis ([`StoreBreaker`]).
//! Restates, because they live in async code: group commit (`group_commit.rs`), the rounds of a batch under a stale
//! policy (`decider.rs`) and the upkeep of a scope (`scope/upkeep.rs`). Must never look into Redis.

mod batch;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_gateway::Term;
use portcullis_gateway::store_breaker::{PROBE_INTERVAL, StoreBreaker};
use portcullis_lua::{AdmitRequest, PolicyStamp, Refusal};

use super::call::{Answer, Call, Heard, unavailable};
use super::clock::Clock;
use super::context::{Context, Life};
use super::event::{Asked, Timer, Told, Wish};
use super::mistake::Mistake;
use super::plan::Place;
use super::replica::{Replica, Step};
use batch::{Batch, Waiting, tell};
use upkeep::Due;

/// `PORTCULLIS_STORE_TIMEOUT_MS` as shipped.
const STORE_TIMEOUT: Duration = Duration::from_millis(40);
/// `PORTCULLIS_STORE_AWAY_MS` as shipped.
const STORE_AWAY_AFTER: Duration = Duration::from_secs(1);

/// A gateway.
pub(super) struct Gateway {
    pub(super) life: Life<Awaited>,
    pub(super) draining: bool,
    replica: Replica,
    breaker: StoreBreaker,
    waiting: VecDeque<Waiting>,
    in_flight: usize,
    sessions: BTreeMap<String, Remembered>,
    user_types: BTreeMap<UserType, Remembered>,
    due: Due,
    /// Who waits for a look at the policy, and what each has heard.
    lookers: VecDeque<(Option<PolicyStamp>, Looker)>,
    probing: bool,
}

/// A refusal that may be repeated.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    term: Term,
    stamp: PolicyStamp,
    refusal: Refusal,
    /// Somebody asks ahead of its end.
    asked_ahead: bool,
}

/// Why a policy is looked at.
#[derive(Debug)]
enum Looker {
    Batch(Batch),
    /// News up to this number.
    News(u64),
    Report,
}

/// What a call was for.
#[derive(Debug)]
pub(super) enum Awaited {
    Admit(Batch),
    Look,
    Subscribe,
    Report(PolicyStamp),
    Probe,
    Other,
}

impl Gateway {
    pub(super) fn new(place: Place, clock: Clock) -> Self {
        Self {
            life: Life::new(place, clock),
            draining: false,
            replica: Replica::new(false),
            breaker: StoreBreaker::new(STORE_TIMEOUT, STORE_AWAY_AFTER),
            waiting: VecDeque::new(),
            in_flight: 0,
            sessions: BTreeMap::new(),
            user_types: BTreeMap::new(),
            due: Due::default(),
            lookers: VecDeque::new(),
            probing: false,
        }
    }

    /// A start, with nothing but the boot document.
    pub(super) fn begin(&mut self, context: &mut Context) {
        let mut fresh = Self::new(self.life.place, self.life.clock);
        fresh.life.number = self.life.number;
        *self = fresh;
        self.replica = Replica::new(context.makes(Mistake::NeverGivesBack));
        self.life.begin();
        context.wake(&self.life, Duration::ZERO, Timer::Upkeep);
    }

    /// Told to leave: nobody new is let in, and what is under way comes to its end.
    pub(super) fn drain(&mut self, context: &mut Context) {
        self.draining = true;
        self.leave_if_idle(context);
    }

    /// The process is gone; who waits for it notices.
    pub(super) fn crash(&mut self, context: &mut Context) {
        self.life.alive = false;
        let mut batches: Vec<Waiting> = self.waiting.drain(..).collect();
        for (_, awaited) in std::mem::take(&mut self.life.awaited).into_values() {
            if let Awaited::Admit(batch) = awaited {
                batches.extend(batch.requests);
            }
        }
        for (_, looker) in std::mem::take(&mut self.lookers) {
            if let Looker::Batch(batch) = looker {
                batches.extend(batch.requests);
            }
        }
        for waiting in &batches {
            tell(context, waiting, Told::Unavailable);
        }
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// A request comes in.
    pub(super) fn asked(&mut self, context: &mut Context, asked: Asked) {
        let Asked { client, number, what } = asked;
        let request = match what {
            Wish::Submit(request) => *request,
            Wish::Cancel { task_id, principal } => {
                let policy = Arc::clone(self.replica.policy());
                _ = self.call(context, Call::Cancel { policy, task_id, principal }, Awaited::Other);
                return;
            }
        };
        let waiting = Waiting { client, number, request, since_us: context.now_us };
        if let Some(retry_after_ms) = self.recall(context, &waiting.request) {
            tell(context, &waiting, Told::Refused { retry_after_ms });
        } else if self.breaker.is_open() {
            context.coverage.count("refused while redis is away");
            tell(context, &waiting, Told::Unavailable);
        } else {
            self.waiting.push_back(waiting);
            self.send(context);
        }
    }

    /// Repeats a refusal that still stands.
    fn recall(&mut self, context: &mut Context, request: &AdmitRequest) -> Option<u64> {
        let (now, over) = (self.life.now(context), context.makes(Mistake::RemembersOverRevisions));
        let held = self.replica.stamp();
        let of_session = self.sessions.get_mut(&request.session_id);
        let of_type = self.user_types.get_mut(&request.user_type);
        let (remembered, passed) = [of_session, of_type].into_iter().flatten().find_map(|remembered| {
            let asked_under = if over { remembered.stamp } else { held };
            let passed = remembered.term.passed(now, asked_under)?;
            Some((remembered, passed))
        })?;
        if remembered.term.may_ask_ahead(now) && !std::mem::replace(&mut remembered.asked_ahead, true) {
            context.coverage.count("asked ahead");
            return None;
        }
        if !over && !self.due.is_abreast() {
            return None;
        }
        let stamp = remembered.stamp;
        let retry_after_ms = remembered.term.retry_after_ms(&remembered.refusal, passed);
        context.coverage.count("refused from memory");
        context.trace.note(context.now_us, || format!("{:?} repeats a refusal of {stamp}", self.life.place));
        context.judge.decided_under(context.now_us, stamp, "a remembered refusal");
        Some(retry_after_ms)
    }

    /// Calls Redis, unless it is left alone; gives back what the call was for then.
    fn call(&mut self, context: &mut Context, call: Call, then: Awaited) -> Result<(), Awaited> {
        if self.breaker.is_open() {
            return Err(then);
        }
        context.call(&mut self.life, STORE_TIMEOUT, call, then);
        Ok(())
    }

    /// A call has ended, one way or the other.
    pub(super) fn answered(&mut self, context: &mut Context, id: u64, heard: Heard) {
        let Some((sent_us, awaited)) = self.life.awaited.remove(&id) else { return };
        if let Awaited::Probe = awaited {
            return self.probed(context, heard.is_ok());
        }
        let took = self.life.clock.at(context.now_us) - self.life.clock.at(sent_us);
        let was_open = self.breaker.is_open();
        self.breaker.learn(&heard.as_ref().map(|_| ()).map_err(Clone::clone), took);
        if self.breaker.is_open() && !was_open {
            context.coverage.count("breaker for redis opened");
            self.probe(context);
        }
        match awaited {
            Awaited::Admit(mut batch) => {
                let decisions = match heard {
                    Ok(Answer::Decided(decisions)) => Ok(decisions),
                    Ok(_) => Err(unavailable()),
                    Err(error) => Err(error),
                };
                if context.makes(Mistake::RemembersFromReceipt) {
                    batch.asked_us = context.now_us;
                }
                self.conclude(context, batch, decisions);
            }
            Awaited::Look => {
                let step = self.replica.answered(heard);
                self.step(context, step);
            }
            Awaited::Subscribe => self.subscribed(context, heard.is_ok()),
            Awaited::Report(held) => self.reported(context, held, &heard),
            Awaited::Probe | Awaited::Other => {}
        }
    }

    /// Looks what is stored, when it is its turn.
    fn look(&mut self, context: &mut Context, heard: Option<PolicyStamp>, looker: Looker) {
        self.lookers.push_back((heard, looker));
        if !self.replica.is_looking() && self.lookers.len() == 1 {
            let step = self.replica.look(heard);
            self.step(context, step);
        }
    }

    /// Goes on with the look of whoever is first.
    fn step(&mut self, context: &mut Context, mut step: Step) {
        loop {
            let in_step = match step {
                Step::Ask(call) => {
                    if self.call(context, call, Awaited::Look).is_ok() {
                        return;
                    }
                    step = self.replica.answered(Err(unavailable()));
                    continue;
                }
                Step::Done => true,
                Step::Failed => false,
            };
            let Some((_, looker)) = self.lookers.pop_front() else { return };
            match looker {
                Looker::Batch(batch) if in_step => self.ask(context, batch),
                Looker::Batch(batch) => self.conclude(context, batch, Err(unavailable())),
                Looker::News(upto) => self.looked(context, in_step.then_some(upto)),
                Looker::Report => self.due.over(),
            }
            match self.lookers.front() {
                Some((heard, _)) if !self.replica.is_looking() => step = self.replica.look(*heard),
                _ => return,
            }
        }
    }

    fn probe(&mut self, context: &mut Context) {
        if !self.probing {
            self.probing = true;
            context.call(&mut self.life, STORE_TIMEOUT, Call::Ping, Awaited::Probe);
        }
    }

    fn probed(&mut self, context: &mut Context, answered: bool) {
        self.probing = false;
        if answered {
            self.breaker.close();
        } else {
            context.wake(&self.life, PROBE_INTERVAL, Timer::Probe);
        }
    }

    pub(super) fn timer(&mut self, context: &mut Context, timer: Timer) {
        match timer {
            Timer::Upkeep => self.upkeep(context),
            Timer::Probe if self.breaker.is_open() => self.probe(context),
            _ => {}
        }
    }

    /// A draining gateway ends when nothing is under way.
    fn leave_if_idle(&mut self, context: &mut Context) {
        if self.draining && self.life.alive && self.in_flight == 0 && self.waiting.is_empty() {
            _ = self.call(context, Call::Leave { worker: self.name() }, Awaited::Other);
            self.life.alive = false;
            context.coverage.count("gateway drained");
        }
    }
}
