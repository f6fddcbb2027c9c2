//! The figures a scenario may expect something of, each by its name.
//!
//! Responsible for what each name means. Must never judge: whether a figure is good enough is the scenario's business.
//! What is not known, because the record does not show it, is no figure.

mod recovery;
mod share;

use std::collections::HashSet;

use crate::record::Record;
use crate::report::Figures;
use crate::report::figures::redis::sent_by_clients;
use crate::report::figures::{growth, load_period_us};

/// What figures are taken from.
#[derive(Debug)]
pub struct Seen<'a> {
    /// The record.
    pub record: &'a Record,
    /// What reports show of it.
    pub figures: &'a Figures,
}

/// A figure that can be asked for.
#[derive(Debug)]
pub struct Figure {
    /// Its name in scenario files.
    pub name: &'static str,
    /// What may follow the name after a dot, if anything.
    pub of: Of,
    /// What it means, with its unit.
    pub meaning: &'static str,
    compute: fn(&Seen<'_>, Option<&str>) -> Option<f64>,
}

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The whole run.
    Run,
    /// The whole run, or what a user type or a stream of the load met.
    Callers,
    /// The whole run, or one `code` of a refusal.
    Code,
    /// One stream of the load.
    Stream,
}

/// Every figure there is.
pub const FIGURES: [Figure; 18] = [
    Figure {
        name: "goodput_of_capacity",
        of: Of::Run,
        meaning: "tasks that succeeded per second while the load lasted, as a share of slots / mean handler time",
        compute: |seen, _| seen.figures.work.goodput_of_capacity,
    },
    Figure {
        name: "admitted_share",
        of: Of::Callers,
        meaning: "share of requests that were admitted at last; repetitions are no requests of their own",
        compute: |seen, of| share::admitted(seen.record, of),
    },
    Figure {
        name: "refused_share",
        of: Of::Code,
        meaning: "share of calls that were refused",
        compute: |seen, of| share::refused(seen.record, of),
    },
    Figure {
        name: "failed_share",
        of: Of::Callers,
        meaning: "share of calls without an answer",
        compute: |seen, of| share::failed(seen.record, of),
    },
    Figure {
        name: "failed_calls",
        of: Of::Run,
        meaning: "calls without an answer",
        compute: |seen, _| Some(seen.figures.traffic.failed as f64),
    },
    Figure {
        name: "unexpected_answers",
        of: Of::Run,
        meaning: "answers that are neither a task nor a documented refusal",
        compute: |seen, _| Some(seen.figures.traffic.unexpected as f64),
    },
    Figure {
        name: "calls_per_request",
        of: Of::Callers,
        meaning: "calls per request: what clients that come back add to the load",
        compute: |seen, of| share::calls_per_request(seen.record, of),
    },
    Figure {
        name: "succeeded_share",
        of: Of::Run,
        meaning: "share of accepted tasks that succeeded",
        compute: |seen, _| share::succeeded(seen.record),
    },
    Figure {
        name: "accepted_not_ended",
        of: Of::Run,
        meaning: "accepted tasks that have not reached a terminal state, or that nobody knows any more",
        compute: |seen, _| share::not_ended(seen.record),
    },
    Figure {
        name: "attempts_per_task",
        of: Of::Run,
        meaning: "runs of handlers per task that had any",
        compute: |seen, _| {
            let work = &seen.figures.work;
            (work.tasks > 0).then(|| work.attempts as f64 / work.tasks as f64)
        },
    },
    Figure {
        name: "drained_within_seconds",
        of: Of::Run,
        meaning: "seconds from the last call until nothing was queued, running or delayed",
        compute: |seen, _| seen.record.ending.as_ref()?.rested_us.map(|rested_us| rested_us as f64 / 1e6),
    },
    Figure {
        name: "recovered_within_seconds",
        of: Of::Run,
        meaning: "seconds from the end of the last fault until goodput is 0.9 of that before the first, for 2 s",
        compute: |seen, _| recovery::seconds(seen.record),
    },
    Figure {
        name: "goodput_after_of_before",
        of: Of::Run,
        meaning: "goodput from 3 s after the last fault to the end of the load, as a share of that before the first",
        compute: |seen, _| recovery::after_of_before(seen.record),
    },
    Figure {
        name: "redis_commands_ratio",
        of: Of::Stream,
        meaning: "commands per second sent to Redis while the stream lasted, against those of the load before it",
        compute: |seen, of| redis_commands_ratio(seen.record, of?),
    },
    Figure {
        name: "redis_busy",
        of: Of::Run,
        meaning: "share of its time that Redis spent in commands",
        compute: |seen, _| Some(seen.figures.redis.busy).filter(|_| seen.figures.redis.seconds > 0.0),
    },
    Figure {
        name: "admitted_p99_ms",
        of: Of::Run,
        meaning: "ms from the intended moment of an admitted call to its answer, of 100 the 99th",
        compute: |seen, _| {
            Some(seen.figures.traffic.admitted_latency.p99_ms).filter(|_| seen.figures.traffic.admitted > 0)
        },
    },
    Figure {
        name: "start_p99_ms",
        of: Of::Run,
        meaning: "ms from the sending of a call that was admitted to the start of its handler, of 100 the 99th",
        compute: |seen, _| Some(seen.figures.work.sent_to_start.p99_ms).filter(|_| seen.figures.work.tasks > 0),
    },
    Figure {
        name: "policies",
        of: Of::Run,
        meaning: "policies that came into force after the one of the start",
        compute: |seen, _| Some(seen.record.policies.len().saturating_sub(1) as f64),
    },
];

impl Figure {
    /// The figure of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Figure> {
        FIGURES.iter().find(|figure| figure.name == name)
    }

    /// What it is in this run; `None` where the record does not show it.
    #[must_use]
    pub fn of(&self, seen: &Seen<'_>, of: Option<&str>) -> Option<f64> {
        (self.compute)(seen, of).filter(|value| value.is_finite())
    }
}

/// Samples within a stream's time are held against those of the load before it.
fn redis_commands_ratio(record: &Record, stream: &str) -> Option<f64> {
    let numbers: HashSet<u32> =
        record.callers.iter().filter(|caller| caller.load == stream).map(|caller| caller.number).collect();
    let calls = || record.calls.iter().filter(|call| numbers.contains(&call.caller));
    let (begin, end) = (calls().map(|call| call.intended_us).min()?, calls().map(|call| call.sent_us).max()?);
    let (first, _) = load_period_us(record)?;
    let before = commands_per_second(record, first, begin)?;
    Some(commands_per_second(record, begin, end)? / before).filter(|_| before > 0.0)
}

/// By the samples within this time, of which there must be two.
fn commands_per_second(record: &Record, from_us: u64, to_us: u64) -> Option<f64> {
    let within = |at_us: u64| (from_us..=to_us).contains(&at_us);
    let samples = record.samples.iter().filter(|sample| within(sample.at_us) && !sample.redis.is_empty());
    let totals: Vec<(u64, u64)> = samples.map(|sample| (sample.at_us, sent_by_clients(sample).calls)).collect();
    let seconds = (totals.last()?.0 - totals.first()?.0) as f64 / 1e6;
    Some(growth(totals.iter().map(|(_, calls)| *calls)) as f64 / seconds).filter(|_| seconds > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{CommandTotal, Sample};
    use crate::report::sample::{admitted, record_of};

    #[test]
    fn names_are_unique_and_explained() {
        let names: HashSet<&str> = FIGURES.iter().map(|figure| figure.name).collect();
        assert_eq!(names.len(), FIGURES.len());
        assert!(FIGURES.iter().all(|figure| figure.meaning.len() > 20));
    }

    #[test]
    fn an_empty_record_shows_nothing_that_was_not_counted() {
        let record = Record::default();
        let seen = Seen { record: &record, figures: &Figures::of(&record) };
        for figure in &FIGURES {
            let counted = ["failed_calls", "unexpected_answers", "policies"].contains(&figure.name);
            assert_eq!(figure.of(&seen, Some("x")), counted.then_some(0.0), "{}", figure.name);
        }
    }

    #[test]
    fn commands_while_a_stream_lasts_are_held_against_those_before() {
        let mut record = record_of((0..100).map(|number| admitted(number, number * 100_000)).collect());
        record.callers.push(crate::record::Caller {
            number: 1,
            load: "flood".to_owned(),
            user_type: "paid".to_owned(),
            principal: None,
        });
        for call in &mut record.calls[50..] {
            call.caller = 1;
        }
        record.samples = (0..100u64)
            .map(|number| {
                let calls = if number < 50 { number * 10 } else { 500 + (number - 50) * 30 };
                let redis = [("evalsha".to_owned(), CommandTotal { calls, time_us: 0 })].into();
                Sample { at_us: number * 100_000, redis, ..Sample::default() }
            })
            .collect();
        let ratio = redis_commands_ratio(&record, "flood").expect("known");
        assert!((ratio - 3.0).abs() < 0.1, "{ratio}");
        assert_eq!(redis_commands_ratio(&record, "nobody"), None);
    }
}
