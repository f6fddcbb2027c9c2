//! Plots of what the cluster was: depth, capacity, Redis, processes.
//!
//! Responsible for samples as they are, with bounds dashed beside measurements. Must never fill a gap: a sample that
//! could not be taken is a finding.

use std::collections::BTreeSet;

use crate::record::{Record, Sample};
use crate::report::figures::depth::depth_of;
use crate::report::figures::redis::{is_inside_scripts, sent_by_clients};
use crate::report::plot::chart::{Chart, Color, Layout, Line};
use crate::report::plot::series::{Segments, Span, gauge, rate};

/// Commands of Redis that have a line of their own.
const COMMANDS: usize = 4;

fn line(name: &str, color: Color, points: Segments) -> Line {
    Line { name: name.to_owned(), color, dashed: false, points }
}

fn bound(name: &str, color: Color, points: Segments) -> Line {
    Line { dashed: true, ..line(name, color, points) }
}

fn count(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

/// Depth against thresholds and capacity.
#[must_use]
pub fn depth(record: &Record, span: &Span) -> Chart {
    let of = |value: fn(&Sample) -> Option<u64>| gauge(record, span, |sample| count(value(sample)));
    let mut lines = vec![
        line("depth", Color::nth(0), of(depth_of)),
        line("running", Color::GOOD, of(|sample| sample.running)),
        bound("capacity", Color::QUIET, of(|sample| sample.capacity)),
        bound("hard limit", Color::BAD, of(|sample| sample.hard_limit)),
    ];
    let user_types: BTreeSet<&String> = record.samples.iter().flat_map(|sample| sample.thresholds.keys()).collect();
    for (number, user_type) in user_types.into_iter().enumerate() {
        let points = gauge(record, span, |sample| count(sample.thresholds.get(user_type).copied()));
        lines.push(bound(&format!("threshold of {user_type}"), Color::nth(number + 1), points));
    }
    Chart { title: "Depth", about: "tasks queued and running; bounds are dashed", layout: Layout::Linear, lines }
}

/// Slots, live processors and what waits for another time.
#[must_use]
pub fn slots(record: &Record, span: &Span) -> Chart {
    let of = |value: fn(&Sample) -> Option<u64>| gauge(record, span, |sample| count(value(sample)));
    let lines = vec![
        line("slots", Color::nth(0), of(|sample| sample.slots)),
        line("live processors", Color::GOOD, of(|sample| sample.live_processors)),
        line("delayed or backing off", Color::nth(1), of(|sample| sample.delayed)),
        line("dead letters", Color::BAD, of(|sample| sample.dead)),
    ];
    Chart { title: "Slots and processors", about: "counts", layout: Layout::Linear, lines }
}

/// The commands that clients send most, by what they cost over the run.
fn busiest(record: &Record) -> Vec<String> {
    let names: BTreeSet<&String> = record.samples.iter().flat_map(|sample| sample.redis.keys()).collect();
    let total = |name: &str| record.samples.iter().filter_map(|sample| Some(sample.redis.get(name)?.time_us)).max();
    let mut names: Vec<&String> = names.into_iter().filter(|name| !is_inside_scripts(name)).collect();
    names.sort_by_key(|name| std::cmp::Reverse(total(name)));
    names.into_iter().take(COMMANDS).cloned().collect()
}

/// Lines of all commands, then of the busiest.
fn of_redis(record: &Record, span: &Span, value: fn(crate::record::CommandTotal) -> u64) -> Vec<Line> {
    let reached = |sample: &Sample| (!sample.redis.is_empty()).then(|| value(sent_by_clients(sample)));
    let mut lines = vec![line("all", Color::nth(0), rate(record, span, reached))];
    for (number, name) in busiest(record).into_iter().enumerate() {
        let points = rate(record, span, |sample| sample.redis.get(&name).map(|total| value(*total)));
        lines.push(line(&name, Color::nth(number + 1), points));
    }
    lines
}

/// Time of Redis in commands.
#[must_use]
pub fn redis_time(record: &Record, span: &Span) -> Chart {
    let lines = of_redis(record, span, |total| total.time_us);
    Chart { title: "Redis time", about: "µs in commands per second", layout: Layout::Linear, lines }
}

/// Commands sent to Redis.
#[must_use]
pub fn redis_commands(record: &Record, span: &Span) -> Chart {
    let lines = of_redis(record, span, |total| total.calls);
    let about = "sent per second; those inside scripts do not count";
    Chart { title: "Redis commands", about, layout: Layout::Linear, lines }
}

/// Processor time of each process.
#[must_use]
pub fn processors(record: &Record, span: &Span) -> Chart {
    let names: BTreeSet<&String> = record.samples.iter().flat_map(|sample| sample.processes.keys()).collect();
    let lines = names.into_iter().enumerate().map(|(number, name)| {
        let cpu_ms = rate(record, span, |sample| Some(sample.processes.get(name)?.cpu_ms));
        let cores = cpu_ms.into_iter().map(|run| run.into_iter().map(|(at, ms)| (at, ms / 1e3)).collect());
        line(name, Color::nth(number), cores.collect())
    });
    Chart { title: "Processor time", about: "cores in use", layout: Layout::Linear, lines: lines.collect() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::record::{CommandTotal, ProcessSample};

    #[test]
    fn processor_time_is_in_cores() {
        let sample = |at_us, cpu_ms| Sample {
            at_us,
            processes: BTreeMap::from([("redis".to_owned(), ProcessSample { cpu_ms, resident_bytes: 0 })]),
            ..Sample::default()
        };
        let record = Record { samples: vec![sample(0, 0), sample(500_000, 250)], ..Record::default() };
        let chart = processors(&record, &Span::of(&record));
        assert_eq!(chart.lines[0].points, vec![vec![(0.5, 0.5)]]);
    }

    #[test]
    fn commands_inside_scripts_have_no_line() {
        let totals = |calls| {
            let total = CommandTotal { calls, time_us: calls };
            BTreeMap::from([("evalsha".to_owned(), total), ("zadd".to_owned(), total)])
        };
        let sample = |at_us, calls| Sample { at_us, redis: totals(calls), ..Sample::default() };
        let record = Record { samples: vec![sample(0, 0), sample(1_000_000, 7)], ..Record::default() };
        let chart = redis_commands(&record, &Span::of(&record));
        let names: Vec<&str> = chart.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["all", "evalsha"]);
        assert_eq!(chart.lines[0].points, vec![vec![(1.0, 7.0)]]);
    }
}
