//! A task and the words for its life: ids, leases, records.
//!
//! Responsible for the types that gateway and processor exchange through Redis. Must never decide anything: the
//! scripts do.

use std::fmt;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::envelope::{ENVELOPE_BYTES, Envelope};
use crate::error::StoreError;
use crate::pack::{Packer, Unpacker};

/// Length of a task id as text.
pub(crate) const TASK_ID_BYTES: usize = 26;

/// Identifies a task: a ULID, so that ids sort by the time of their submission.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TaskId(String);

impl TaskId {
    /// A new id of now.
    #[must_use]
    pub fn generate() -> Self {
        Self(ulid::Ulid::generate().to_string())
    }

    /// The id a client sent, if it has the shape of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ulid::Ulid::from_string(text).ok().filter(|ulid| ulid.to_string() == text).map(|ulid| Self(ulid.to_string()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn from_store(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Grows with every lease the scope hands out; whoever holds an older one for a task may change nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a task is in its life. The last five are terminal: a task reaches exactly one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Waiting: in the queue, for a delayed start, or between two attempts.
    Queued,
    /// Leased by a processor.
    Running,
    /// The handler answered 2xx.
    Succeeded,
    /// The handler refused it for good.
    Failed,
    /// All its attempts were used up.
    Dead,
    /// Its caller cancelled it.
    Cancelled,
    /// Its deadline passed before it could run.
    Expired,
}

impl TaskStatus {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more happens to the task.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// The right to work on a task until the lease lapses, as handed out by `claim` and `reclaim`.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The task.
    pub task_id: TaskId,
    /// Proves this lease, and no earlier one, to every later script.
    pub token: FencingToken,
    /// 1 on the first run.
    pub attempt: u32,
    /// Attempts the task may use.
    pub max_attempts: u32,
    /// Admission time, Redis clock, ms since the epoch.
    pub created_ms: u64,
    /// Time of this claim, Redis clock, ms since the epoch.
    pub claimed_ms: u64,
    /// The task is worth nothing after this, Redis clock, ms since the epoch.
    pub deadline_ms: Option<u64>,
    /// Which half-open phase of the kind's breaker its outcome decides; 0 for none.
    pub probe_epoch: u64,
    /// What the holder must do with it.
    pub purpose: Purpose,
    /// Who sent it and what it is.
    pub envelope: Envelope,
    /// The caller's payload, untouched.
    pub payload: Bytes,
}

/// Why a lease was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Run the handler.
    Run,
    /// The deadline passed while it waited: settle as expired, do not run.
    Expire,
    /// Cancelled while its former holder was lost: settle as cancelled, do not run.
    Cancel,
    /// Its last attempt lapsed: settle as dead, do not run.
    Bury,
    /// Its record cannot be read: settle as dead, do not run. The envelope is nobody's.
    Unreadable,
}

/// How a leased task ended its attempt.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The lease being given up; `payload` is not used.
    pub lease: Lease,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an attempt.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The work is done. Feeds the breaker a success (slow if it was).
    Succeeded {
        /// What the handler answered.
        result: TaskResult,
        /// Units really used, by unit; a hold without an entry commits its estimate.
        usage: Vec<(String, u64)>,
    },
    /// The handler refused the task for good (a 4xx). Not a failure of the backend: feeds the breaker a success.
    Failed {
        /// Why.
        error: TaskError,
        /// Units really used, by unit; a hold without an entry is released.
        usage: Vec<(String, u64)>,
    },
    /// The attempt failed and another may succeed. Becomes dead when no attempt is left. Feeds the breaker a failure.
    Retry {
        /// Why.
        error: TaskError,
        /// Earliest next attempt, ms from now.
        after_ms: u64,
    },
    /// Cancelled by its caller; holds are released.
    Cancelled,
    /// Its caller's credential was revoked before it could run: cancelled, and it says why; holds are released.
    Revoked {
        /// Why.
        error: TaskError,
    },
    /// Its deadline passed; holds are released.
    Expired,
    /// Its last attempt lapsed with its holder; holds are released. Feeds the breaker a failure.
    Dead {
        /// Why.
        error: TaskError,
    },
    /// Given back unrun or unfinished by a draining processor: first in the queue again, the attempt does not count.
    HandedBack,
}

/// What a handler answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskResult {
    /// Its content type; `application/json` is returned as JSON, everything else as text.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// Why an attempt failed, in words for the task's owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskError {
    /// Stable word: `handler_status`, `handler_timeout`, `handler_unreachable`, `lease_lapsed`, `no_handler`,
    /// `record_unreadable`, `result_too_large`, `revoked`, or one the handler chooses.
    pub code: String,
    /// What happened.
    pub detail: String,
}

impl TaskError {
    /// The code of a task that was cancelled because its caller's credential was revoked.
    pub const REVOKED: &str = "revoked";
}

/// One run of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// 1 on the first run.
    pub number: u32,
    /// Redis clock, ms since the epoch.
    pub started_ms: u64,
    /// Redis clock, ms since the epoch; `None` while it runs.
    pub ended_ms: Option<u64>,
}

/// Everything the store knows about a task.
#[derive(Clone, Debug)]
pub struct TaskRecord {
    /// The task.
    pub task_id: TaskId,
    /// Who sent it and what it is.
    pub envelope: Envelope,
    /// Where it is in its life.
    pub status: TaskStatus,
    /// Admission time, Redis clock, ms since the epoch.
    pub created_ms: u64,
    /// Every run so far, first to last.
    pub attempts: Vec<Attempt>,
    /// When it reached its terminal status, Redis clock, ms since the epoch.
    pub finished_ms: Option<u64>,
    /// What the handler answered, once succeeded.
    pub result: Option<TaskResult>,
    /// Why it failed, once it has.
    pub error: Option<TaskError>,
}

/// Position of an output piece: the attempt that produced it and its number within that attempt, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OutputId {
    /// The attempt.
    pub attempt: u64,
    /// The piece.
    pub piece: u64,
}

/// A piece of streamed output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Where it stands.
    pub id: OutputId,
    /// What the handler wrote.
    pub data: Bytes,
}

/// What is kept of a task after its end, beside what the script itself writes.
#[derive(Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) envelope: &'a Envelope,
    pub(crate) created_ms: u64,
    pub(crate) result: Option<&'a TaskResult>,
    pub(crate) error: Option<&'a TaskError>,
}

/// The same, read back.
#[derive(Debug)]
pub(crate) struct KeptOwned {
    pub(crate) envelope: Envelope,
    pub(crate) created_ms: u64,
    pub(crate) result: Option<TaskResult>,
    pub(crate) error: Option<TaskError>,
}

impl Kept<'_> {
    /// `[envelope][created (8)][0 | 1 and type length (2), type, result | 2 and error]`.
    pub(crate) fn encode(&self) -> Result<Bytes, StoreError> {
        let mut kept = Packer::with_capacity(64 + ENVELOPE_BYTES);
        self.envelope.pack(&mut kept);
        kept.f64(self.created_ms as f64);
        if let Some(result) = self.result {
            let content_type = &result.content_type.as_bytes()[..result.content_type.len().min(usize::from(u16::MAX))];
            kept.u8(1).u16(content_type.len() as u16).bytes(content_type).bytes(&result.body);
        } else if let Some(error) = self.error {
            kept.u8(2).bytes(&to_json(error)?);
        } else {
            kept.u8(0);
        }
        Ok(kept.finish())
    }
}

impl KeptOwned {
    pub(crate) fn decode(packed: Bytes) -> Result<Self, StoreError> {
        let mut kept = Unpacker::new(packed);
        let envelope = Envelope::unpack(&mut kept)?;
        let created_ms = kept.count()?;
        let (mut result, mut error) = (None, None);
        match kept.u8()? {
            1 => result = Some(TaskResult { content_type: kept.short_text()?, body: kept.rest() }),
            2 => error = Some(from_json(&kept.rest())?),
            _ => {}
        }
        Ok(Self { envelope, created_ms, result, error })
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Protocol(error.to_string()))
}

fn from_json<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Protocol(error.to_string()))
}
