//! What load is sent: streams of requests, from whom, of what, and what clients do when they are refused.
//!
//! Responsible for the types that scenario files are written in, each field with its unit. Must never draw, wait or
//! send: a plan is the same plan whoever reads it.
//!
//! A stream is one of two things. With `arrivals` it is an **open loop**: requests arrive when the schedule says,
//! however slowly the cluster answers, as they do from the internet. With `sessions` it is a **closed loop**: each
//! caller sends, waits for its answer, thinks and sends again, so that a slow cluster is asked less.

mod check;
mod scale;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The load of a run: streams by name, all at the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan(pub BTreeMap<String, Stream>);

/// Requests of one sort. Either `arrivals` or `sessions` says when they are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// Open loop: when requests arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
    /// Closed loop: how long callers think between an answer and their next request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// When the stream begins, seconds after the run.
    #[serde(default)]
    pub start_seconds: f64,
    /// How long it lasts, seconds. At its end nothing is sent any more, repetitions included; answers are awaited.
    pub duration_seconds: f64,
    /// Who calls. May be empty only for a replay, whose trace names them.
    #[serde(default)]
    pub callers: Vec<CallerGroup>,
    /// What is asked for. For a replay: the details of the kinds that the trace names.
    #[serde(default)]
    pub kinds: Vec<TaskKind>,
    /// What clients do with a refusal or a failure. Without it they take it for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long a client waits for an answer, ms from sending.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Most calls of this stream in flight, and so connections. Calls above it fail unsent, and are recorded.
    #[serde(default = "default_max_in_flight")]
    pub max_in_flight: u32,
}

/// When requests of an open loop arrive. `pattern` says which it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "pattern", rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// Evenly spaced.
    Constant {
        /// Requests per second.
        per_second: f64,
    },
    /// Independent of one another: gaps are distributed exponentially.
    Poisson {
        /// Requests per second, on average.
        per_second: f64,
    },
    /// Many at one moment, again and again, beginning at once.
    Burst {
        /// Requests at each moment.
        size: u32,
        /// Seconds between two moments.
        every_seconds: f64,
    },
    /// Evenly spaced at each moment, at a rate that changes steadily over the whole duration.
    Ramp {
        /// Requests per second at the beginning.
        from_per_second: f64,
        /// Requests per second at the end.
        to_per_second: f64,
    },
    /// What was recorded elsewhere, at its own times.
    Replay {
        /// A `.csv` file with the columns `at_ms`, `user_type`, `principal`, `kind`, or a file of JSON objects of these
        /// fields, one per line. `principal` may be empty. Relative to the current folder.
        file: PathBuf,
        /// How much faster than recorded.
        #[serde(default = "one")]
        speed: f64,
    },
    /// One after the other.
    Phases {
        /// In order; what is left of the stream's duration is silence.
        phases: Vec<Phase>,
    },
}

/// A part of a stream's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// How long it lasts, seconds.
    pub seconds: f64,
    /// When requests arrive in it; anything but a replay. Absent: none do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
}

/// A closed loop. Every caller of the stream is one session, which begins at a random moment of its first think time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// Mean time between an answer and the caller's next request, ms.
    pub think_ms: f64,
    /// How that time varies.
    #[serde(default)]
    pub thinking: Thinking,
}

/// How think times vary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    /// Distributed exponentially.
    #[default]
    Exponential,
    /// Not at all.
    Constant,
}

/// Callers of one user type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerGroup {
    /// Their user type.
    pub user_type: String,
    /// How many distinct callers.
    pub count: u32,
    /// Share of the stream's arrivals, relative to the other groups. Sessions call at their own pace.
    #[serde(default = "one")]
    pub weight: f64,
    /// How much more often some of them call than others: the n-th most frequent calls `1 / n^exponent` times as often
    /// as the first. Absent: all alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zipf_exponent: Option<f64>,
    /// Name of each caller, `{n}` being its number in the group from 0. Absent: `STREAM-USERTYPE-{n}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Bearer token of each, in which `{user_type}`, `{principal}` and `{n}` are replaced. Absent: a development token
    /// `dev:{user_type}:{principal}`, and none for the user type `anonymous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A file of bearer tokens, one per line, at least `count` of them: instead of `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Send each caller's own address of `10.0.0.0/8` in `X-Forwarded-For`, for gateways that trust a proxy: anonymous
    /// callers are then told apart.
    #[serde(default)]
    pub forwarded_for: bool,
}

/// Tasks of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskKind {
    /// The kind.
    pub kind: String,
    /// Share of the stream's requests, relative to the other kinds.
    #[serde(default = "one")]
    pub weight: f64,
    /// Length of the payload, a string, bytes.
    #[serde(default = "default_payload_bytes")]
    pub payload_bytes: u32,
    /// What a task is expected to use, by unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub estimate: BTreeMap<String, u64>,
    /// The task is dropped when it has not ended after so many ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The task may start only after so many ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Attempts the task may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// Send an `Idempotency-Key`, the same for all calls of a request.
    #[serde(default)]
    pub idempotent: bool,
}

/// What a client does after 429, 502, 503, 504 and after no answer at all: it sends the request again, later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// What it makes of a `Retry-After`.
    pub retry_after: Obedience,
    /// Most calls of one request, the first included.
    pub max_tries: u32,
    /// For how long after its first call it may send again, seconds.
    #[serde(default = "default_patience_seconds")]
    pub patience_seconds: f64,
    /// A wait is prolonged by a random part of it, up to this one: at 0.5, by up to half. Never shortened.
    #[serde(default = "default_jitter")]
    pub jitter: f64,
    /// How long it waits where it was told nothing, or does not listen.
    #[serde(default)]
    pub backoff: Backoff,
}

/// What a client makes of a `Retry-After`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obedience {
    /// It waits at least as long.
    Obey,
    /// It waits as it likes.
    Ignore,
}

/// Waits that grow: `min(initial_ms × factor^n, max_ms)` after the n-th call, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The first wait, ms. 0: at once, always.
    pub initial_ms: f64,
    /// How much longer each further wait is.
    #[serde(default = "default_factor")]
    pub factor: f64,
    /// The longest wait, ms.
    #[serde(default = "default_max_ms")]
    pub max_ms: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_ms: 100.0, factor: default_factor(), max_ms: default_max_ms() }
    }
}

impl Plan {
    /// When the last stream ends, seconds after the start of the run.
    #[must_use]
    pub fn duration_seconds(&self) -> f64 {
        self.0.values().map(|stream| stream.start_seconds + stream.duration_seconds).fold(0.0, f64::max)
    }
}

impl CallerGroup {
    /// A single caller of this type, with everything else as if it were not mentioned.
    pub(super) fn of_type(user_type: &str) -> Self {
        Self {
            user_type: user_type.to_owned(),
            count: 1,
            weight: one(),
            zipf_exponent: None,
            principal: None,
            token: None,
            token_file: None,
            forwarded_for: false,
        }
    }
}

impl TaskKind {
    /// A kind of this name, with everything else as if it were not mentioned.
    pub(super) fn named(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            weight: one(),
            payload_bytes: default_payload_bytes(),
            estimate: BTreeMap::new(),
            deadline_ms: None,
            delay_ms: None,
            max_attempts: None,
            idempotent: false,
        }
    }
}

fn one() -> f64 {
    1.0
}

fn default_timeout_ms() -> u64 {
    30_000
}

fn default_max_in_flight() -> u32 {
    4_000
}

fn default_payload_bytes() -> u32 {
    64
}

fn default_patience_seconds() -> f64 {
    60.0
}

fn default_jitter() -> f64 {
    0.1
}

fn default_factor() -> f64 {
    2.0
}

fn default_max_ms() -> f64 {
    10_000.0
}
