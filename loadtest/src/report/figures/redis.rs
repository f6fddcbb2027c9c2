//! What Redis did, by its own command statistics in the samples.
//!
//! Responsible for counting nothing twice: a script's time includes the commands inside it, which the server counts by
//! their own names as well. Must never mistake those for round trips.
//!
//! The server does not say who sent a command. What only the observer asks (`info`, `xinfo`) is left out: it is the
//! same whatever the load, and would flatter the ratio of two loads. A script for each sample and the reading of new
//! decisions remain among the rest, some ten per second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::record::{CommandTotal, Record, Sample};
use crate::report::figures::{growth, per};

/// Commands that scripts call, as their sources say. The few of them that clients also send by themselves (`get` of a
/// breaker) count as part of scripts: they are rare beside those.
static INSIDE_SCRIPTS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let sources = portcullis_lua::sources();
    let called = sources.iter().flat_map(|(_, source)| source.split("call('").skip(1));
    called.filter_map(|rest| Some(rest.split_once('\'')?.0.to_ascii_lowercase())).collect()
});

/// Commands that nobody sends but the observer.
const OF_THE_OBSERVER: [&str; 2] = ["info", "xinfo|stream"];

/// Commands and time, from the first sample that reached Redis to the last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RedisUse {
    /// Between those two samples, seconds.
    pub seconds: f64,
    /// Commands that clients sent; those inside scripts do not count, nor what only the observer sends.
    pub commands: u64,
    /// Time in them, µs.
    pub time_us: u64,
    /// Commands per second.
    pub commands_per_second: f64,
    /// Share of the time that Redis spent in commands.
    pub busy: f64,
    /// Commands per call of a client of the cluster.
    pub commands_per_call: f64,
    /// µs of Redis time per call.
    pub us_per_call: f64,
    /// Commands per decision in Redis; `None` if decision events are missing.
    pub commands_per_decision: Option<f64>,
    /// µs of Redis time per decision.
    pub us_per_decision: Option<f64>,
    /// By command, those inside scripts too.
    pub by_command: BTreeMap<String, CommandUse>,
    /// Most memory of any sample, bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// What one command cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommandUse {
    /// Calls.
    pub calls: u64,
    /// Time, µs.
    pub time_us: u64,
    /// Whether scripts call it, so that its time is part of theirs.
    pub inside_scripts: bool,
}

/// Whether scripts call this command.
#[must_use]
pub fn is_inside_scripts(command: &str) -> bool {
    INSIDE_SCRIPTS.contains(command)
}

/// Whether clients of the cluster send this command, and no script.
fn is_of_clients(command: &str) -> bool {
    !is_inside_scripts(command) && !OF_THE_OBSERVER.contains(&command)
}

/// All that clients sent, in one sample.
#[must_use]
pub fn sent_by_clients(sample: &Sample) -> CommandTotal {
    let sent = sample.redis.iter().filter(|(command, _)| is_of_clients(command));
    sent.fold(CommandTotal::default(), |sum, (_, one)| CommandTotal {
        calls: sum.calls + one.calls,
        time_us: sum.time_us + one.time_us,
    })
}

impl RedisUse {
    /// Of this run.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let samples: Vec<&Sample> = record.samples.iter().filter(|sample| !sample.redis.is_empty()).collect();
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Self::default() };
        let seconds = last.at_us.saturating_sub(first.at_us) as f64 / 1e6;
        let names: BTreeSet<&String> = samples.iter().flat_map(|sample| sample.redis.keys()).collect();
        let by_command: BTreeMap<String, CommandUse> =
            names.into_iter().map(|name| (name.clone(), command_use(&samples, name))).collect();
        let sent = by_command.iter().filter(|(name, _)| is_of_clients(name));
        let (commands, time_us) = sent.fold((0, 0), |sum, (_, one)| (sum.0 + one.calls, sum.1 + one.time_us));
        let calls = record.calls.len() as f64;
        let decisions =
            Some(record.decisions.len() as f64).filter(|&count| count > 0.0 && !record.decisions_incomplete);
        Self {
            seconds,
            commands,
            time_us,
            commands_per_second: per(commands as f64, seconds),
            busy: per(time_us as f64 / 1e6, seconds),
            commands_per_call: per(commands as f64, calls),
            us_per_call: per(time_us as f64, calls),
            commands_per_decision: decisions.map(|decisions| commands as f64 / decisions),
            us_per_decision: decisions.map(|decisions| time_us as f64 / decisions),
            by_command,
            peak_memory_bytes: record.samples.iter().filter_map(|sample| sample.redis_memory_bytes).max(),
        }
    }
}

fn command_use(samples: &[&Sample], name: &str) -> CommandUse {
    let totals = || samples.iter().map(|sample| sample.redis.get(name).copied().unwrap_or_default());
    CommandUse {
        calls: growth(totals().map(|total| total.calls)),
        time_us: growth(totals().map(|total| total.time_us)),
        inside_scripts: is_inside_scripts(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_us: u64, totals: &[(&str, u64, u64)]) -> Sample {
        let totals = totals.iter().map(|&(name, calls, time_us)| (name.to_owned(), CommandTotal { calls, time_us }));
        Sample { at_us, redis: totals.collect(), ..Sample::default() }
    }

    #[test]
    fn knows_what_scripts_call() {
        assert!(["get", "zadd", "xadd", "time"].iter().all(|command| is_inside_scripts(command)));
        assert!(!["evalsha", "brpop", "ping", "subscribe"].iter().any(|command| is_inside_scripts(command)));
    }

    #[test]
    fn a_scripts_time_counts_once() {
        let samples = vec![
            sample(0, &[("evalsha", 10, 100), ("get", 10, 40)]),
            // Out of reach: no reading.
            Sample { at_us: 500_000, ..Sample::default() },
            // Restarted since, and counting from 0.
            sample(1_000_000, &[("evalsha", 5, 60), ("get", 5, 20)]),
            sample(2_000_000, &[("evalsha", 15, 160), ("get", 15, 60), ("ping", 1, 1), ("info", 9, 99)]),
        ];
        let redis = RedisUse::of(&Record { samples, ..Record::default() });
        assert_eq!((redis.commands, redis.time_us), (15 + 1, 160 + 1));
        assert_eq!((redis.by_command["get"].calls, redis.by_command["get"].inside_scripts), (15, true));
        assert!((redis.commands_per_second - 8.0).abs() < 1e-9);
        assert_eq!(redis.us_per_decision, None);
    }
}
