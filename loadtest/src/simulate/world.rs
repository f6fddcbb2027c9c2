//! A whole cluster, one event at a time.
//!
//! Responsible for taking every event to whom it concerns, and for knowing when all has come to rest. Must never let
//! anything in that does not come from the plan: a run is a function of it.

mod mishap;

use std::collections::BTreeMap;

use super::call::unavailable;
use super::client::Client;
use super::clock::Clock;
use super::context::Context;
use super::coverage::Coverage;
use super::dice::Dice;
use super::event::{Event, Sent, Timer, Told, Wish};
use super::gateway::Gateway;
use super::judge::{Ledger, Violation};
use super::operator::Operator;
use super::plan::{Place, Plan, What};
use super::processor::Processor;
use super::store::{Data, Store};
use super::trace::Trace;

/// Time between two comparisons of accounts, µs.
const SWEEP_US: u64 = 500_000;

/// How long after the last trouble and the last caller everything must have come to rest, µs: the longest queue of the
/// longest attempts, each as often as it may be tried.
const REST_US: u64 = 60_000_000;

/// Most by which a clock may be wrong, parts per million: two such clocks stay within the tenth of a lease that is not
/// trusted.
const DRIFT: u64 = 30_000;

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Run {
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// The last lines that concern it, where the run was traced.
    pub evidence: Vec<String>,
    /// Everything that happened, where the run was traced.
    pub trace: Vec<String>,
    /// What was met.
    pub coverage: Coverage,
    /// Events.
    pub events: u64,
    /// Time that passed in the cluster, µs.
    pub lasted_us: u64,
}

/// The cluster.
pub(super) struct World<'a> {
    plan: &'a Plan,
    context: Context,
    store: Store,
    gateways: Vec<Gateway>,
    processors: Vec<Processor>,
    clients: Vec<Client>,
    operator: Operator,
    redis_down_until_us: u64,
    redis_frozen_until_us: u64,
    /// What failovers will come back to, by the number of the trouble.
    copies: BTreeMap<usize, (Data, Ledger)>,
    has_lost_data: bool,
    /// Who held a policy that Redis lost: which start of which process, and when that policy was written, ms.
    keepers: Vec<(Place, u32, u64)>,
    /// Processes that stand still: until when, and what waits for them.
    frozen: BTreeMap<Place, (u64, Vec<Event>)>,
    quiet_at_us: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan, traced: bool) -> Self {
        let mut dice = Dice::of(plan.seed, 2);
        let mut clock = || Clock::gaining(dice.between(0, 2 * DRIFT) as i64 - DRIFT as i64);
        let store = Store::new(clock());
        let gateways = (0..plan.gateways).map(|number| Gateway::new(Place::Gateway(number), clock())).collect();
        let processors = (0..plan.processors)
            .map(|number| Processor::new(Place::Processor(number), clock(), Dice::of(plan.seed, 50 + number as u64)));
        let stop_us = plan.seconds * 1_000_000;
        let ends = plan.troubles.iter().map(|trouble| trouble.at_us + trouble.lasts_us);
        Self {
            context: Context::new(plan.seed, plan.mistake, Trace::new(traced)),
            store,
            gateways,
            processors: processors.collect(),
            clients: (0..plan.clients).map(|number| Client::new(plan.seed, number, plan.think_ms)).collect(),
            operator: Operator::new(),
            redis_down_until_us: 0,
            redis_frozen_until_us: 0,
            copies: BTreeMap::new(),
            has_lost_data: false,
            keepers: Vec::new(),
            frozen: BTreeMap::new(),
            quiet_at_us: ends.max().unwrap_or(0).max(stop_us),
            plan,
        }
    }

    /// Runs the plan to its end, or to the first violation.
    pub(super) fn run(mut self) -> Run {
        self.set_up();
        let mut events = 0;
        while let Some((at_us, event)) = self.context.agenda.next() {
            self.context.now_us = at_us;
            events += 1;
            let at_rest = matches!(event, Event::Sweep) && self.sweep();
            if at_rest || self.context.judge.violation.is_some() {
                break;
            }
            self.happen(event);
        }
        let context = self.context;
        let violation = context.judge.violation;
        let evidence = violation.as_ref().map(|violation| context.trace.about(&violation.subjects, 40));
        let lasted_us = context.now_us;
        let trace = context.trace.all();
        Run { violation, evidence: evidence.unwrap_or_default(), trace, coverage: context.coverage, events, lasted_us }
    }

    fn set_up(&mut self) {
        for number in 0..self.gateways.len() {
            self.context.after(number as u64, Event::Start(Place::Gateway(number)));
        }
        for number in 0..self.processors.len() {
            self.context.after(number as u64, Event::Start(Place::Processor(number)));
        }
        for client in 0..self.clients.len() {
            self.context.after(10_000, Event::Come { client });
        }
        for (number, trouble) in self.plan.troubles.iter().enumerate() {
            self.context.after(trouble.at_us, Event::Trouble(number));
            if let What::Failover { lost_us } = trouble.what {
                self.context.after(trouble.at_us.saturating_sub(lost_us), Event::Copy(number));
            }
        }
        self.context.after(SWEEP_US, Event::Sweep);
    }

    fn happen(&mut self, event: Event) {
        let to = match &event {
            Event::Answered { to, .. } | Event::Timer { to, .. } | Event::News { to } => Some(*to),
            Event::Asked { gateway, .. } => Some(Place::Gateway(*gateway)),
            _ => None,
        };
        if let Some((_, waiting)) = to.and_then(|to| self.frozen.get_mut(&to)) {
            return waiting.push(event);
        }
        let context = &mut self.context;
        match event {
            Event::Arrived(sent) => self.arrive(*sent),
            Event::PopOver { id } => self.end_pop(id),
            Event::Answered { to, life, id, heard } => match to {
                Place::Gateway(number) if self.gateways[number].life.is(life) => {
                    self.gateways[number].answered(context, id, *heard);
                }
                Place::Processor(number) if self.processors[number].life.is(life) => {
                    self.processors[number].answered(context, id, *heard);
                }
                Place::Operator => self.operator.answered(context, id, *heard),
                _ => {}
            },
            Event::Timer { to, life, timer } => self.timer(to, life, timer),
            Event::News { to: Place::Gateway(number) } if self.gateways[number].life.alive => {
                self.gateways[number].news(context);
            }
            Event::News { to: Place::Processor(number) } if self.processors[number].life.alive => {
                self.processors[number].news(context);
            }
            Event::Come { client } if context.now_us < self.plan.seconds * 1_000_000 => {
                self.clients[client].come(context, self.gateways.len());
            }
            Event::Asked { gateway, asked } => {
                let gateway = &mut self.gateways[gateway];
                if gateway.life.alive && !gateway.draining {
                    gateway.asked(context, *asked);
                } else if let Wish::Submit(_) = asked.what {
                    let told = Told::Unavailable;
                    context.after(200, Event::Told { client: asked.client, request: asked.number, told });
                }
            }
            Event::Told { client, request, told } => self.clients[client].told(context, request, told),
            Event::Again { client, request } => {
                self.clients[client].again(context, self.gateways.len(), request);
            }
            Event::Trouble(number) => self.trouble(number),
            Event::Healed(number) => self.heal(number),
            Event::Copy(number) => {
                let copy = (self.store.data.clone(), context.judge.ledger.clone());
                self.copies.insert(number, copy);
            }
            Event::Start(place) => self.start(place),
            Event::Sweep => context.after(SWEEP_US, Event::Sweep),
            Event::News { .. } | Event::Come { .. } => {}
        }
    }

    fn timer(&mut self, to: Place, life: u32, timer: Timer) {
        let context = &mut self.context;
        match to {
            Place::Gateway(number) if self.gateways[number].life.is(life) => {
                self.gateways[number].timer(context, timer);
            }
            Place::Processor(number) if self.processors[number].life.is(life) => {
                self.processors[number].timer(context, timer);
            }
            Place::Operator => self.operator.timer(context),
            _ => {}
        }
    }

    fn end_pop(&mut self, id: u64) {
        match self.frozen_for_us() {
            Some(left_us) => self.context.after(left_us, Event::PopOver { id }),
            None if self.is_redis_up() => self.store.end_pop(&mut self.context, id),
            None => {}
        }
    }

    /// How long Redis will still stand still, if it does.
    fn frozen_for_us(&self) -> Option<u64> {
        self.redis_frozen_until_us.checked_sub(self.context.now_us).filter(|left_us| *left_us > 0)
    }

    fn is_redis_up(&self) -> bool {
        self.context.now_us >= self.redis_down_until_us
    }

    fn arrive(&mut self, sent: Sent) {
        if !self.is_redis_up() {
            return self.context.answer(sent.from, sent.life, sent.id, Err(unavailable()));
        }
        if let Some(left_us) = self.frozen_for_us() {
            self.context.coverage.count("call waited for redis");
            return self.context.after(left_us, Event::Arrived(Box::new(sent)));
        }
        if self.store.take(&mut self.context, sent) {
            self.places().into_iter().for_each(|place| self.context.publish(place));
        }
    }

    fn places(&self) -> Vec<Place> {
        let gateways = (0..self.gateways.len()).map(Place::Gateway);
        gateways.chain((0..self.processors.len()).map(Place::Processor)).collect()
    }

    fn start(&mut self, place: Place) {
        let context = &mut self.context;
        match place {
            Place::Gateway(number) => self.gateways[number].begin(context),
            Place::Processor(number) => self.processors[number].begin(context),
            Place::Operator => {}
        }
    }

    /// Compares accounts; whether everything is over and as it should be.
    fn sweep(&mut self) -> bool {
        let now_us = self.context.now_us;
        let redis_ms = self.store.now_ms(now_us);
        self.context.judge.compare(now_us, redis_ms, &self.store.data.model);
        self.store.data.model.forget(redis_ms);
        if now_us < self.quiet_at_us {
            return false;
        }
        let stored = self.store.data.policies.stamp();
        let everybody_follows = self
            .gateways
            .iter()
            .all(|gateway| gateway.life.alive && gateway.replica().stamp() == stored)
            && self.processors.iter().all(|processor| processor.life.alive && processor.replica().stamp() == stored);
        let at_rest = self.context.judge.ledger.alive() == 0 && everybody_follows && self.operator.is_idle();
        if at_rest {
            self.check_promises();
        } else if now_us > self.quiet_at_us + REST_US {
            let left: Vec<String> = self.context.judge.ledger.living().map(ToString::to_string).collect();
            let what =
                format!("{} tasks have not ended, everybody follows the policy: {everybody_follows}", left.len());
            self.context.judge.accuse(now_us, "everything comes to rest", what, left);
        }
        at_rest
    }

    /// What callers were told is accepted was accepted, unless it was lost since.
    fn check_promises(&mut self) {
        let judge = &mut self.context.judge;
        let promised = self.clients.iter().flat_map(|client| &client.promised);
        let unknown = promised.clone().find(|id| !judge.ledger.knows(id)).filter(|_| !self.has_lost_data);
        if let Some(id) = unknown.cloned() {
            let what = format!("{id} was promised to its caller and is not known");
            judge.accuse(self.context.now_us, "promises are kept", what, vec![id.to_string()]);
        }
        let written_ms = self.store.data.policies.written_ms();
        let forgotten = self.keepers.iter().find(|(place, life, kept_ms)| {
            *kept_ms > written_ms && self.held_by(*place).is_some_and(|(of, _)| of == *life)
        });
        if let Some((place, _, kept_ms)) = forgotten {
            let what =
                format!("{place:?} held a policy of {kept_ms} when Redis lost it, now one of {written_ms} is stored");
            let subjects = vec!["revise".to_owned(), "restore".to_owned(), "trouble".to_owned()];
            self.context.judge.accuse(self.context.now_us, "the newest policy comes back", what, subjects);
        }
    }

    /// Which start of a process lives, and when the policy it holds was written, ms.
    fn held_by(&self, place: Place) -> Option<(u32, u64)> {
        let (alive, life, replica) = match place {
            Place::Gateway(number) => {
                let gateway = &self.gateways[number];
                (gateway.life.alive, gateway.life.number, gateway.replica())
            }
            Place::Processor(number) => {
                let processor = &self.processors[number];
                (processor.life.alive, processor.life.number, processor.replica())
            }
            Place::Operator => return None,
        };
        alive.then(|| (life, replica.written_ms()))
    }
}
