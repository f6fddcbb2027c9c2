//! One look at everything, every quarter of a second.
//!
//! Responsible for samples. Must never be held up by what is away: whatever does not answer is missing from the sample,
//! and the sample is taken all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_lua::{QueueView, ScopeStore, StoreError};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::policy_view::PolicyView;
use super::process;
use crate::probe::Probe;
use crate::record::{CommandTotal, RunClock, Sample};

const PERIOD: Duration = Duration::from_millis(250);

/// Names and process ids, as the run changes them.
pub(super) type Processes = Arc<Mutex<BTreeMap<String, u32>>>;

/// Looks at the cluster.
#[derive(Debug)]
pub(super) struct Gauge {
    pub(super) clock: RunClock,
    pub(super) store: ScopeStore,
    pub(super) probe: Probe,
    pub(super) policy: PolicyView,
    pub(super) processes: Processes,
    /// The newest sample, for whoever wants to know now.
    pub(super) latest: watch::Sender<Sample>,
}

impl Gauge {
    /// Looks until told to stop, and then once more; every sample, and the policy seen last.
    pub(super) async fn watch(mut self, stop: CancellationToken) -> (Vec<Sample>, PolicyView) {
        let mut samples = Vec::new();
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let sample = Box::pin(self.sample()).await;
            self.latest.send_replace(sample.clone());
            samples.push(sample);
        }
        samples.push(Box::pin(self.sample()).await);
        (samples, self.policy)
    }

    async fn sample(&mut self) -> Sample {
        let mut sample = Sample { at_us: self.clock.now_us(), processes: self.usage(), ..Sample::default() };
        let probe = self.probe.clone();
        let (queues, commands, memory) =
            tokio::join!(self.queues(), probe.command_costs(), probe.info_number("memory", "used_memory"));
        if let Ok(queues) = queues {
            fill(&mut sample, queues);
        }
        let total = |(name, cost): (String, crate::probe::CommandCost)| {
            (name, CommandTotal { calls: cost.calls, time_us: cost.usec })
        };
        sample.redis = commands.unwrap_or_default().into_iter().map(total).collect();
        sample.redis_memory_bytes = memory.ok();
        sample
    }

    async fn queues(&mut self) -> Result<QueueView, StoreError> {
        let queues = self.store.queues(&self.policy.compiled).await?;
        if queues.policy_revision == self.policy.compiled.revision() {
            return Ok(queues);
        }
        self.policy.follow(&self.store, queues.policy_revision).await?;
        self.store.queues(&self.policy.compiled).await
    }

    fn usage(&self) -> BTreeMap<String, crate::record::ProcessSample> {
        let processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes.iter().filter_map(|(name, pid)| Some((name.clone(), process::usage(*pid)?))).collect()
    }
}

fn fill(sample: &mut Sample, queues: QueueView) {
    (sample.queued, sample.running) = (Some(queues.queued), Some(queues.running));
    (sample.delayed, sample.dead) = (Some(queues.delayed), Some(queues.dead));
    (sample.capacity, sample.hard_limit) = (Some(queues.capacity), Some(queues.hard_limit));
    (sample.slots, sample.live_processors) = (Some(queues.slots), Some(queues.live_processors));
    (sample.thresholds, sample.queued_by_type) = (queues.thresholds, queues.queued_by_type);
}
