//! A scope as its rules describe it: what every script must answer, computed from plain lists and maps.
//!
//! Responsible for being obviously right: the integration tests hold the scripts to it, and [`crate::simulate`] runs
//! whole clusters over it. Must never share a representation with the scripts: nothing is packed, nothing is cached,
//! nothing is dropped before its time, unless whoever goes on for long asks for it ([`Model::forget`]).
//!
//! A user type that the policy does not know has no windows and no share of the capacity: it is refused.

mod window;
mod limit;
mod budget;
mod breaker;
mod admission;
mod life;
mod pass;
mod outcome;
mod shelf;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_lua::{BreakerView, Decision, Heartbeat, Once, OutputId, QueueView, TaskId};

use breaker::Breaker;
pub use budget::{Account, period_end_ms};
pub use life::{State, Task};
pub use pass::Pass;
pub use shelf::{Draft, Shelf};
pub use window::{Window, most_in_any_window};

/// A window's tick in ms, by user type and window name: how coarsely an admission is rounded up. One that is missing
/// here is not rounded at all.
pub type Ticks = BTreeMap<(String, String), u64>;

/// A scope.
#[derive(Clone, Debug)]
pub struct Model {
    policy: Arc<Policy>,
    ticks: Ticks,
    /// Worker → its last heartbeat and when that lapses, ms.
    beats: BTreeMap<String, (Heartbeat, u64)>,
    sessions: BTreeMap<String, Vec<Window>>,
    /// Windows of named limits, by name and subject.
    named: BTreeMap<(String, String), Window>,
    /// By name and subject.
    budgets: BTreeMap<(String, String), Account>,
    breakers: BTreeMap<String, Breaker>,
    /// Idempotency key → the task it became and the body it came with.
    known: BTreeMap<String, (TaskId, String)>,
    /// What counts once, and was decided with. It lapses by the clock of Redis, which nothing here knows.
    used: HashSet<Once>,
    /// Every task there ever was, and is not forgotten.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Every pass that has not ended.
    pub passes: BTreeMap<TaskId, Pass>,
    /// Mean duration of a pass by class with a pool of its own, and without a name of those that count as load, ms.
    pass_ms: BTreeMap<String, f64>,
    /// Dead letters by time of death, bounded.
    pub dead: Vec<(u64, TaskId)>,
    /// Start tag of the task last handed out, and each user type's last finish tag.
    virtual_time: u64,
    finish: BTreeMap<String, u64>,
    measured_ms: Option<f64>,
    /// Every decision that was made, oldest first.
    pub decisions: Vec<Decision>,
}

impl Model {
    /// A scope nobody has used yet.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, ticks: Ticks) -> Self {
        Self {
            policy: Arc::clone(policy),
            ticks,
            beats: BTreeMap::new(),
            sessions: BTreeMap::new(),
            named: BTreeMap::new(),
            budgets: BTreeMap::new(),
            breakers: BTreeMap::new(),
            known: BTreeMap::new(),
            used: HashSet::new(),
            tasks: BTreeMap::new(),
            passes: BTreeMap::new(),
            pass_ms: BTreeMap::new(),
            dead: Vec::new(),
            virtual_time: 0,
            finish: BTreeMap::new(),
            measured_ms: None,
            decisions: Vec::new(),
        }
    }

    /// From here on everybody calls under this policy. A limit goes on with the admissions it has counted.
    pub fn follow(&mut self, policy: &Arc<Policy>) {
        self.policy = Arc::clone(policy);
    }

    /// Drops what no call at `now_ms` or later can tell from something that never was, the records of tasks that have
    /// ended, and the decisions.
    pub fn forget(&mut self, now_ms: u64) {
        let of_sessions = self.sessions.values_mut().flatten();
        for window in of_sessions.chain(self.named.values_mut()) {
            window.forget(now_ms);
        }
        self.tasks.retain(|_, task| !matches!(task.state, State::Ended { .. }));
        self.decisions.clear();
    }

    /// A processor lives; `heartbeat.lua`.
    pub fn heartbeat(&mut self, now_ms: u64, beat: &Heartbeat) {
        let lapses_ms = now_ms + self.policy.monitoring.heartbeat_timeout_seconds * 1000;
        self.beats.insert(beat.worker.clone(), (beat.clone(), lapses_ms));
    }

    /// A processor has left; `leave.lua`.
    pub fn leave(&mut self, worker: &str) {
        self.beats.remove(worker);
    }

    /// When the next heartbeat lapses, ms.
    #[must_use]
    pub fn next_beat_lapse_ms(&self, now_ms: u64) -> Option<u64> {
        self.beats.values().map(|(_, lapses_ms)| *lapses_ms).filter(|lapses_ms| *lapses_ms > now_ms).min()
    }

    /// When the next deadline of a living task passes, ms.
    #[must_use]
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let alive = self.tasks.values().filter(|task| !matches!(task.state, State::Ended { .. }));
        alive.filter_map(|task| task.deadline_ms).filter(|deadline_ms| *deadline_ms > now_ms).min()
    }

    /// When the next open breaker lets probes through, ms.
    #[must_use]
    pub fn next_probe_ms(&self, now_ms: u64) -> Option<u64> {
        self.breakers.values().filter_map(Breaker::open_until_ms).filter(|until_ms| *until_ms > now_ms).min()
    }

    /// When the next lease lapses, ms.
    #[must_use]
    pub fn next_lease_lapse_ms(&self, now_ms: u64) -> Option<u64> {
        let lapses = self.tasks.values().filter_map(|task| match task.state {
            State::Leased { until_ms, .. } => Some(until_ms),
            _ => None,
        });
        lapses.filter(|until_ms| *until_ms > now_ms).min()
    }

    /// Slots and number of the processors that are alive and accept work.
    fn live(&self, now_ms: u64) -> (u64, u64) {
        let live = self.beats.values().filter(|(beat, lapses_ms)| now_ms < *lapses_ms && !beat.draining);
        live.fold((0, 0), |(slots, number), (beat, _)| (slots + u64::from(beat.slots), number + 1))
    }

    fn capacity(&self, now_ms: u64) -> u64 {
        let rules = &self.policy.backpressure;
        let slots = self.live(now_ms).0 as f64;
        ((slots * (1.0 - rules.capacity_buffer)).floor() + (slots * rules.queue_depth_multiplier).floor()) as u64
    }

    fn share(&self, now_ms: u64, threshold: f64) -> u64 {
        (self.capacity(now_ms) as f64 * threshold).floor() as u64
    }

    /// Load of the scope: tasks queued or running, and passes.
    #[must_use]
    pub fn depth(&self, now_ms: u64) -> u64 {
        self.count(|state| matches!(state, State::Queued { .. } | State::Leased { .. })) + self.in_flight(now_ms, None)
    }

    fn service_ms(&self) -> f64 {
        self.measured_ms.unwrap_or(self.policy.service_capacity.avg_processing_time_seconds * 1000.0)
    }

    fn count(&self, of: impl Fn(&State) -> bool) -> u64 {
        self.tasks.values().filter(|task| of(&task.state)).count() as u64
    }

    /// Waiting tasks with their tags, first to run first.
    #[must_use]
    pub fn queue(&self) -> Vec<(u64, TaskId)> {
        let mut queue: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|(id, task)| match task.state {
                State::Queued { tag } => Some((tag, id.clone())),
                _ => None,
            })
            .collect();
        queue.sort_unstable();
        queue
    }

    /// Delayed tasks, next due first.
    #[must_use]
    pub fn delayed(&self) -> Vec<(u64, TaskId)> {
        let mut delayed: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|(id, task)| match task.state {
                State::Delayed { due_ms } => Some((due_ms, id.clone())),
                _ => None,
            })
            .collect();
        delayed.sort_unstable();
        delayed
    }

    /// Leased tasks, next to lapse first.
    #[must_use]
    pub fn leased(&self) -> Vec<(u64, TaskId)> {
        let mut leased: Vec<_> = self
            .tasks
            .iter()
            .filter_map(|(id, task)| match task.state {
                State::Leased { until_ms, .. } => Some((until_ms, id.clone())),
                _ => None,
            })
            .collect();
        leased.sort_unstable();
        leased
    }

    /// The scope at one moment; `survey.lua`.
    #[must_use]
    pub fn queues(&self, now_ms: u64) -> QueueView {
        let (slots, live_processors) = self.live(now_ms);
        let (capacity, depth) = (self.capacity(now_ms), self.depth(now_ms));
        let types = self.policy.known_types();
        let queued = self.queue();
        let of_type = |name: &str| queued.iter().filter(|(_, id)| self.tasks[id].is_of(name)).count() as u64;
        let threshold = |name| self.share(now_ms, self.policy.threshold_of(name).unwrap_or_default());
        QueueView {
            queued: queued.len() as u64,
            running: self.leased().len() as u64,
            delayed: self.delayed().len() as u64,
            dead: self.dead.len() as u64,
            queued_by_type: types.iter().map(|name| (name.to_string(), of_type(name.as_str()))).collect(),
            passes: self.in_flight(now_ms, None),
            pools: self.pools(now_ms),
            slots,
            live_processors,
            capacity,
            thresholds: types.iter().map(|name| (name.to_string(), threshold(name))).collect(),
            hard_limit: self.share(now_ms, self.policy.backpressure.hard_limit_threshold),
            pressure: if capacity == 0 { 0.0 } else { depth as f64 / capacity as f64 },
            service_ms: self.measured_ms,
            oldest_wait_ms: queued.first().map(|(_, id)| now_ms - self.tasks[id].created_ms),
            policy_revision: 0,
        }
    }

    /// The breakers that have counted anything.
    #[must_use]
    pub fn breakers(&self, now_ms: u64) -> Vec<BreakerView> {
        let known = self.breakers.iter().filter(|(_, breaker)| breaker.known);
        known.map(|(kind, breaker)| breaker.view(&self.policy.breaker_of(kind), now_ms, kind)).collect()
    }

    /// Positions of all output of a task.
    #[must_use]
    pub fn output(&self, id: &TaskId) -> Vec<OutputId> {
        self.tasks.get(id).map(|task| task.output.clone()).unwrap_or_default()
    }

    /// The accounts, by budget and subject, as they stand at this time.
    pub fn accounts_at(&self, now_ms: u64) -> impl Iterator<Item = (&(String, String), Account)> {
        self.budgets.iter().map(move |(of, account)| (of, account.at(now_ms)))
    }
}
