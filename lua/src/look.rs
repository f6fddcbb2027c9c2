//! `look.lua`: what is new about tasks that somebody follows, many tasks in one round trip.

use bytes::Bytes;
use fred::types::Value;

use crate::error::StoreError;
use crate::inspect;
use crate::output::stream_id;
use crate::reply::Reply;
use crate::script::LOOK;
use crate::store::ScopeStore;
use crate::task::{Attempt, Output, OutputId, TaskId, TaskRecord, TaskStatus};

/// Most tasks in one call: keeps the script well under a millisecond.
pub const LOOK_BATCH: usize = 32;

/// Most pieces of output of one task in one call.
const PIECES: u32 = 64;

/// How far a task has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it is in its life.
    pub status: TaskStatus,
    /// Every run so far, first to last.
    pub attempts: Vec<Attempt>,
}

impl From<&TaskRecord> for Progress {
    fn from(record: &TaskRecord) -> Self {
        Self { status: record.status, attempts: record.attempts.clone() }
    }
}

/// What is new about a task.
#[derive(Clone, Debug)]
pub struct TaskNews {
    /// How far it has come.
    pub progress: Progress,
    /// All that is known about it, once it has ended.
    pub ended: Option<Box<TaskRecord>>,
    /// Its output after the position asked about.
    pub output: Vec<Output>,
    /// Whether that was all of it.
    pub complete: bool,
}

/// The answer about one task.
pub type Looked = Result<Option<TaskNews>, StoreError>;

impl ScopeStore {
    /// What is new about these tasks (at most [`LOOK_BATCH`]), for each after the position given with it; `None` for
    /// one that is not there any longer. A task that cannot be read is nobody else's error.
    pub async fn look(&self, tasks: &[(TaskId, OutputId)]) -> Result<Vec<Looked>, StoreError> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        if tasks.len() > LOOK_BATCH {
            return Err(StoreError::Protocol(format!("{} tasks in one look", tasks.len())));
        }
        let k = &self.keys;
        let (mut keys, mut args) = (vec![k.task(), k.run(), k.lease()], vec![Value::from(PIECES.to_string())]);
        for (id, after) in tasks {
            keys.extend([k.done(id), k.output(id)]);
            // A stream's second number starts at 0 where pieces start at 1: the piece after `n` is at `n`.
            args.extend([id.as_str().into(), format!("{}-{}", after.attempt, after.piece).into()]);
        }
        let mut reply = Reply::new("look", LOOK.call(&self.store, keys, args).await?)?;
        let mut looked = Vec::with_capacity(tasks.len());
        for (id, _) in tasks {
            looked.push(news(id, Reply::new("look", reply.value()?)?));
        }
        Ok(looked)
    }
}

fn news(id: &TaskId, mut reply: Reply) -> Looked {
    let (done, recorded, run) = (reply.optional_bytes()?, reply.int()? == 1, reply.optional_bytes()?);
    let (leased, complete) = (reply.int()? == 1, reply.int()? == 0);
    let (progress, ended) = match (done, recorded) {
        (Some(done), _) => {
            let record = inspect::ended(id, done)?;
            (Progress::from(&record), Some(Box::new(record)))
        }
        (None, true) => {
            let (status, attempts) = inspect::standing(run, leased)?;
            (Progress { status, attempts }, None)
        }
        (None, false) => return Ok(None),
    };
    let mut output = Vec::with_capacity(reply.len() / 2);
    while !reply.is_empty() {
        let (id, data): (String, Bytes) = (reply.text()?, reply.bytes()?);
        output.push(Output { id: stream_id(&id)?, data });
    }
    Ok(Some(TaskNews { progress, ended, output, complete }))
}
