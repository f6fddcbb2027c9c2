//! What was done, by the handlers' log.
//!
//! Responsible for waits, durations and goodput against what the backend could have done. Must never mix clocks without
//! saying so.
//!
//! The wait for a handler is told twice. **From the sending** it is exact to the µs, because the client and the handler
//! are on the harness's clock; it includes the way to the gateway and the decision. **From the decision** it excludes
//! both, but crosses from the clock of Redis, in whole ms, to the harness's, related once at the start
//! ([`Record::redis_start_ms`]): good to about two ms, and only as long as neither clock is set.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::record::attempt::AttemptEnd;
use crate::record::{Attempt, Record};
use crate::report::figures::{load_period_us, per};
use crate::report::quantiles::Quantiles;

/// Attempts, waits and goodput. Zeros where the handlers are not the harness's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Calls of handlers.
    pub attempts: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that answered with an error.
    pub failed: u64,
    /// Those whose connection the processor closed.
    pub abandoned: u64,
    /// Tasks that any attempt was made of.
    pub tasks: u64,
    /// From the sending of the call that was admitted to the start of the task's first handler.
    pub sent_to_start: Quantiles,
    /// From the decision, by Redis's clock, to the start of the task's first handler, by the harness's.
    pub decided_to_start: Quantiles,
    /// How long handlers took that answered.
    pub service: Quantiles,
    /// From acceptance to the end of a task, both by Redis's clock.
    pub in_system: Quantiles,
    /// Slots of live, accepting processors: mean of the samples in the load's period. `None` without samples.
    pub slots: Option<f64>,
    /// What the backend could have done: `slots` divided by the mean time of handlers that answered.
    pub capacity_per_second: Option<f64>,
    /// Successes per second of the load's period.
    pub goodput_per_second: f64,
    /// The one against the other.
    pub goodput_of_capacity: Option<f64>,
}

impl Work {
    /// Of this run.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let ends = |end: AttemptEnd| record.attempts.iter().filter(|attempt| attempt.end == end).count() as u64;
        let starts = first_starts(record);
        let durations: Vec<u64> = record.attempts.iter().filter_map(answered_in_us).collect();
        let mut work = Self {
            attempts: record.attempts.len() as u64,
            succeeded: ends(AttemptEnd::Succeeded),
            failed: ends(AttemptEnd::Failed),
            abandoned: ends(AttemptEnd::Abandoned),
            tasks: starts.len() as u64,
            sent_to_start: Quantiles::of(sent_to_start_us(record, &starts)),
            decided_to_start: Quantiles::of(decided_to_start_us(record, &starts)),
            service: Quantiles::of(durations.iter().copied()),
            in_system: Quantiles::of(in_system_us(record)),
            ..Self::default()
        };
        work.weigh_goodput(record, &durations);
        work
    }

    fn weigh_goodput(&mut self, record: &Record, durations_us: &[u64]) {
        let Some((begin, end)) = load_period_us(record) else { return };
        let within = |at_us: u64| (begin..=end).contains(&at_us);
        let in_time = record.attempts.iter().filter(|attempt| attempt.end == AttemptEnd::Succeeded);
        let in_time = in_time.filter(|attempt| attempt.ended_us.is_some_and(within)).count();
        self.goodput_per_second = per(in_time as f64, (end - begin) as f64 / 1e6);
        let slots: Vec<u64> =
            record.samples.iter().filter(|sample| within(sample.at_us)).filter_map(|sample| sample.slots).collect();
        if slots.is_empty() {
            return;
        }
        let slots = slots.iter().sum::<u64>() as f64 / slots.len() as f64;
        self.slots = Some(slots);
        let busy_us: u64 = durations_us.iter().sum();
        if busy_us > 0 {
            let capacity = slots * durations_us.len() as f64 * 1e6 / busy_us as f64;
            self.capacity_per_second = Some(capacity);
            self.goodput_of_capacity = Some(per(self.goodput_per_second, capacity));
        }
    }
}

/// How long a handler took that answered, µs.
fn answered_in_us(attempt: &Attempt) -> Option<u64> {
    let answered = matches!(attempt.end, AttemptEnd::Succeeded | AttemptEnd::Failed);
    attempt.ended_us.filter(|_| answered).map(|ended| ended.saturating_sub(attempt.started_us))
}

/// When the first handler of each task started, µs.
fn first_starts(record: &Record) -> HashMap<&str, u64> {
    let mut starts: HashMap<&str, u64> = HashMap::new();
    for attempt in &record.attempts {
        let first = starts.entry(&attempt.task_id).or_insert(attempt.started_us);
        *first = attempt.started_us.min(*first);
    }
    starts
}

/// A task that several calls were told of counts from the first of them.
fn sent_to_start_us(record: &Record, starts: &HashMap<&str, u64>) -> Vec<u64> {
    let mut sent: HashMap<&str, u64> = HashMap::new();
    for call in record.calls.iter().filter(|call| call.is_accepted()) {
        if let Some(task) = call.task_id() {
            let first = sent.entry(task).or_insert(call.sent_us);
            *first = call.sent_us.min(*first);
        }
    }
    sent.iter().filter_map(|(task, sent)| Some(starts.get(task)?.saturating_sub(*sent))).collect()
}

/// What the two clocks disagree about reads as no wait.
fn decided_to_start_us(record: &Record, starts: &HashMap<&str, u64>) -> Vec<u64> {
    if record.redis_start_ms == 0 {
        return Vec::new();
    }
    let admitted = record.decisions.iter().filter(|event| event.outcome == "admitted");
    let waits = admitted.filter_map(|event| {
        let started = starts.get(event.task_id.as_deref()?)?;
        Some((*started as i64).saturating_sub(record.decided_us(event)).max(0) as u64)
    });
    waits.collect()
}

fn in_system_us(record: &Record) -> Vec<u64> {
    let tasks = record.ending.iter().flat_map(|ending| ending.tasks.values());
    tasks.filter_map(|task| Some(task.finished_ms?.saturating_sub(task.created_ms?).saturating_mul(1000))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Sample;
    use crate::report::sample::{admitted, attempt, decision, record_of};

    #[test]
    fn goodput_is_held_against_slots_and_service() {
        let mut record = record_of((0..=10).map(|number| admitted(number, number * 100_000)).collect());
        record.attempts = (0..10).map(|number| attempt(number, number * 100_000, 50_000)).collect();
        record.samples = vec![Sample { at_us: 500_000, slots: Some(2), ..Sample::default() }];
        let work = Work::of(&record);
        // Two slots of 50 ms are 40 a second; ten were done in the one second from the first call to the last.
        assert!((work.capacity_per_second.expect("known") - 40.0).abs() < 0.01, "{work:?}");
        assert!((work.goodput_of_capacity.expect("known") - 0.25).abs() < 0.01, "{work:?}");
    }

    #[test]
    fn waits_count_to_the_first_start() {
        let mut record = record_of(vec![admitted(7, 1_000_000)]);
        record.redis_start_ms = 50_000;
        record.decisions = vec![decision(7, 51_001)];
        record.attempts = vec![attempt(7, 1_003_000, 10), attempt(7, 3_000_000, 10)];
        let work = Work::of(&record);
        assert_eq!((work.attempts, work.tasks), (2, 1));
        assert!((work.sent_to_start.max_ms - 3.0).abs() < 0.01, "{work:?}");
        assert!((work.decided_to_start.max_ms - 2.0).abs() < 0.01, "{work:?}");
    }

    #[test]
    fn claims_no_capacity_where_nothing_was_measured() {
        let work = Work::of(&record_of(vec![admitted(0, 0)]));
        assert_eq!((work.slots, work.capacity_per_second, work.goodput_of_capacity), (None, None, None));
    }
}
