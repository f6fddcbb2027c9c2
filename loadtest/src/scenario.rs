//! Scenarios: a cluster, its handlers, a load, faults, and what is expected of it all, as files people read.
//!
//! Responsible for what a scenario file can say. Must never hold a number that a scenario does not show: whoever reads
//! the file knows what was done.
//!
//! | module | |
//! |---|---|
//! | [`parse`] | reads a file, with everything that is wrong with it |
//! | [`shipped`] | the scenarios that come with the harness |
//! | [`balancer`] | which gateways take part, by their health |
//! | [`conduct`] | lets faults begin and end at their times |
//! | [`stage`] | what a run happens on: a cluster of its own, or somebody's deployment |
//! | `uses` | what tasks use beyond their estimates |
//! | [`run`] | one scenario from its start to its record |
//! | [`figure`], [`expectation`] | what is measured, and whether it is as expected |
//! | [`command`] | the subcommands `run` and `scenarios` |

pub mod parse;
pub mod shipped;
pub mod balancer;
pub mod conduct;
pub mod stage;
mod uses;
pub mod run;
pub mod figure;
pub mod expectation;
pub mod command;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use expectation::Expectation;
pub use parse::ScenarioError;

use crate::cluster::{Layout, Member};
use crate::fault::{RandomFaults, TimedFault, Timetable};
use crate::load::Plan;
use crate::observe::Work;

/// One scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// Its name, as on the command line.
    pub name: String,
    /// What it shows, in a line or two.
    pub about: String,
    /// What is started.
    pub cluster: ClusterSpec,
    /// What handlers do, by task kind.
    pub backend: BTreeMap<String, Work>,
    /// What load is sent.
    pub load: Plan,
    /// What is done to the cluster meanwhile.
    pub faults: Faults,
    /// What is expected of it, beyond the invariants.
    pub expect: Vec<Expectation>,
    /// How long everything that was accepted may take to end after the load, seconds.
    pub rest_seconds: f64,
}

/// What is started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// How many gateways.
    pub gateways: usize,
    /// How many processors.
    pub processors: usize,
    /// Concurrent attempts of each processor.
    pub slots: u32,
    /// What Redis.
    #[serde(default)]
    pub redis: Layout,
    /// The policy document, merged over the shipped one.
    #[serde(default)]
    pub policy: Value,
    /// `PORTCULLIS_STORE_TIMEOUT_MS` of the gateways, ms; their own default where it is left out.
    #[serde(default)]
    pub store_timeout_ms: Option<u64>,
    /// How far ahead the wall clock of a process is, seconds; negative: behind.
    #[serde(default)]
    pub clocks_ahead_seconds: BTreeMap<Member, i64>,
}

/// What is done to the cluster: written down, or drawn from the seed.
#[derive(Clone, Debug, PartialEq)]
pub enum Faults {
    /// Written down.
    Timed(Vec<TimedFault>),
    /// Drawn.
    Random(RandomFaults),
}

impl ClusterSpec {
    /// Every process it has.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let gateways = (0..self.gateways).map(Member::Gateway);
        gateways.chain((0..self.processors).map(Member::Processor)).collect()
    }
}

impl Faults {
    /// When what happens, by this seed, to these processes.
    #[must_use]
    pub fn timetable(&self, seed: u64, members: &[Member]) -> Timetable {
        Timetable::new(match self {
            Self::Timed(faults) => faults.clone(),
            Self::Random(random) => random.draw(seed, members),
        })
    }

    /// The same over `time` times the time.
    #[must_use]
    fn scaled(&self, time: f64) -> Self {
        match self {
            Self::Timed(faults) => {
                let scaled = faults.iter().map(|fault| TimedFault {
                    at_seconds: fault.at_seconds * time,
                    lasting_seconds: fault.lasting_seconds.map(|lasting| lasting * time),
                    kind: fault.kind.clone(),
                });
                Self::Timed(scaled.collect())
            }
            // A longer chaos has more faults, not longer ones.
            Self::Random(random) => Self::Random(RandomFaults {
                from_seconds: random.from_seconds * time,
                until_seconds: random.until_seconds * time,
                ..random.clone()
            }),
        }
    }
}

impl Scenario {
    /// The same scenario with `rate` times the load, over `time` times the time.
    #[must_use]
    pub fn scaled(&self, rate: f64, time: f64) -> Self {
        Self { load: self.load.scaled(rate, time), faults: self.faults.scaled(time), ..self.clone() }
    }

    /// Every process that has a clock of its own, and how far ahead it begins, seconds.
    #[must_use]
    pub fn clocks(&self) -> BTreeMap<Member, i64> {
        let mut clocks = self.cluster.clocks_ahead_seconds.clone();
        let (timed, random) = match &self.faults {
            Faults::Timed(faults) => (faults.iter().map(|fault| fault.kind.clone()).collect(), Vec::new()),
            Faults::Random(random) => (Vec::new(), random.kinds()),
        };
        let shifts = |kind: &&crate::fault::FaultKind| kind.name() == "shift_clock";
        for process in timed.iter().filter(shifts).filter_map(crate::fault::FaultKind::process) {
            clocks.entry(process).or_default();
        }
        if random.iter().any(|kind| shifts(&kind)) {
            for member in self.cluster.members() {
                clocks.entry(member).or_default();
            }
        }
        clocks
    }
}
