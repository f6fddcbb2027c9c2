//! The figures that two runs are compared by, as one flat list.
//!
//! Responsible for which of them say that a run got better or worse, and in which direction. Must never judge by a
//! figure that moves by itself: the largest of many times, or how often a limit refused, is shown and not judged.

use crate::report::figures::{Figures, per};
use crate::report::quantiles::Quantiles;

/// One figure of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// Its name, unique in a list.
    pub name: String,
    /// Unit; empty for counts and ratios.
    pub unit: &'static str,
    /// Its value; `None` where the run has none.
    pub value: Option<f64>,
    /// Which way is better.
    pub better: Better,
}

/// Which way a figure is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither: it says what happened.
    Neither,
}

impl Figures {
    /// All figures that can be compared, in the order in which they are shown.
    #[must_use]
    pub fn measures(&self) -> Vec<Measure> {
        let mut list = List::default();
        self.traffic_measures(&mut list);
        self.work_measures(&mut list);
        self.cost_measures(&mut list);
        list.0
    }

    fn traffic_measures(&self, list: &mut List) {
        let traffic = &self.traffic;
        list.add("calls_per_second", "/s", traffic.calls_per_second, Better::Neither);
        list.add("admitted_per_second", "/s", traffic.admitted_per_second, Better::Higher);
        let share = |count: u64| per(count as f64, traffic.calls as f64);
        list.add("failed_share", "", share(traffic.failed), Better::Lower);
        list.add("unexpected_share", "", share(traffic.unexpected), Better::Lower);
        for (code, refusals) in &traffic.refused_by {
            list.add(&format!("refused_share.{code}"), "", share(refusals.count), Better::Neither);
        }
        list.quantiles("admitted", &traffic.admitted_latency);
        list.quantiles("refused", &traffic.refused_latency);
        list.option("behind.p99", "ms", at_p99(&traffic.behind), Better::Neither);
    }

    fn work_measures(&self, list: &mut List) {
        let work = &self.work;
        let measured = work.attempts > 0;
        list.option("goodput_per_second", "/s", measured.then_some(work.goodput_per_second), Better::Higher);
        list.option("goodput_of_capacity", "", work.goodput_of_capacity, Better::Higher);
        list.quantiles("sent_to_start", &work.sent_to_start);
        list.quantiles("in_system", &work.in_system);
        list.option("peak_depth", "", self.depth.peak.map(|peak| peak as f64), Better::Neither);
        list.option("peak_share_of_hard_limit", "", self.depth.share_of_hard_limit, Better::Neither);
        list.option("dead_letters", "", self.depth.dead.map(|dead| dead as f64), Better::Lower);
    }

    fn cost_measures(&self, list: &mut List) {
        let redis = &self.redis;
        let measured = |value: f64| (redis.commands > 0).then_some(value);
        list.option("redis_commands_per_second", "/s", measured(redis.commands_per_second), Better::Neither);
        list.option("redis_commands_per_call", "", measured(redis.commands_per_call), Better::Lower);
        list.option("redis_us_per_call", "µs", measured(redis.us_per_call), Better::Lower);
        list.option("redis_us_per_decision", "µs", redis.us_per_decision, Better::Lower);
        list.option("redis_busy", "", measured(redis.busy), Better::Neither);
        for (name, process) in &self.processes {
            list.add(&format!("cpu_us_per_call.{name}"), "µs", process.us_per_call, Better::Lower);
            let mebibytes = process.peak_resident_bytes as f64 / f64::from(1 << 20);
            list.add(&format!("peak_memory.{name}"), "MiB", mebibytes, Better::Neither);
        }
    }
}

#[derive(Default)]
struct List(Vec<Measure>);

impl List {
    fn option(&mut self, name: &str, unit: &'static str, value: Option<f64>, better: Better) {
        self.0.push(Measure { name: name.to_owned(), unit, value, better });
    }

    fn add(&mut self, name: &str, unit: &'static str, value: f64, better: Better) {
        self.option(name, unit, Some(value), better);
    }

    fn quantiles(&mut self, name: &str, quantiles: &Quantiles) {
        let value = |of: f64| (quantiles.count > 0).then_some(of);
        self.option(&format!("{name}.p50"), "ms", value(quantiles.p50_ms), Better::Lower);
        self.option(&format!("{name}.p99"), "ms", value(quantiles.p99_ms), Better::Lower);
        self.option(&format!("{name}.p99.9"), "ms", value(quantiles.p999_ms), Better::Neither);
        self.option(&format!("{name}.longest"), "ms", value(quantiles.max_ms), Better::Neither);
    }
}

fn at_p99(quantiles: &Quantiles) -> Option<f64> {
    (quantiles.count > 0).then_some(quantiles.p99_ms)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::report::sample::{admitted, record_of, refused};

    #[test]
    fn every_measure_has_a_name_of_its_own() {
        let figures = Figures::of(&record_of(vec![admitted(0, 0), refused(1, 10, "burst_limit")]));
        let measures = figures.measures();
        let names: BTreeSet<&str> = measures.iter().map(|measure| measure.name.as_str()).collect();
        assert_eq!(names.len(), measures.len());
        assert!(names.contains("refused_share.burst_limit"));
    }

    #[test]
    fn what_was_not_measured_has_no_value() {
        let value = |name: &str| {
            let measures = Figures::default().measures();
            measures.into_iter().find(|measure| measure.name == name).expect("a measure").value
        };
        assert_eq!(
            (value("goodput_per_second"), value("admitted.p99"), value("redis_us_per_call")),
            (None, None, None)
        );
    }
}
