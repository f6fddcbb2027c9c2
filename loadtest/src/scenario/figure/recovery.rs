//! How soon and how far a cluster comes back after the last fault.
//!
//! Responsible for what "as before" is held against: goodput before the first fault. Goodput is what handlers finished;
//! where they are not the harness's own, what was admitted. Must never count the load's first second, in which
//! connections are made.

use crate::record::Record;
use crate::record::attempt::AttemptEnd;
use crate::report::figures::load_period_us;

const SECOND_US: u64 = 1_000_000;
/// How finely the moment of recovery is looked for.
const STEP_US: u64 = 100_000;
/// For so long goodput must be as before.
const WINDOW_US: u64 = 2 * SECOND_US;
/// What counts as before: arrivals are random.
const AS_BEFORE: f64 = 0.9;
/// From when after the last fault the rest of the load counts.
const SETTLED_US: u64 = 3 * SECOND_US;

/// Seconds from the end of the last fault until goodput was as before.
pub(super) fn seconds(record: &Record) -> Option<f64> {
    let around = Around::of(record)?;
    let wanted = around.per_us_before()? * AS_BEFORE;
    let mut at_us = around.last_end_us;
    while at_us + WINDOW_US <= around.load_end_us {
        if around.per_us(at_us, at_us + WINDOW_US)? >= wanted {
            return Some((at_us - around.last_end_us) as f64 / 1e6);
        }
        at_us += STEP_US;
    }
    None
}

/// Goodput when everything has settled, as a share of that before.
pub(super) fn after_of_before(record: &Record) -> Option<f64> {
    let around = Around::of(record)?;
    let after = around.per_us(around.last_end_us + SETTLED_US, around.load_end_us)?;
    around.per_us_before().map(|before| after / before)
}

/// The times of a run with faults, and when work was done.
#[expect(clippy::struct_field_names, reason = "the unit of a time stands in its name")]
struct Around {
    load_begin_us: u64,
    load_end_us: u64,
    first_begin_us: u64,
    last_end_us: u64,
    /// When each piece of work was done, in order.
    done_us: Vec<u64>,
}

impl Around {
    fn of(record: &Record) -> Option<Self> {
        let (load_begin_us, load_end_us) = load_period_us(record)?;
        let ends = record.faults.iter().map(|fault| fault.until_us.unwrap_or(fault.at_us));
        let finished = record.attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Succeeded);
        let mut done_us: Vec<u64> = if record.attempts.is_empty() {
            record.calls.iter().filter(|call| call.is_accepted()).map(|call| call.ended_us).collect()
        } else {
            finished.filter_map(|attempt| attempt.ended_us).collect()
        };
        done_us.sort_unstable();
        Some(Self {
            load_begin_us,
            load_end_us,
            first_begin_us: record.faults.iter().map(|fault| fault.at_us).min()?,
            last_end_us: ends.max()?,
            done_us,
        })
    }

    fn per_us_before(&self) -> Option<f64> {
        self.per_us(self.load_begin_us + SECOND_US, self.first_begin_us).filter(|before| *before > 0.0)
    }

    /// Work done per µs; `None` for no time at all.
    fn per_us(&self, from_us: u64, to_us: u64) -> Option<f64> {
        let until = |at_us: u64| self.done_us.partition_point(|done_us| *done_us < at_us);
        (to_us > from_us).then(|| (until(to_us) - until(from_us)) as f64 / (to_us - from_us) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Fault;
    use crate::report::sample::{admitted, attempt, record_of};

    /// A call and an attempt every 10 ms for 20 s, attempts none from second 5 until `back_us`; Redis is away from
    /// second 5 to second 8.
    fn outage(back_us: u64) -> Record {
        let times = (0..2000u64).map(|number| (number, number * 10_000));
        let mut record = record_of(times.clone().map(|(number, at_us)| admitted(number, at_us)).collect());
        let worked = times.filter(|(_, at_us)| *at_us < 5_000_000 || *at_us >= back_us);
        record.attempts = worked.map(|(number, at_us)| attempt(number, at_us, 1)).collect();
        record.faults = vec![Fault {
            name: "kill_redis".to_owned(),
            detail: String::new(),
            at_us: 5_000_000,
            until_us: Some(8_000_000),
        }];
        record
    }

    #[test]
    fn recovery_is_when_work_is_done_as_before() {
        let found = seconds(&outage(9_000_000)).expect("recovered");
        assert!((0.7..=1.0).contains(&found), "{found}");
        assert!(seconds(&outage(8_000_000)).expect("at once") < 0.05);
        assert_eq!(seconds(&outage(30_000_000)), None);
    }

    #[test]
    fn what_is_left_after_is_held_against_before() {
        assert!((after_of_before(&outage(9_000_000)).expect("known") - 1.0).abs() < 0.01);
        assert!(after_of_before(&outage(30_000_000)).expect("known") < 0.01);
        assert_eq!(after_of_before(&Record { faults: Vec::new(), ..outage(9_000_000) }), None);
    }
}
