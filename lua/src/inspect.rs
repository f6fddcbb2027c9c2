//! `inspect.lua`: everything known about a task, read at one moment.

use bytes::Bytes;

use crate::claim::Record;
use crate::error::StoreError;
use crate::pack::Unpacker;
use crate::reply::Reply;
use crate::script::INSPECT;
use crate::store::ScopeStore;
use crate::task::{Attempt, KeptOwned, TaskError, TaskId, TaskRecord, TaskStatus};

impl ScopeStore {
    /// The task, whoever asks: it is the caller's to compare the principal.
    pub async fn task(&self, id: &TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let k = &self.keys;
        let keys = vec![k.task(), k.run(), k.lease(), k.done(id)];
        let mut reply = Reply::new("inspect", INSPECT.call(&self.store, keys, vec![id.as_str().into()]).await?)?;
        let (done, record, run) = (reply.optional_bytes()?, reply.optional_bytes()?, reply.optional_bytes()?);
        let leased = reply.int()? == 1;
        match (done, record) {
            (Some(done), _) => ended(id, done).map(Some),
            (None, Some(record)) => alive(id, record, run, leased).map(Some),
            (None, None) => Ok(None),
        }
    }
}

/// A task that has ended, from what is kept of it.
pub(crate) fn ended(id: &TaskId, packed: Bytes) -> Result<TaskRecord, StoreError> {
    let mut done = Unpacker::new(packed);
    let status = match done.u8()? {
        3 => TaskStatus::Succeeded,
        4 => TaskStatus::Failed,
        5 => TaskStatus::Dead,
        6 => TaskStatus::Cancelled,
        7 => TaskStatus::Expired,
        other => return Err(StoreError::Protocol(format!("a finished task with the status {other}"))),
    };
    let finished_ms = done.count()?;
    let history = usize::from(done.u16()?);
    let attempts = read_history(done.take(history)?)?;
    let kept = KeptOwned::decode(done.rest())?;
    // One that was cancelled by its caller may still hold why the attempt before failed.
    let explains = |error: &TaskError| match status {
        TaskStatus::Failed | TaskStatus::Dead => true,
        TaskStatus::Cancelled => error.code == TaskError::REVOKED,
        _ => false,
    };
    Ok(TaskRecord {
        task_id: id.clone(),
        envelope: kept.envelope,
        status,
        created_ms: kept.created_ms,
        attempts,
        finished_ms: Some(finished_ms),
        result: kept.result,
        error: kept.error.filter(explains),
    })
}

fn alive(id: &TaskId, record: Bytes, run: Option<Bytes>, leased: bool) -> Result<TaskRecord, StoreError> {
    let record = Record::read(record)?;
    let (status, attempts) = standing(run, leased)?;
    Ok(TaskRecord {
        task_id: id.clone(),
        envelope: record.envelope,
        status,
        created_ms: record.created_ms,
        attempts,
        finished_ms: None,
        result: None,
        error: None,
    })
}

/// How a task that has not ended stands, from its `run` (`include/record.lua`).
pub(crate) fn standing(run: Option<Bytes>, leased: bool) -> Result<(TaskStatus, Vec<Attempt>), StoreError> {
    let Some(run) = run else { return Ok((TaskStatus::Queued, Vec::new())) };
    let mut run = Unpacker::new(run);
    run.f64()?;
    run.take(6)?;
    let purpose = run.u8()?;
    let started_ms = run.count()?;
    run.u8()?;
    let mut attempts = read_history(run.rest())?;
    if leased && purpose == 1 {
        attempts.push(Attempt { number: attempts.len() as u32 + 1, started_ms, ended_ms: None });
        return Ok((TaskStatus::Running, attempts));
    }
    Ok((TaskStatus::Queued, attempts))
}

/// Pairs of start and end, first run first.
fn read_history(packed: Bytes) -> Result<Vec<Attempt>, StoreError> {
    let mut history = Unpacker::new(packed);
    let mut attempts = Vec::new();
    while !history.is_empty() {
        let number = attempts.len() as u32 + 1;
        attempts.push(Attempt { number, started_ms: history.count()?, ended_ms: Some(history.count()?) });
    }
    Ok(attempts)
}
