//! The events of a task, derived from its record and its output.
//!
//! Responsible for one order and one set of ids that every gateway derives alike at any time, so that a stream resumes
//! without gap or repeat. Pure: it must never ask or wait.
//!
//! Ids are pairs that grow: within attempt a, its start is `a-0`, its pieces are `a-1`, `a-2` and so on, and its end is
//! the largest id that begins with a. Whatever is not yet known to be complete holds back everything after it.

use std::fmt;

use bytes::Bytes;
use portcullis_lua::{Attempt, Output, OutputId, Progress, TaskStatus};

/// Id of an event, and so the position of a client that has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cursor {
    attempt: u64,
    number: u64,
}

impl Cursor {
    /// Before the first event.
    pub(super) const START: Self = Self { attempt: 0, number: 0 };

    const QUEUED: Self = Self { attempt: 0, number: 1 };

    fn started(attempt: u32) -> Self {
        Self { attempt: u64::from(attempt), number: 0 }
    }

    fn waits_again(attempt: u32) -> Self {
        Self { attempt: u64::from(attempt), number: u64::MAX }
    }

    /// An id as [`Display`](fmt::Display) writes it. No attempt is numbered beyond 32 bits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (attempt, number) = text.split_once('-').filter(|(attempt, number)| digits(attempt) && digits(number))?;
        Some(Self { attempt: u64::from(attempt.parse::<u32>().ok()?), number: number.parse().ok()? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.attempt, self.number)
    }
}

impl From<Cursor> for OutputId {
    fn from(cursor: Cursor) -> Self {
        Self { attempt: cursor.attempt, piece: cursor.number }
    }
}

impl From<OutputId> for Cursor {
    fn from(id: OutputId) -> Self {
        Self { attempt: id.attempt, number: id.piece }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The task waits or runs.
    Status {
        /// Its id.
        id: Cursor,
        /// Queued or running.
        status: TaskStatus,
        /// The attempt that runs, or that ended last; 0 before the first.
        attempt: u32,
    },
    /// A piece of output.
    Output {
        /// Its id.
        id: Cursor,
        /// What the handler wrote.
        data: Bytes,
    },
    /// The task has ended; nothing comes after this.
    Done {
        /// Its id.
        id: Cursor,
    },
}

impl Event {
    pub(super) fn id(&self) -> Cursor {
        match self {
            Self::Status { id, .. } | Self::Output { id, .. } | Self::Done { id } => *id,
        }
    }
}

/// The id of `done`.
pub(super) fn end_of(attempts: &[Attempt]) -> Cursor {
    Cursor::started(attempts.last().map_or(0, |attempt| attempt.number) + 1)
}

/// The events after `cursor`, and whether more is known to be there than can be told from these readings.
///
/// `pieces` is the output after `cursor`, read no earlier than `progress`; `complete` says that it was all of it.
pub(super) fn events_after(
    cursor: Cursor,
    progress: &Progress,
    pieces: Vec<Output>,
    complete: bool,
) -> (Vec<Event>, bool) {
    let last_attempt = progress.attempts.last().map_or(0, |attempt| u64::from(attempt.number));
    // Output of an attempt that began after the progress was read: its start has to be told first.
    let (told, untold): (Vec<_>, Vec<_>) = pieces.into_iter().partition(|piece| piece.id.attempt <= last_attempt);
    // Beyond the end of a full page there may be output that belongs before the next change of status.
    let horizon = if complete { None } else { told.last().map(|piece| Cursor::from(piece.id)) };
    let mut events = milestones(progress);
    events.extend(told.into_iter().map(|piece| Event::Output { id: piece.id.into(), data: piece.data }));
    events.retain(|event| event.id() > cursor && horizon.is_none_or(|horizon| event.id() <= horizon));
    events.sort_by_key(Event::id);
    (events, !complete || !untold.is_empty())
}

/// Every change of status so far.
fn milestones(progress: &Progress) -> Vec<Event> {
    let mut events = vec![Event::Status { id: Cursor::QUEUED, status: TaskStatus::Queued, attempt: 0 }];
    for (index, attempt) in progress.attempts.iter().enumerate() {
        let number = attempt.number;
        events.push(Event::Status { id: Cursor::started(number), status: TaskStatus::Running, attempt: number });
        let waited_after = index + 1 < progress.attempts.len() || progress.status == TaskStatus::Queued;
        if attempt.ended_ms.is_some() && waited_after {
            events.push(Event::Status { id: Cursor::waits_again(number), status: TaskStatus::Queued, attempt: number });
        }
    }
    if progress.status.is_terminal() {
        events.push(Event::Done { id: end_of(&progress.attempts) });
    }
    events
}

#[cfg(test)]
mod tests;
