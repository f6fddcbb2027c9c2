//! The work itself: the trait a handler implements, what it is given and what it may answer.
//!
//! Responsible for the embedding interface. Must never expose the store or the lease: a handler that could settle its
//! own task would be a second place that decides what became of it.

mod registry;
mod usage;
mod http;
mod builtin;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use portcullis_config::Scope;
use portcullis_lua::{Envelope, FencingToken, TaskError, TaskId, TaskResult};
use tokio_util::sync::CancellationToken;

pub use crate::output::{AttemptOver, OutputSink};
pub use builtin::{Echo, Sleep};
pub use http::{HttpHandler, UnusableTarget};
pub use registry::{HandlerFault, Handlers};

/// Runs tasks of one kind, or of any.
///
/// Closures are handlers too: `|attempt: AttemptContext| async move { … }`.
///
/// A task may be run more than once: when its processor dies, or the attempt is retried. Use the task id as an
/// idempotency key, and the fencing token where a backend can refuse older ones.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt.
    ///
    /// The future is dropped when the attempt ends before it: cancelled by the caller, past its deadline or its
    /// timeout, its lease lost, or the processor's drain time over. Work it has spawned learns so from
    /// [`AttemptContext::cancelled`]. A panic counts as a failed attempt that may be retried.
    async fn handle(&self, attempt: AttemptContext) -> HandlerOutcome;
}

#[async_trait]
impl<F, Answer> Handler for F
where
    F: Fn(AttemptContext) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = HandlerOutcome> + Send + 'static,
{
    async fn handle(&self, attempt: AttemptContext) -> HandlerOutcome {
        self(attempt).await
    }
}

/// One attempt, as its handler sees it.
#[derive(Clone, Debug)]
pub struct AttemptContext {
    /// The task.
    pub task_id: TaskId,
    /// The scope it belongs to.
    pub scope: Scope,
    /// 1 on the first run.
    pub number: u32,
    /// Attempts the task may use.
    pub max_attempts: u32,
    /// Grows with every attempt of the scope: a backend that remembers the largest it has seen can refuse a zombie's.
    pub token: FencingToken,
    /// When this attempt is cut off: the task's deadline or the attempt's timeout, whichever is earlier. Redis clock,
    /// ms since the epoch.
    pub deadline_ms: u64,
    /// Who sent the task and what it is.
    pub envelope: Envelope,
    /// The caller's payload, untouched.
    pub payload: Bytes,
    /// Largest result the policy allows, bytes; a larger one fails the task.
    pub max_result_bytes: u64,
    /// Cancelled once the attempt is over for whatever reason; for work that outlives the handler's future.
    pub cancelled: CancellationToken,
    /// Where to stream output to while working.
    pub output: OutputSink,
}

/// What a handler answers.
#[derive(Clone, Debug, PartialEq)]
pub enum HandlerOutcome {
    /// The work is done.
    Succeeded {
        /// What the task's caller gets.
        result: TaskResult,
        /// Units really used, by unit; a budget hold without an entry commits its estimate.
        usage: Vec<(String, u64)>,
    },
    /// It cannot be done, however often it is tried.
    Failed {
        /// Why.
        error: TaskError,
        /// Units really used, by unit; a budget hold without an entry is released.
        usage: Vec<(String, u64)>,
    },
    /// It was not done now, but another attempt may do it.
    Retry {
        /// Why.
        error: TaskError,
        /// Earliest next attempt from now; the policy's backoff applies where it is longer.
        after: Option<Duration>,
    },
}

impl HandlerOutcome {
    /// Done, with a JSON result and nothing to say about usage.
    #[must_use]
    pub fn json(value: &serde_json::Value) -> Self {
        let body = Bytes::from(value.to_string());
        Self::Succeeded { result: TaskResult { content_type: "application/json".to_owned(), body }, usage: Vec::new() }
    }

    /// Failed for good. `code` is a stable word, `detail` is for the task's owner.
    #[must_use]
    pub fn failed(code: &str, detail: impl fmt::Display) -> Self {
        Self::Failed { error: error(code, detail), usage: Vec::new() }
    }

    /// To be tried again after the policy's backoff.
    #[must_use]
    pub fn retry(code: &str, detail: impl fmt::Display) -> Self {
        Self::Retry { error: error(code, detail), after: None }
    }
}

pub(crate) fn error(code: &str, detail: impl fmt::Display) -> TaskError {
    TaskError { code: code.to_owned(), detail: detail.to_string() }
}
