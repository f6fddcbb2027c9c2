//! What a run saw: the one account that invariants, expectations and reports are computed from.
//!
//! Responsible for being complete enough to judge a cluster from outside, and for being readable again from a file.
//! Must never hold a conclusion: a record says what happened, others say what that means.
//!
//! All times are µs since the run began, on the harness's own monotonic clock ([`RunClock`]), unless a name says
//! otherwise. Decisions carry the time of Redis; [`Record::redis_start_ms`] relates the two.

pub mod call;
pub mod attempt;
pub mod sample;
pub mod ending;

use std::collections::BTreeMap;
use std::time::Duration;

use portcullis_lua::DecisionEvent;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

pub use attempt::Attempt;
pub use call::{Answered, Call, Caller, Outcome};
pub use ending::{AccountEnd, Ending, TaskEnd};
pub use sample::{CommandTotal, ProcessSample, Sample};

/// One run of a load against a cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The scenario's name.
    pub name: String,
    /// Seed of everything random in it.
    pub seed: u64,
    /// Wall clock at the start, ms since the epoch; for people.
    pub started_ms: u64,
    /// Redis clock at the start, ms since the epoch; 0 where Redis was out of reach.
    pub redis_start_ms: u64,
    /// How long it took, µs.
    pub took_us: u64,
    /// Everybody who called, by number.
    pub callers: Vec<Caller>,
    /// Every request that was sent, in the order of the answers.
    pub calls: Vec<Call>,
    /// Every run of a handler, in the order in which they began. Empty where the handlers are not the harness's own.
    pub attempts: Vec<Attempt>,
    /// Every decision event, oldest first. Empty where Redis is out of reach.
    pub decisions: Vec<DecisionEvent>,
    /// Whether events may be missing from `decisions`: Redis was restarted or failed over without its data, or the
    /// stream was cut before it was read.
    pub decisions_incomplete: bool,
    /// Decision events from before the run that were still there, oldest first: what was admitted lately counts in
    /// windows.
    #[serde(default)]
    pub earlier: Vec<DecisionEvent>,
    /// Whether there were more of them than `earlier` has.
    #[serde(default)]
    pub earlier_incomplete: bool,
    /// The state of the cluster, every few hundred ms.
    pub samples: Vec<Sample>,
    /// What was done to the cluster.
    pub faults: Vec<Fault>,
    /// Policies, in the order in which they were accepted; the first is the one at the start.
    pub policies: Vec<PolicyChange>,
    /// What tasks were to use and used of units that budgets count. Empty where handlers report nothing.
    #[serde(default)]
    pub uses: Vec<UnitUse>,
    /// Whether any call asked for a delayed start.
    #[serde(default)]
    pub delayed_starts: bool,
    /// What was left when everything had come to rest; `None` if it was not waited for.
    pub ending: Option<Ending>,
}

/// What tasks of a kind use of a unit such as `tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitUse {
    /// The task kind.
    pub kind: String,
    /// The unit.
    pub unit: String,
    /// The least that callers estimated; `None` if any of them left it to the policy.
    pub estimate: Option<u64>,
    /// The most that a handler reported.
    pub used: u64,
}

/// Something that was done to the cluster, or that happened to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// What: `kill_gateway`, `pause_redis` and so on, as in scenario files.
    pub name: String,
    /// To whom and how, for people.
    pub detail: String,
    /// When it began.
    pub at_us: u64,
    /// When it was over; `None` for what cannot be undone.
    pub until_us: Option<u64>,
}

/// A policy that came into force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Its revision; 0 for the document the cluster was started with.
    pub revision: u64,
    /// When the update was sent.
    pub sent_us: u64,
    /// When the operator was told that it is accepted.
    pub accepted_us: u64,
    /// The whole effective policy.
    pub effective: Value,
}

/// The clock of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunClock {
    started: Instant,
}

impl RunClock {
    /// Starts the run.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Now, µs since the start.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The instant this many µs after the start.
    #[must_use]
    pub fn instant(&self, at_us: u64) -> Instant {
        self.started + Duration::from_micros(at_us)
    }
}

impl Record {
    /// When a decision was made, µs since the start, by the two clocks at the start. Negative before it.
    #[must_use]
    pub fn decided_us(&self, event: &DecisionEvent) -> i64 {
        (event.at_ms as i64 - self.redis_start_ms as i64) * 1000
    }

    /// How many calls were answered with what, by `code` or `admitted`, `replayed` and `failed`.
    #[must_use]
    pub fn answers(&self) -> BTreeMap<&str, u64> {
        let mut answers = BTreeMap::new();
        for call in &self.calls {
            *answers.entry(call.outcome.name()).or_insert(0) += 1;
        }
        answers
    }
}
