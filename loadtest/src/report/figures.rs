//! The figures of a run, computed from its record alone.
//!
//! Responsible for what every number means: which calls it counts, between which two moments, by whose clock. Must
//! never judge a figure; expectations and comparisons do that.
//!
//! **The load's period** is from the first intended call to the last one sent. Rates of calls and of work count in it,
//! so that the time in which a run only waits for rest does not flatter or spoil them.

pub mod traffic;
pub mod work;
pub mod depth;
pub mod redis;
pub mod process;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use depth::Depth;
pub use process::ProcessUse;
pub use redis::{CommandUse, RedisUse};
pub use traffic::{Refusals, Traffic, TypeTraffic};
pub use work::Work;

use crate::record::Record;

/// Everything that is computed from a record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What was asked and answered.
    pub traffic: Traffic,
    /// What was done.
    pub work: Work,
    /// How full it was.
    pub depth: Depth,
    /// What Redis did.
    pub redis: RedisUse,
    /// What processes of the cluster used, by name.
    pub processes: BTreeMap<String, ProcessUse>,
}

impl Figures {
    /// Of this run. A record that holds nothing has figures too: zeros, and `None` where zero would be a claim.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            traffic: Traffic::of(record),
            work: Work::of(record),
            depth: Depth::of(record),
            redis: RedisUse::of(record),
            processes: process::of(record),
        }
    }
}

/// From the first intended call to the last one sent, µs since the start; `None` without calls.
#[must_use]
pub fn load_period_us(record: &Record) -> Option<(u64, u64)> {
    let begin = record.calls.iter().map(|call| call.intended_us).min()?;
    let end = record.calls.iter().map(|call| call.sent_us).max()?;
    Some((begin, end.max(begin)))
}

/// How much a counter grew over these readings. One that fell began anew, as after a restart: all it shows is growth.
#[must_use]
pub fn growth(readings: impl IntoIterator<Item = u64>) -> u64 {
    let mut readings = readings.into_iter();
    let Some(mut before) = readings.next() else { return 0 };
    let mut grown = 0;
    for now in readings {
        grown += if now >= before { now - before } else { now };
        before = now;
    }
    grown
}

/// `amount / of`; 0 where there is nothing to divide by.
#[must_use]
pub fn per(amount: f64, of: f64) -> f64 {
    if of > 0.0 { amount / of } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_falls_has_begun_anew() {
        assert_eq!(growth([10, 15, 15, 3, 4]), 5 + 3 + 1);
        assert_eq!(growth([10]), 0);
        assert_eq!(growth([]), 0);
    }

    #[test]
    fn nothing_has_figures_too() {
        let figures = Figures::of(&Record::default());
        assert_eq!(figures, Figures::default());
    }
}
