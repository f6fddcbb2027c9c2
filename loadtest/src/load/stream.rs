//! A stream made ready: its callers, its kinds as bodies, and its schedule.
//!
//! Responsible for everything that can be decided before the load begins, so that sending a request decides nothing.
//! Must never depend on how the cluster answers.

use std::collections::HashMap;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use rand::distr::weighted::WeightedIndex;
use rand::{RngExt, SeedableRng};
use rand_distr::Distribution;
use serde_json::{Value, json};

use super::arrival::{self, Random, micros};
use super::plan::{Arrivals, CallerGroup, Retry, Sessions, Stream, TaskKind};
use super::population::{Callers, Population};
use super::trace::{self, Recorded};
use crate::error::HarnessError;

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// When, µs since the run began.
    pub(super) at_us: u64,
    /// Number of its stream.
    pub(super) stream: usize,
    /// Number of its caller.
    pub(super) caller: u32,
    /// Number of its kind in the stream.
    pub(super) kind: usize,
    /// For what is random in what its client does.
    pub(super) seed: u64,
}

/// A stream that can be driven.
#[derive(Debug)]
pub(super) struct Ready {
    /// What its clients send.
    pub(super) kinds: Kinds,
    /// What they do with a refusal.
    pub(super) retry: Option<Retry>,
    /// How long they wait for an answer, ms.
    pub(super) timeout_ms: u64,
    /// Most of its calls in flight.
    pub(super) max_in_flight: u32,
    /// How many are.
    pub(super) in_flight: AtomicU32,
    /// When it begins, µs since the run began.
    pub(super) starts_us: u64,
    /// When its clients stop, µs since the run began.
    pub(super) ends_us: u64,
    /// Its callers, if each is a session.
    pub(super) sessions: Option<(Sessions, Vec<u32>)>,
}

/// Requests of one stream in the order in which they are due.
pub(super) type Schedule = Box<dyn Iterator<Item = Due> + Send>;

/// The kinds of a stream.
#[derive(Debug)]
pub(super) struct Kinds {
    ready: Vec<ReadyKind>,
    choice: Option<WeightedIndex<f64>>,
}

/// A kind as it is sent.
#[derive(Debug)]
pub(super) struct ReadyKind {
    /// Its name.
    pub(super) name: String,
    /// The whole body.
    pub(super) body: Bytes,
    /// Whether requests carry an idempotency key.
    pub(super) idempotent: bool,
}

/// Makes a stream ready, adding its callers to all callers.
pub(super) fn ready(
    number: usize,
    name: &str,
    stream: &Stream,
    callers: &mut Callers,
    seed: u64,
) -> Result<(Ready, Schedule), HarnessError> {
    let mut random = Random::seed_from_u64(seed ^ spread(name));
    let starts_us = micros(stream.start_seconds);
    let mut kinds = Kinds::new(&stream.kinds);
    let (sessions, schedule) = match &stream.arrivals {
        Some(Arrivals::Replay { file, speed }) => {
            let replay = Replay { number, starts_us, speed: *speed, ends_us: micros(stream.duration_seconds) };
            (None, replay.schedule(name, stream, &trace::read(file)?, callers, &mut kinds, random)?)
        }
        arrivals => {
            let population = Population::add(name, &stream.callers, callers)?;
            match (arrivals, &stream.sessions) {
                (Some(arrivals), _) => {
                    let times = arrival::times(arrivals, stream.duration_seconds, Random::from_rng(&mut random));
                    let choice = kinds.choice.clone();
                    let due = move |at_us| {
                        let kind = choice.as_ref().map_or(0, |choice| choice.sample(&mut random));
                        let (caller, seed) = (population.draw(&mut random)?, random.random());
                        Some(Due { at_us: starts_us + at_us, stream: number, caller, kind, seed })
                    };
                    (None, Box::new(times.map_while(due)) as Schedule)
                }
                (None, sessions) => {
                    let sessions = sessions.clone().map(|sessions| (sessions, population.numbers().collect()));
                    (sessions, Box::new(std::iter::empty()) as Schedule)
                }
            }
        }
    };
    let ready = Ready {
        kinds,
        retry: stream.retry.clone(),
        timeout_ms: stream.timeout_ms,
        max_in_flight: stream.max_in_flight,
        in_flight: AtomicU32::new(0),
        starts_us,
        ends_us: starts_us + micros(stream.duration_seconds),
        sessions,
    };
    Ok((ready, schedule))
}

impl Kinds {
    fn new(kinds: &[TaskKind]) -> Self {
        let choice = WeightedIndex::new(kinds.iter().map(|kind| kind.weight)).ok();
        Self { ready: kinds.iter().map(ReadyKind::new).collect(), choice }
    }

    /// The kind of this number.
    pub(super) fn get(&self, number: usize) -> Option<&ReadyKind> {
        self.ready.get(number)
    }

    /// Number of the next kind.
    pub(super) fn draw(&self, random: &mut Random) -> usize {
        self.choice.as_ref().map_or(0, |choice| choice.sample(random))
    }

    /// Number of the kind of this name, with nothing but its name if the plan does not mention it.
    fn named(&mut self, name: &str) -> usize {
        if let Some(number) = self.ready.iter().position(|kind| kind.name == name) {
            return number;
        }
        self.ready.push(ReadyKind::new(&TaskKind::named(name)));
        self.ready.len() - 1
    }
}

impl ReadyKind {
    fn new(kind: &TaskKind) -> Self {
        let mut body = json!({ "kind": kind.kind, "payload": "x".repeat(kind.payload_bytes as usize) });
        if !kind.estimate.is_empty() {
            body["estimate"] = json!(kind.estimate);
        }
        let numbers = [
            ("deadline_ms", kind.deadline_ms),
            ("delay_ms", kind.delay_ms),
            ("max_attempts", kind.max_attempts.map(u64::from)),
        ];
        for (field, number) in numbers {
            if let Some(number) = number {
                body[field] = Value::from(number);
            }
        }
        Self { name: kind.kind.clone(), body: body.to_string().into(), idempotent: kind.idempotent }
    }
}

/// What a replay is.
#[derive(Clone, Copy)]
struct Replay {
    number: usize,
    starts_us: u64,
    speed: f64,
    ends_us: u64,
}

impl Replay {
    fn schedule(
        self,
        name: &str,
        stream: &Stream,
        rows: &[Recorded],
        callers: &mut Callers,
        kinds: &mut Kinds,
        mut random: Random,
    ) -> Result<Schedule, HarnessError> {
        let begin_ms = rows.first().map_or(0.0, |row| row.at_ms);
        let mut known: HashMap<(&str, &str), u32> = HashMap::new();
        let mut schedule = Vec::with_capacity(rows.len());
        for row in rows {
            let at_us = micros((row.at_ms - begin_ms) / self.speed / 1000.0);
            if at_us >= self.ends_us {
                break;
            }
            let who = (row.user_type.as_str(), row.principal.as_str());
            let caller = match known.get(&who) {
                Some(number) => *number,
                None => add_recorded(name, stream, who, callers, known.len() as u32)?,
            };
            known.insert(who, caller);
            let (kind, seed) = (kinds.named(&row.kind), random.random());
            schedule.push(Due { at_us: self.starts_us + at_us, stream: self.number, caller, kind, seed });
        }
        Ok(Box::new(schedule.into_iter()))
    }
}

/// Adds a caller of a trace, who shows what the first group of its user type in the plan says it shows.
fn add_recorded(
    load: &str,
    stream: &Stream,
    (user_type, principal): (&str, &str),
    callers: &mut Callers,
    n: u32,
) -> Result<u32, HarnessError> {
    let group = stream.callers.iter().find(|group| group.user_type == user_type);
    let group = group.cloned().unwrap_or_else(|| CallerGroup::of_type(user_type));
    let name = if principal.is_empty() { format!("{load}-{user_type}") } else { principal.to_owned() };
    callers.add(load, &group, &name, n, None)
}

/// A number for a name: the same everywhere, unlike that of the standard library's hasher (FNV-1a).
fn spread(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "
arrivals: { pattern: poisson, per_second: 100 }
start_seconds: 2
duration_seconds: 5
callers: [ { user_type: paid, count: 3 } ]
kinds: [ { kind: chat, weight: 3, estimate: { tokens: 5 }, deadline_ms: 10 }, { kind: report, payload_bytes: 0 } ]
";

    fn schedule(seed: u64) -> (Ready, Vec<Due>) {
        let stream: Stream = serde_yaml_ng::from_str(PLAN).expect("a stream");
        let mut callers = Callers::default();
        let (ready, schedule) = ready(4, "day", &stream, &mut callers, seed).expect("ready");
        (ready, schedule.collect())
    }

    #[test]
    fn a_schedule_is_the_same_for_the_same_seed() {
        let (ready, due) = schedule(9);
        assert_eq!(due, schedule(9).1);
        assert_ne!(due, schedule(10).1);
        assert!(due.iter().all(|one| one.stream == 4 && (ready.starts_us..ready.ends_us).contains(&one.at_us)));
        let reports = due.iter().filter(|one| one.kind == 1).count();
        assert!(reports * 2 < due.len() && reports > 0, "{reports} of {}", due.len());
    }

    #[test]
    fn a_body_holds_what_the_plan_says_and_no_more() {
        let (ready, _) = schedule(0);
        let body =
            |number| serde_json::from_slice::<Value>(&ready.kinds.get(number).expect("there").body).expect("JSON");
        let x = "x".repeat(64);
        assert_eq!(body(0), json!({ "kind": "chat", "payload": x, "estimate": { "tokens": 5 }, "deadline_ms": 10 }));
        assert_eq!(body(1), json!({ "kind": "report", "payload": "" }));
    }

    #[test]
    fn a_trace_is_replayed_at_its_own_times() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("trace.csv");
        let rows = ["5000,paid,ada,chat", "5200,anonymous,,chat", "5300,paid,ada,other", "9000,paid,eve,chat"];
        std::fs::write(&file, format!("at_ms,user_type,principal,kind\n{}\n", rows.join("\n"))).expect("written");
        let stream = Stream {
            arrivals: Some(Arrivals::Replay { file, speed: 2.0 }),
            duration_seconds: 1.0,
            ..serde_yaml_ng::from_str(PLAN).expect("a stream")
        };
        let mut callers = Callers::default();
        let (ready, schedule) = ready(0, "day", &stream, &mut callers, 0).expect("ready");
        let due: Vec<(u64, u32, usize)> = schedule.map(|one| (one.at_us, one.caller, one.kind)).collect();
        assert_eq!(due, [(2_000_000, 0, 0), (2_100_000, 1, 0), (2_150_000, 0, 2)]);
        assert_eq!(callers.known[0].principal.as_deref(), Some("dev:ada"));
        assert_eq!(callers.known[1].principal, None);
        assert_eq!(ready.kinds.get(2).expect("the trace's own").name, "other");
    }
}
