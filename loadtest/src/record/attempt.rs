//! The handlers' log: which attempt of which task ran from when to when.
//!
//! Responsible for what a backend can know. Must never ask the cluster.

use serde::{Deserialize, Serialize};

/// One call of a handler, from the first byte to the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// `X-Task-Id`.
    pub task_id: String,
    /// `X-Attempt`, from 1.
    pub attempt: u32,
    /// `X-Fencing-Token`.
    pub fencing_token: u64,
    /// Kind of the task, from the path it was sent to.
    pub kind: String,
    /// `X-User-Type`.
    pub user_type: String,
    /// `X-Principal`.
    pub principal: String,
    /// When the handler was called.
    pub started_us: u64,
    /// When it answered, or when the connection was closed under it.
    pub ended_us: Option<u64>,
    /// How it ended.
    pub end: AttemptEnd,
}

/// How a call of a handler ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// It has not.
    #[default]
    Running,
    /// Answered with success.
    Succeeded,
    /// Answered with an error to be retried.
    Failed,
    /// The processor closed the connection: cancelled, past its deadline, lease lost, or dead.
    Abandoned,
}
