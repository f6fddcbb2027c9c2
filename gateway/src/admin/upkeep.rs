//! The upkeep of the metrics recorder: histograms keep every sample until somebody folds them into buckets.
//!
//! Responsible for doing so whether anyone scrapes or not. Must never outlive the admin interface it belongs to.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

/// At ten thousand requests a second this many samples, a few hundred kilobytes, wait at most.
const INTERVAL: Duration = Duration::from_secs(5);

/// The task that does it; ends when dropped.
#[derive(Debug)]
pub(crate) struct Upkeep(JoinHandle<()>);

impl Upkeep {
    /// Starts it on the current runtime.
    pub(crate) fn start(metrics: PrometheusHandle) -> Self {
        Self(tokio::spawn(async move {
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                metrics.run_upkeep();
            }
        }))
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}
