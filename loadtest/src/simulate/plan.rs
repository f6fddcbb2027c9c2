//! What a run consists of: who takes part, for how long, and what goes wrong when.
//!
//! Responsible for drawing all of it from the seed before anything happens, so that a plan can be printed, and shrunk
//! by leaving parts of it out. Must never look at a run.

use super::dice::Dice;
use super::mistake::Mistake;
use super::rules::POLICIES;

/// A run before it is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of everything that is still to be drawn.
    pub seed: u64,
    /// For how long callers come, s.
    pub seconds: u64,
    /// Gateways at the start.
    pub gateways: usize,
    /// Processors at the start.
    pub processors: usize,
    /// Callers, each with a session of its own.
    pub clients: usize,
    /// Mean time between two requests of a caller, ms.
    pub think_ms: u64,
    /// What goes wrong, in the order of time.
    pub troubles: Vec<Trouble>,
    /// Mistake in the protocol; none outside of tests.
    pub mistake: Option<Mistake>,
}

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// When, µs after the start.
    pub at_us: u64,
    /// How long it lasts, or until what it ends is started again, µs.
    pub lasts_us: u64,
    /// What.
    pub what: What,
}

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A gateway, by number.
    Gateway(usize),
    /// A processor, by number.
    Processor(usize),
    /// Whoever changes policies.
    Operator,
}

/// What can go wrong.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum What {
    Crash(Place),
    Drain(Place),
    /// The process stands still and goes on: SIGSTOP, SIGCONT.
    Freeze(Place),
    /// Nothing reaches Redis and nothing comes back.
    Partition(Place),
    /// Calls and answers are lost or late now and then.
    Flaky(Place),
    /// Messages are lost, and nobody notices.
    Deaf(Place),
    /// Calls that are under way get no answer, though some have had their effect.
    BreakConnections(Place),
    /// Redis is restarted without losing anything.
    RestartRedis,
    /// Redis stands still; what was sent runs when it goes on.
    FreezeRedis,
    /// The clock of Redis jumps ahead by so many ms.
    JumpClock(u64),
    /// A replica takes over that lacks what was written in this last time, µs.
    Failover {
        lost_us: u64,
    },
    /// The backend fails most of what it is asked.
    FailBackend,
    /// The policy of this number is stored.
    ChangePolicy(u64),
}

impl Plan {
    /// The plan of a seed in which callers come for so long.
    #[must_use]
    pub fn of(seed: u64, seconds: u64) -> Self {
        let mut dice = Dice::of(seed, 0);
        let (gateways, processors) = (dice.between(1, 3) as usize, dice.between(1, 4) as usize);
        let clients = dice.between(2, 8) as usize;
        let think_ms = *dice.pick(&[120, 300, 800]).unwrap_or(&300) * clients as u64 / 4;
        let places: Vec<Place> =
            (0..gateways).map(Place::Gateway).chain((0..processors).map(Place::Processor)).collect();
        // In one run in three it is mostly policies that change.
        let restless = dice.chance(0.3);
        let number = if restless { dice.between(3, 3 + seconds) } else { dice.between(1, 2 + seconds / 3) };
        let trouble = |_| Trouble::draw(&mut dice, &places, seconds, restless);
        let mut troubles: Vec<Trouble> = (0..number).map(trouble).collect();
        troubles.sort_by_key(|trouble| trouble.at_us);
        Self { seed, seconds, gateways, processors, clients, think_ms, troubles, mistake: None }
    }
}

impl Trouble {
    fn draw(dice: &mut Dice, places: &[Place], seconds: u64, restless: bool) -> Self {
        let place = *dice.pick(places).unwrap_or(&Place::Operator);
        // A change of policy matters most to who stands still meanwhile.
        let kind = match dice.between(0, 9) {
            0..=4 if restless => 19,
            5..=7 if restless => 5,
            _ => dice.between(0, 19),
        };
        let what = match kind {
            0..=2 => What::Crash(place),
            3 | 4 => What::Drain(place),
            5 | 6 => What::Freeze(place),
            7 | 8 => What::Partition(place),
            9 => What::Flaky(place),
            10 => What::Deaf(place),
            11 => What::BreakConnections(if dice.chance(0.2) { Place::Operator } else { place }),
            12 => What::RestartRedis,
            13 => What::FreezeRedis,
            14 => What::JumpClock(dice.between(1, 6_000)),
            15 => What::Failover { lost_us: dice.between(0, 1_500_000) },
            16 => What::FailBackend,
            _ => What::ChangePolicy(dice.between(0, POLICIES - 1)),
        };
        // Two in three last about as long as a lease.
        let lasts_us = if dice.chance(0.3) { dice.between(10_000, 300_000) } else { dice.between(300_000, 4_000_000) };
        Self { at_us: dice.between(500_000, seconds.max(1) * 1_000_000), lasts_us, what }
    }
}

impl What {
    /// The name under which it is counted.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Crash(Place::Gateway(_)) => "gateway crashed",
            Self::Crash(_) => "processor crashed",
            Self::Drain(Place::Gateway(_)) => "gateway told to drain",
            Self::Drain(_) => "processor told to drain",
            Self::Freeze(_) => "process frozen",
            Self::Partition(_) => "partition",
            Self::Flaky(_) => "flaky network",
            Self::Deaf(_) => "deaf subscriber",
            Self::BreakConnections(_) => "connections broken",
            Self::RestartRedis => "redis restarted",
            Self::FreezeRedis => "redis frozen",
            Self::JumpClock(_) => "clock jumped",
            Self::Failover { .. } => "failover",
            Self::FailBackend => "backend failing",
            Self::ChangePolicy(_) => "policy change asked for",
        }
    }
}
