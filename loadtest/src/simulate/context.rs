//! What every actor of a simulation can do: see the time, put something down for later, and call Redis.
//!
//! Responsible for the network between processes and Redis: delay, loss of a call, loss of an answer, partitions. Must
//! never tell a process more than a real one can know: whether a call that got no answer had its effect, for one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agenda::Agenda;
use super::call::{Call, Heard, unavailable};
use super::clock::Clock;
use super::coverage::Coverage;
use super::dice::Dice;
use super::event::{Event, Sent, Timer};
use super::judge::Judge;
use super::mistake::Mistake;
use super::plan::Place;
use super::trace::Trace;

/// The state of things that belong to nobody.
pub(super) struct Context {
    pub(super) now_us: u64,
    pub(super) agenda: Agenda<Event>,
    pub(super) coverage: Coverage,
    pub(super) judge: Judge,
    pub(super) trace: Trace,
    pub(super) mistake: Option<Mistake>,
    /// Until when the backend fails most attempts.
    pub(super) backend_fails_until_us: u64,
    dice: Dice,
    links: BTreeMap<Place, Link>,
    calls: u64,
}

/// The way between a process and Redis; times in µs.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Nothing passes until then.
    cut: u64,
    /// Some things are lost or late until then.
    flaky: u64,
    /// Messages are lost until then.
    deaf: u64,
}

/// A process: which start of it, its clock, and what it waits for.
#[derive(Debug)]
pub(super) struct Life<T> {
    pub(super) place: Place,
    /// Number of its start.
    pub(super) number: u32,
    pub(super) alive: bool,
    pub(super) clock: Clock,
    /// Calls without an answer yet.
    pub(super) awaited: BTreeMap<u64, (u64, T)>,
}

/// What becomes of something on its way.
enum Fate {
    Arrives { after_us: u64 },
    Lost,
}

impl Context {
    pub(super) fn new(seed: u64, mistake: Option<Mistake>, trace: Trace) -> Self {
        Self {
            now_us: 0,
            agenda: Agenda::new(),
            coverage: Coverage::default(),
            judge: Judge::default(),
            trace,
            mistake,
            backend_fails_until_us: 0,
            dice: Dice::of(seed, 1),
            links: BTreeMap::new(),
            calls: 0,
        }
    }

    /// Whether this mistake is planted.
    pub(super) fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Puts something down for so many µs from now.
    pub(super) fn after(&mut self, after_us: u64, event: Event) {
        self.agenda.put(self.now_us + after_us, event);
    }

    /// Wakes a process when its own clock has counted so long.
    pub(super) fn wake<T>(&mut self, life: &Life<T>, after: Duration, timer: Timer) {
        let event = Event::Timer { to: life.place, life: life.number, timer };
        self.after(life.clock.truly(after), event);
    }

    /// Sends a call, which is given up when the process has waited for so long. `then` says what it was for.
    pub(super) fn call<T>(&mut self, life: &mut Life<T>, timeout: Duration, call: Call, then: T) {
        self.calls += 1;
        let id = self.calls;
        self.trace.note(self.now_us, || format!("{:?} sends {id}: {}", life.place, super::trace::call(&call)));
        life.awaited.insert(id, (self.now_us, then));
        let sent = Sent { id, from: life.place, life: life.number, call };
        match self.fate(life.place) {
            Fate::Arrives { after_us } => self.after(after_us, Event::Arrived(Box::new(sent))),
            Fate::Lost => self.coverage.count("call lost"),
        }
        let expiry = Event::Answered { to: life.place, life: life.number, id, heard: Box::new(Err(unavailable())) };
        self.after(life.clock.truly(timeout), expiry);
    }

    /// Sends an answer back.
    pub(super) fn answer(&mut self, to: Place, life: u32, id: u64, heard: Heard) {
        self.trace.note(self.now_us, || format!("redis answers {id} of {to:?}: {}", super::trace::answer(&heard)));
        match self.fate(to) {
            Fate::Arrives { after_us } => {
                self.after(after_us, Event::Answered { to, life, id, heard: Box::new(heard) });
            }
            Fate::Lost => self.coverage.count("answer lost"),
        }
    }

    /// Tells a process that there may be another policy, unless the message is lost.
    pub(super) fn publish(&mut self, to: Place) {
        let deaf = self.link(to).deaf > self.now_us;
        match self.fate(to) {
            Fate::Arrives { after_us } if !deaf => self.after(after_us, Event::News { to }),
            _ => self.coverage.count("message lost"),
        }
    }

    /// Nothing passes for so long.
    pub(super) fn cut(&mut self, place: Place, lasts_us: u64) {
        self.link(place).cut = self.now_us + lasts_us;
    }

    /// Some things are lost or late for so long.
    pub(super) fn make_flaky(&mut self, place: Place, lasts_us: u64) {
        self.link(place).flaky = self.now_us + lasts_us;
    }

    /// Messages are lost for so long.
    pub(super) fn deafen(&mut self, place: Place, lasts_us: u64) {
        self.link(place).deaf = self.now_us + lasts_us;
    }

    fn link(&mut self, place: Place) -> &mut Link {
        self.links.entry(place).or_default()
    }

    fn fate(&mut self, place: Place) -> Fate {
        let (now_us, link) = (self.now_us, *self.link(place));
        if link.cut > now_us {
            return Fate::Lost;
        }
        let mut after_us = self.dice.between(50, 500);
        if link.flaky > now_us {
            if self.dice.chance(0.15) {
                return Fate::Lost;
            }
            after_us += self.dice.between(0, 400_000);
        } else if self.dice.chance(0.01) {
            after_us += self.dice.between(0, 30_000);
        }
        Fate::Arrives { after_us }
    }
}

impl<T> Life<T> {
    pub(super) fn new(place: Place, clock: Clock) -> Self {
        Self { place, number: 0, alive: false, clock, awaited: BTreeMap::new() }
    }

    /// A new start, which knows nothing of the ones before.
    pub(super) fn begin(&mut self) {
        self.number += 1;
        self.alive = true;
        self.awaited.clear();
    }

    /// Whether this start of it is still alive.
    pub(super) fn is(&self, number: u32) -> bool {
        self.alive && self.number == number
    }

    /// The calls without an answer, and the start they belong to.
    pub(super) fn under_way(&self) -> Vec<(u32, u64)> {
        self.awaited.keys().map(|id| (self.number, *id)).collect()
    }

    /// What the process sees on its clock.
    pub(super) fn now(&self, context: &Context) -> tokio::time::Instant {
        self.clock.at(context.now_us)
    }
}
