//! What is wrong with a plan: everything at once, each with its path.
//!
//! Responsible for bounds, so that no plan asks for what cannot be sent or would never end. Must never look at files or
//! at the cluster: a plan is checked before anything is started.

use std::ops::RangeInclusive;

use portcullis_config::UserType;

use super::{Arrivals, CallerGroup, Phase, Plan, Retry, Stream, TaskKind};

const PER_SECOND: RangeInclusive<f64> = 0.001..=1_000_000.0;
const SECONDS: RangeInclusive<f64> = 0.001..=86_400.0;
const WEIGHT: RangeInclusive<f64> = 0.0..=1e9;
const CALLERS: RangeInclusive<u32> = 1..=1_000_000;
const IN_FLIGHT: RangeInclusive<u32> = 1..=60_000;
const TIMEOUT_MS: RangeInclusive<u64> = 1..=600_000;
const WAIT_MS: RangeInclusive<f64> = 0.0..=3_600_000.0;
const TRIES: RangeInclusive<u32> = 2..=10_000;
/// What any gateway could be configured to take.
const PAYLOAD_BYTES: RangeInclusive<u32> = 0..=16 * 1024 * 1024;

impl Plan {
    /// Every fault as `STREAM.field: what is wrong`; empty if the plan can be driven.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Faults::default();
        if self.0.is_empty() {
            faults.add("", "needs at least one stream");
        }
        for (name, stream) in &self.0 {
            stream_faults(&mut faults, name, stream);
        }
        faults.0
    }
}

#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, path: &str, what: impl std::fmt::Display) {
        self.0.push(if path.is_empty() { what.to_string() } else { format!("{path}: {what}") });
    }

    fn within<T>(&mut self, path: &str, value: T, range: &RangeInclusive<T>)
    where
        T: PartialOrd + std::fmt::Display + Copy,
    {
        if !range.contains(&value) {
            self.add(path, format_args!("must be from {} to {}, is {value}", range.start(), range.end()));
        }
    }
}

fn stream_faults(faults: &mut Faults, name: &str, stream: &Stream) {
    faults.within(&format!("{name}.start_seconds"), stream.start_seconds, &(0.0..=*SECONDS.end()));
    faults.within(&format!("{name}.duration_seconds"), stream.duration_seconds, &SECONDS);
    faults.within(&format!("{name}.timeout_ms"), stream.timeout_ms, &TIMEOUT_MS);
    faults.within(&format!("{name}.max_in_flight"), stream.max_in_flight, &IN_FLIGHT);
    match (&stream.arrivals, &stream.sessions) {
        (Some(arrivals), None) => {
            arrival_faults(faults, &format!("{name}.arrivals"), arrivals, stream.duration_seconds);
        }
        (None, Some(sessions)) => faults.within(&format!("{name}.sessions.think_ms"), sessions.think_ms, &WAIT_MS),
        _ => faults.add(name, "needs either arrivals (an open loop) or sessions (a closed loop)"),
    }
    let replays = matches!(stream.arrivals, Some(Arrivals::Replay { .. }));
    if !replays {
        weights(faults, &format!("{name}.callers"), stream.callers.iter().map(|group| group.weight));
        weights(faults, &format!("{name}.kinds"), stream.kinds.iter().map(|kind| kind.weight));
    }
    for (number, group) in stream.callers.iter().enumerate() {
        caller_faults(faults, &format!("{name}.callers[{number}]"), group);
    }
    for (number, kind) in stream.kinds.iter().enumerate() {
        kind_faults(faults, &format!("{name}.kinds[{number}]"), kind);
    }
    if let Some(retry) = &stream.retry {
        retry_faults(faults, &format!("{name}.retry"), retry);
    }
}

fn weights(faults: &mut Faults, path: &str, weights: impl Iterator<Item = f64>) {
    let mut sum = 0.0;
    for (number, weight) in weights.enumerate() {
        faults.within(&format!("{path}[{number}].weight"), weight, &WEIGHT);
        sum += weight;
    }
    if sum <= 0.0 {
        faults.add(path, "needs at least one with a weight above 0");
    }
}

fn arrival_faults(faults: &mut Faults, path: &str, arrivals: &Arrivals, seconds: f64) {
    match arrivals {
        Arrivals::Constant { per_second } | Arrivals::Poisson { per_second } => {
            faults.within(&format!("{path}.per_second"), *per_second, &PER_SECOND);
        }
        Arrivals::Burst { size, every_seconds } => {
            faults.within(&format!("{path}.size"), *size, &(1..=1_000_000));
            faults.within(&format!("{path}.every_seconds"), *every_seconds, &SECONDS);
        }
        Arrivals::Ramp { from_per_second, to_per_second } => {
            let rates = 0.0..=*PER_SECOND.end();
            faults.within(&format!("{path}.from_per_second"), *from_per_second, &rates);
            faults.within(&format!("{path}.to_per_second"), *to_per_second, &rates);
        }
        Arrivals::Replay { speed, .. } => faults.within(&format!("{path}.speed"), *speed, &(0.001..=1000.0)),
        Arrivals::Phases { phases } => phase_faults(faults, &format!("{path}.phases"), phases, seconds),
    }
}

fn phase_faults(faults: &mut Faults, path: &str, phases: &[Phase], seconds: f64) {
    if phases.is_empty() {
        faults.add(path, "needs at least one phase");
    }
    for (number, phase) in phases.iter().enumerate() {
        faults.within(&format!("{path}[{number}].seconds"), phase.seconds, &SECONDS);
        let path = format!("{path}[{number}].arrivals");
        match &phase.arrivals {
            Some(Arrivals::Replay { .. }) => faults.add(&path, "a replay is a stream of its own"),
            Some(arrivals) => arrival_faults(faults, &path, arrivals, phase.seconds),
            None => {}
        }
    }
    let sum: f64 = phases.iter().map(|phase| phase.seconds).sum();
    // Sums of decimal fractions are not exact.
    if sum > seconds * (1.0 + 1e-9) {
        faults.add(path, format_args!("last {sum} s together, longer than the {seconds} s they are given"));
    }
}

fn caller_faults(faults: &mut Faults, path: &str, group: &CallerGroup) {
    if let Err(invalid) = UserType::new(group.user_type.clone()) {
        faults.add(&format!("{path}.user_type"), invalid);
    }
    faults.within(&format!("{path}.count"), group.count, &CALLERS);
    if let Some(exponent) = group.zipf_exponent {
        faults.within(&format!("{path}.zipf_exponent"), exponent, &(0.0..=10.0));
    }
    if group.token.is_some() && group.token_file.is_some() {
        faults.add(path, "has both token and token_file");
    }
    for (field, text) in [("principal", &group.principal), ("token", &group.token)] {
        let printable = text.as_ref().is_none_or(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()));
        if !printable {
            faults.add(&format!("{path}.{field}"), "must be printable ASCII without spaces");
        }
    }
}

fn kind_faults(faults: &mut Faults, path: &str, kind: &TaskKind) {
    if !(1..=64).contains(&kind.kind.len()) {
        faults.add(&format!("{path}.kind"), "must have from 1 to 64 characters");
    }
    faults.within(&format!("{path}.payload_bytes"), kind.payload_bytes, &PAYLOAD_BYTES);
}

fn retry_faults(faults: &mut Faults, path: &str, retry: &Retry) {
    faults.within(&format!("{path}.max_tries"), retry.max_tries, &TRIES);
    faults.within(&format!("{path}.patience_seconds"), retry.patience_seconds, &SECONDS);
    faults.within(&format!("{path}.jitter"), retry.jitter, &(0.0..=10.0));
    faults.within(&format!("{path}.backoff.initial_ms"), retry.backoff.initial_ms, &WAIT_MS);
    faults.within(&format!("{path}.backoff.factor"), retry.backoff.factor, &(1.0..=100.0));
    faults.within(&format!("{path}.backoff.max_ms"), retry.backoff.max_ms, &WAIT_MS);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r"
day:
  arrivals:
    pattern: phases
    phases: [ { seconds: 0.1, arrivals: { pattern: poisson, per_second: 20 } }, { seconds: 0.2 } ]
  duration_seconds: 0.3
  callers:
    - { user_type: paid, count: 10, weight: 3, zipf_exponent: 1.1 }
    - { user_type: anonymous, count: 1 }
  kinds: [ { kind: chat, estimate: { tokens: 100 }, deadline_ms: 30000, idempotent: true } ]
  retry: { retry_after: obey, max_tries: 5, backoff: { initial_ms: 0 } }
office:
  sessions: { think_ms: 200 }
  duration_seconds: 1
  callers: [ { user_type: registered, count: 5 } ]
  kinds: [ { kind: chat } ]
";

    fn plan(text: &str) -> Plan {
        serde_yaml_ng::from_str(text).expect("a plan")
    }

    #[test]
    fn a_plan_reads_as_it_is_written() {
        let plan = plan(GOOD);
        assert_eq!(plan.faults(), Vec::<String>::new());
        assert!((plan.duration_seconds() - 1.0).abs() < 1e-9);
        let again: Plan = serde_yaml_ng::from_str(&serde_yaml_ng::to_string(&plan).expect("text")).expect("a plan");
        assert_eq!(again, plan);
        // Scenario files may also be read by way of JSON.
        let value = serde_json::to_value(&plan).expect("a value");
        assert_eq!(serde_json::from_value::<Plan>(value).expect("a plan"), plan);
    }

    #[test]
    fn all_faults_are_named_with_their_paths() {
        let mut bad = plan(GOOD);
        let day = bad.0.get_mut("day").expect("there");
        day.duration_seconds = 0.25;
        day.callers[0].count = 0;
        day.callers[1].user_type = "Not One".to_owned();
        day.kinds.clear();
        day.retry.as_mut().expect("there").max_tries = 1;
        let office = bad.0.get_mut("office").expect("there");
        office.arrivals = Some(Arrivals::Constant { per_second: 0.0 });
        let faults = bad.faults();
        let paths: Vec<&str> = faults.iter().map(|fault| fault.split(": ").next().unwrap_or_default()).collect();
        let expected = [
            "day.arrivals.phases",
            "day.kinds",
            "day.callers[0].count",
            "day.callers[1].user_type",
            "day.retry.max_tries",
            "office",
        ];
        assert_eq!(paths, expected, "{faults:?}");
    }

    #[test]
    fn a_number_that_is_none_is_a_fault() {
        let mut bad = plan(GOOD);
        bad.0.get_mut("office").expect("there").duration_seconds = f64::NAN;
        assert_eq!(bad.faults().len(), 1);
    }

    #[test]
    fn unknown_fields_are_refused() {
        for text in [
            "a: { duration_seconds: 1, arivals: {} }",
            "a: { duration_seconds: 1, arrivals: { pattern: poisson, per_second: 1, per_minute: 2 } }",
        ] {
            let error = serde_yaml_ng::from_str::<Plan>(text).expect_err(text).to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_scaled_plan_keeps_its_shape() {
        let scaled = plan(GOOD).scaled(2.0, 3.0);
        assert_eq!(scaled.faults(), Vec::<String>::new());
        assert!((scaled.duration_seconds() - 3.0).abs() < 1e-9);
        let Some(Arrivals::Phases { phases }) = &scaled.0["day"].arrivals else { panic!("phases") };
        assert_eq!(phases[0].arrivals, Some(Arrivals::Poisson { per_second: 40.0 }));
        assert!((scaled.0["office"].sessions.as_ref().expect("sessions").think_ms - 100.0).abs() < 1e-9);
    }
}
