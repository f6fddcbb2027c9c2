//! How full the cluster was, by the samples.
//!
//! Responsible for the peak against what was allowed at that moment. Must never hold a sample against the thresholds of
//! another: capacity moves with every heartbeat.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::{Record, Sample};

/// The fullest moment. Samples are far apart: between two of them it may have been fuller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Depth {
    /// Queued and running at the fullest sample; `None` without samples.
    pub peak: Option<u64>,
    /// When that was, seconds since the start.
    pub peak_at_seconds: f64,
    /// Capacity then.
    pub capacity: Option<u64>,
    /// The depth then at which everybody is refused.
    pub hard_limit: Option<u64>,
    /// Largest share of the hard limit that any sample shows.
    pub share_of_hard_limit: Option<f64>,
    /// Largest share of its threshold that any sample shows, by user type.
    pub share_of_threshold: BTreeMap<String, f64>,
    /// Dead letters at the last sample.
    pub dead: Option<u64>,
    /// Fewest live, accepting processors of any sample.
    pub fewest_processors: Option<u64>,
}

/// Queued and running, if both were read.
#[must_use]
pub fn depth_of(sample: &Sample) -> Option<u64> {
    Some(sample.queued?.saturating_add(sample.running?))
}

impl Depth {
    /// Of this run.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut depth = Self {
            dead: record.samples.iter().rev().find_map(|sample| sample.dead),
            fewest_processors: record.samples.iter().filter_map(|sample| sample.live_processors).min(),
            ..Self::default()
        };
        for sample in &record.samples {
            let Some(now) = depth_of(sample) else { continue };
            if depth.peak.is_none_or(|peak| now > peak) {
                depth.peak = Some(now);
                depth.peak_at_seconds = sample.at_us as f64 / 1e6;
                (depth.capacity, depth.hard_limit) = (sample.capacity, sample.hard_limit);
            }
            if let Some(share) = share(now, sample.hard_limit) {
                depth.share_of_hard_limit = Some(depth.share_of_hard_limit.map_or(share, |most| most.max(share)));
            }
            for (user_type, threshold) in &sample.thresholds {
                if let Some(share) = share(now, Some(*threshold)) {
                    let most = depth.share_of_threshold.entry(user_type.clone()).or_insert(share);
                    *most = most.max(share);
                }
            }
        }
        depth
    }
}

/// No share where nothing is allowed: the capacity has gone, which says nothing about the depth.
fn share(depth: u64, allowed: Option<u64>) -> Option<f64> {
    allowed.filter(|&allowed| allowed > 0).map(|allowed| depth as f64 / allowed as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stands_beside_what_was_allowed_then() {
        let sample = |at_us, queued, capacity| Sample {
            at_us,
            queued: Some(queued),
            running: Some(2),
            capacity: Some(capacity),
            hard_limit: Some(capacity - 1),
            thresholds: BTreeMap::from([("paid".to_owned(), capacity / 2)]),
            ..Sample::default()
        };
        let record = Record {
            samples: vec![sample(0, 1, 11), sample(1_000_000, 8, 21), sample(2_000_000, 6, 11), Sample::default()],
            ..Record::default()
        };
        let depth = Depth::of(&record);
        assert_eq!((depth.peak, depth.capacity, depth.hard_limit), (Some(10), Some(21), Some(20)));
        assert!((depth.peak_at_seconds - 1.0).abs() < 1e-9);
        // The largest share was at another moment than the peak.
        assert!((depth.share_of_hard_limit.expect("known") - 0.8).abs() < 1e-9);
        assert!((depth.share_of_threshold["paid"] - 1.6).abs() < 1e-9);
    }
}
