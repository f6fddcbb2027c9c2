//! The clients' log: who sent what when, and what came back.
//!
//! Responsible for what a client can know. Must never be completed from the cluster's own account: the two are held
//! against each other.

use serde::{Deserialize, Serialize};

/// Somebody who calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// Its number, from 0: the index in the record.
    pub number: u32,
    /// Name of the load it belongs to, as in the scenario.
    pub load: String,
    /// The user type it has by its credential.
    pub user_type: String,
    /// Its principal; `None` for callers known by their address only.
    pub principal: Option<String>,
}

/// One HTTP request to submit a task. A request that is repeated is several calls with one `request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Number of the caller.
    pub caller: u32,
    /// Number of the request the caller wanted answered, unique in the run.
    pub request: u64,
    /// 0 for the first try, and so on.
    pub repetition: u32,
    /// Number of the gateway it was sent to.
    pub gateway: u32,
    /// Kind of the task.
    pub kind: String,
    /// When the schedule wanted it sent. Latency counts from here, so that a slow answer cannot hide the wait of those
    /// behind it (coordinated omission).
    pub intended_us: u64,
    /// When it was sent.
    pub sent_us: u64,
    /// When the answer was complete, or hope was given up.
    pub ended_us: u64,
    /// What came of it.
    pub outcome: Outcome,
}

impl Call {
    /// From the intention to the answer, µs.
    #[must_use]
    pub fn latency_us(&self) -> u64 {
        self.ended_us.saturating_sub(self.intended_us)
    }

    /// Its answer, if there was one.
    #[must_use]
    pub fn answered(&self) -> Option<&Answered> {
        match &self.outcome {
            Outcome::Answered(answered) => Some(answered),
            Outcome::Failed { .. } => None,
        }
    }

    /// The task it became, or was before.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.answered()?.task_id.as_deref()
    }

    /// Whether the gateway said that the task is accepted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.answered().is_some_and(|answered| matches!(answered.status, 200 | 202))
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An HTTP answer.
    Answered(Answered),
    /// No answer: whether it had an effect is not known, unless `sent` is false.
    Failed {
        /// What went wrong, in a few words without addresses: a category for reports.
        why: String,
        /// Whether any of the request may have reached a gateway.
        sent: bool,
    },
}

impl Outcome {
    /// `admitted`, the refusal's `code`, `status_NNN` for anything else, or `failed`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Answered(answered) if matches!(answered.status, 200 | 202) => "admitted",
            Self::Answered(answered) => answered.code.as_deref().unwrap_or("other"),
            Self::Failed { .. } => "failed",
        }
    }
}

/// What a client reads out of an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// `code` of a refusal.
    pub code: Option<String>,
    /// `step` of a refusal.
    pub step: Option<String>,
    /// The `Retry-After` header, seconds.
    pub retry_after_seconds: Option<u64>,
    /// The task.
    pub task_id: Option<String>,
    /// The `X-Policy-Revision` header.
    pub policy_revision: Option<u64>,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
}
