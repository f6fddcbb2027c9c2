//! What the cluster's processes used of the machine.
//!
//! Responsible for differences of totals that survive a restart. Must never add up processes: which one is busy is the
//! question.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::record::{ProcessSample, Record};
use crate::report::figures::{growth, per};

/// What one process used, between the samples in which it was seen first and last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessUse {
    /// Time on a processor, seconds.
    pub cpu_seconds: f64,
    /// The same per second: 1 is one core, all the time.
    pub cores: f64,
    /// The same per call of a client of the cluster, µs.
    pub us_per_call: f64,
    /// Most resident memory of any sample, bytes.
    pub peak_resident_bytes: u64,
}

/// Every process that any sample shows, by name. One that was started again under its name is one process.
#[must_use]
pub fn of(record: &Record) -> BTreeMap<String, ProcessUse> {
    let names: BTreeSet<&String> = record.samples.iter().flat_map(|sample| sample.processes.keys()).collect();
    names.into_iter().map(|name| (name.clone(), process_use(record, name))).collect()
}

fn process_use(record: &Record, name: &str) -> ProcessUse {
    let seen: Vec<(u64, ProcessSample)> =
        record.samples.iter().filter_map(|sample| Some((sample.at_us, *sample.processes.get(name)?))).collect();
    let cpu_ms = growth(seen.iter().map(|(_, process)| process.cpu_ms)) as f64;
    let seconds = match (seen.first(), seen.last()) {
        (Some(first), Some(last)) => last.0.saturating_sub(first.0) as f64 / 1e6,
        _ => 0.0,
    };
    ProcessUse {
        cpu_seconds: cpu_ms / 1e3,
        cores: per(cpu_ms / 1e3, seconds),
        us_per_call: per(cpu_ms * 1e3, record.calls.len() as f64),
        peak_resident_bytes: seen.iter().map(|(_, process)| process.resident_bytes).max().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;

    #[test]
    fn a_process_that_was_started_again_is_one() {
        let sample = |at_us, cpu_ms| Sample {
            at_us,
            processes: BTreeMap::from([("gateway-0".to_owned(), ProcessSample { cpu_ms, resident_bytes: cpu_ms })]),
            ..Sample::default()
        };
        let samples = vec![sample(0, 1000), sample(1_000_000, 1500), Sample::default(), sample(2_000_000, 100)];
        let processes = of(&Record { samples, ..Record::default() });
        let gateway = &processes["gateway-0"];
        assert!((gateway.cpu_seconds - 0.6).abs() < 1e-9 && (gateway.cores - 0.3).abs() < 1e-9, "{gateway:?}");
        assert_eq!(gateway.peak_resident_bytes, 1500);
    }
}
