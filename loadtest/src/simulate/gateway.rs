//! A simulated gateway: remembers refusals, gathers admissions into batches, catches up with the policy, and leaves a
//! Redis alone that does not answer.
//!
//! Responsible for what the gateway's own code does between a request and its answer. Goes by the gateway's own rules
//! where they are pure: what is remembered and recalled ([`Remembered`]), the breaker for Redis ([`StoreBreaker`]).
//! Restates, because they live in async code: group commit (`group_commit.rs`), the rounds of a batch under a stale
//! policy (`decider.rs`) and the upkeep of a scope (`scope/upkeep.rs`). Must never look into Redis.

mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_gateway::store_breaker::{PROBE_INTERVAL, StoreBreaker};
use portcullis_gateway::{Remembered, Shared};
use portcullis_lua::{ADMIT_BATCH, AdmitRequest, Decision, PolicyStamp, StoreError, Verdict};

use super::call::{Answer, Call, Heard, unavailable};
use super::clock::Clock;
use super::context::{Context, Life};
use super::event::{Asked, Event, Timer, Told, Wish};
use super::mistake::Mistake;
use super::plan::Place;
use super::replica::{Replica, Step};
use upkeep::Due;

/// `PORTCULLIS_STORE_TIMEOUT_MS` as shipped.
const STORE_TIMEOUT: Duration = Duration::from_millis(40);
/// Calls in flight at once (`group_commit.rs`).
const SENDERS: usize = 2;
/// Longest time a request waits for its call (`group_commit.rs`).
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a batch is sent (`decider.rs`).
const ROUNDS: u8 = 3;

/// A gateway.
pub(super) struct Gateway {
    pub(super) life: Life<Awaited>,
    pub(super) draining: bool,
    replica: Replica,
    breaker: StoreBreaker,
    waiting: VecDeque<Waiting>,
    in_flight: usize,
    sessions: BTreeMap<String, (PolicyStamp, Remembered)>,
    user_types: BTreeMap<UserType, (PolicyStamp, Remembered)>,
    due: Due,
    /// Who waits for a look at the policy, and what each has heard.
    lookers: VecDeque<(Option<PolicyStamp>, Looker)>,
    probing: bool,
}

/// A request that waits for its call.
#[derive(Debug)]
pub(super) struct Waiting {
    client: usize,
    number: u64,
    request: AdmitRequest,
    since_us: u64,
}

/// Requests that are decided together.
#[derive(Debug)]
pub(super) struct Batch {
    requests: Vec<Waiting>,
    stamp: PolicyStamp,
    round: u8,
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
            breaker: StoreBreaker::new(STORE_TIMEOUT),
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
        batches.iter().for_each(|waiting| tell(context, waiting, Told::Unavailable));
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
        let of_session = self.sessions.get(&request.session_id);
        let of_type = self.user_types.get(&request.user_type);
        let (stamp, recalled) = [of_session, of_type].into_iter().flatten().find_map(|(stamp, remembered)| {
            let asked_under = if over { *stamp } else { held };
            Some((*stamp, remembered.recall(now, asked_under)?))
        })?;
        if !over && !self.due.is_abreast() {
            return None;
        }
        context.coverage.count("refused from memory");
        context.trace.note(context.now_us, || format!("{:?} repeats a refusal of {stamp}", self.life.place));
        context.judge.decided_under(context.now_us, stamp, "a remembered refusal");
        Some(recalled.refusal.retry_after_ms)
    }

    /// Sends what has gathered, while there is a sender.
    fn send(&mut self, context: &mut Context) {
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
            self.ask(context, Batch { requests, stamp: PolicyStamp::NONE, round: 1 });
        }
        self.leave_if_idle(context);
    }

    /// Asks about a batch under the policy in force.
    fn ask(&mut self, context: &mut Context, mut batch: Batch) {
        let (policy, stamp) = (Arc::clone(self.replica.policy()), self.replica.stamp());
        batch.stamp = stamp;
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
            Awaited::Admit(batch) => match heard {
                Ok(Answer::Decided(decisions)) => self.conclude(context, batch, Ok(decisions)),
                Ok(_) => self.conclude(context, batch, Err(unavailable())),
                Err(error) => self.conclude(context, batch, Err(error)),
            },
            Awaited::Look => {
                let step = self.replica.answered(heard);
                self.step(context, step);
            }
            Awaited::Subscribe => self.subscribed(context, heard.is_ok()),
            Awaited::Report(held) => self.reported(context, held, heard),
            Awaited::Probe | Awaited::Other => {}
        }
    }

    /// What a batch has come to.
    fn conclude(&mut self, context: &mut Context, mut batch: Batch, heard: Result<Vec<Decision>, StoreError>) {
        match heard {
            Ok(decisions) => {
                for (waiting, decision) in batch.requests.iter().zip(decisions) {
                    self.decided(context, waiting, decision, batch.stamp);
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
                batch.requests.iter().for_each(|waiting| tell(context, waiting, Told::Unavailable));
                if matches!(error, StoreError::Unavailable(_)) {
                    let behind = std::mem::take(&mut self.waiting);
                    behind.iter().for_each(|waiting| tell(context, waiting, Told::Unavailable));
                }
            }
        }
        self.in_flight -= 1;
        self.send(context);
    }

    fn decided(&mut self, context: &mut Context, waiting: &Waiting, decision: Decision, stamp: PolicyStamp) {
        let told = match decision.verdict {
            Verdict::Admitted { task_id, .. } | Verdict::Replayed { task_id } => Told::Accepted(task_id),
            Verdict::Refused(refusal) => {
                let (request, now) = (&waiting.request, self.life.now(context));
                let limits = decision.limits.into();
                match Remembered::of(now, request.cost, &refusal, &limits, stamp) {
                    Some((Shared::BySession, remembered)) => {
                        self.sessions.insert(request.session_id.clone(), (stamp, remembered));
                    }
                    Some((Shared::ByUserType, remembered)) => {
                        self.user_types.insert(request.user_type.clone(), (stamp, remembered));
                    }
                    None => {}
                }
                Told::Refused { retry_after_ms: refusal.retry_after_ms }
            }
        };
        tell(context, waiting, told);
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
                Step::InStep => true,
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

fn tell(context: &mut Context, waiting: &Waiting, told: Told) {
    context.after(200, Event::Told { client: waiting.client, request: waiting.number, told });
}
