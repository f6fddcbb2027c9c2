//! What `admit` is asked and what it answers.
//!
//! Responsible for the vocabulary of admission: requests, decisions, reasons and the state of limits. Must never name
//! an HTTP status: that is the gateway's `respond.rs`.

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_config::policy::Subject;

use crate::pass::{PassLease, PassTerms};
use crate::provenance::Provenance;
use crate::task::TaskId;

/// Name of the shorter of a session's own windows. No limit of a policy may be called so.
pub(crate) const BURST: &str = "burst";
/// Name of the longer one.
pub(crate) const HOURLY: &str = "hourly";

/// Length of the trace id in a W3C trace context, `VERSION-TRACE-PARENT-FLAGS`.
const TRACE_ID_BYTES: usize = 32;

/// Most units of a request: the largest integer that a number of a script keeps exactly.
const MOST_UNITS: u64 = (1 << 53) - 1;

/// One request for admission, its caller already resolved.
#[derive(Clone, Debug)]
pub struct AdmitRequest {
    /// Id the task or pass gets if it is admitted.
    pub task_id: TaskId,
    /// The caller's user type; must be known to the [`CompiledPolicy`](crate::CompiledPolicy) used.
    pub user_type: UserType,
    /// The caller's session; limits are counted on it.
    pub session_id: String,
    /// Whom the task will belong to.
    pub principal: String,
    /// The agent acting for the principal, if any.
    pub actor: Option<String>,
    /// Digest of the network address it came from; limits and budgets of addresses are counted on it.
    pub client_address: Option<String>,
    /// What sort of work it is; of a pass, its route class.
    pub kind: String,
    /// Asks for a pass on these terms instead of a task. Deadline, delay, attempts, idempotency and payload are then
    /// without meaning.
    pub pass: Option<PassTerms>,
    /// How many requests it counts as; at least 1. The policy's `cost_of` its kind.
    pub cost: u32,
    /// The task is worth nothing this long after admission, ms.
    pub deadline_ms: Option<u64>,
    /// Earliest start after admission, ms; 0 is at once.
    pub delay_ms: u64,
    /// Attempts the task may use; at least 1.
    pub max_attempts: u32,
    /// Makes a repetition of this request find the first one's task.
    pub idempotency: Option<Idempotency>,
    /// Estimated use by unit; a limit or budget whose unit is missing takes its default estimate.
    pub estimates: Vec<(String, u64)>,
    /// How the caller proved who it is, and through whom it acts.
    pub provenance: Provenance,
    /// Id of the HTTP request.
    pub request_id: String,
    /// W3C trace context of the request.
    pub traceparent: Option<String>,
    /// What tracers on the way have added to it.
    pub tracestate: Option<String>,
    /// Content type of the payload.
    pub content_type: String,
    /// The caller's payload.
    pub payload: Bytes,
}

impl AdmitRequest {
    /// Whom a limit or budget counts for this request; `None` where it has no such subject.
    pub(crate) fn subject(&self, per: Subject) -> Option<&str> {
        match per {
            Subject::Tenant => Some(""),
            Subject::UserType => Some(self.user_type.as_str()),
            Subject::Principal => Some(&self.principal),
            Subject::Session => Some(&self.session_id),
            Subject::ClientAddress => self.client_address.as_deref(),
            // Of a chain it is whom the deployment named: holders name those below as they like.
            Subject::Agent => {
                self.provenance.hops.first().map(|root| root.client_id.as_str()).or(self.actor.as_deref())
            }
        }
    }

    /// The trace it belongs to; empty where it has none.
    pub(crate) fn trace_id(&self) -> &str {
        let context = self.traceparent.as_deref().unwrap_or_default();
        context.split('-').nth(1).filter(|trace_id| trace_id.len() == TRACE_ID_BYTES).unwrap_or_default()
    }

    /// How much of a unit this request is expected to use; `default` where it does not say.
    pub(crate) fn units(&self, unit: &str, default: u64) -> u64 {
        if unit == "requests" {
            return u64::from(self.cost.max(1));
        }
        let of_one = self.estimates.iter().find(|(name, _)| name == unit).map_or(default, |&(_, amount)| amount);
        let hits = self.pass.map_or(1, |terms| terms.hits.max(1));
        of_one.saturating_mul(u64::from(hits)).min(MOST_UNITS)
    }
}

/// An idempotency key, hashed together with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Hash of principal and key, hex: part of a Redis key.
    pub key_hash: String,
    /// Hash of the request body, hex: another body under the same key is a mismatch.
    pub body_hash: String,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Admitted, replayed or refused.
    pub verdict: Verdict,
    /// Load of the scope after this decision: queued, running, and passes in flight. Of a pass whose class has a pool
    /// of its own: passes in flight in it.
    pub depth: u64,
    /// Depth the live processors stand for; or the places of the pool.
    pub capacity: u64,
    /// The limits that apply to the request, after this decision: its session's, then named ones in policy order.
    pub limits: Vec<LimitState>,
    /// The budgets that apply to the request, after this decision, in policy order.
    pub budgets: Vec<BudgetState>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Everything was consumed and the task is in the queue.
    Admitted {
        /// The task.
        task_id: TaskId,
        /// Estimated time until a processor takes it, from the measured service time, ms.
        estimated_wait_ms: u64,
        /// Whether that rests on the policy's service time, because none has been measured.
        assumed: bool,
    },
    /// Everything was consumed and the request may go on.
    Passed {
        /// Its place, to be given back when it ends; `None` where none was asked for, and of a look ahead.
        lease: Option<PassLease>,
    },
    /// The same request was admitted before; nothing was consumed.
    Replayed {
        /// The task it was admitted as.
        task_id: TaskId,
    },
    /// Nothing was consumed.
    Refused(Refusal),
}

/// Why a request was turned away and when it may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The first failing step's reason.
    pub reason: Reason,
    /// Name of the exhausted limit or budget, where the reason is about one.
    pub name: Option<String>,
    /// The longest of the times the failing gates need, ms. 0 where waiting does not help: the request asks for more
    /// than a limit or budget ever holds, or is refused for what it is.
    pub retry_after_ms: u64,
    /// Refused under pressure that is the same for all of a user type (`no_live_processors`, `hard_limit`,
    /// `pressure_threshold`): the time that this alone needs, ms, without what the request's own limits, deadline,
    /// breaker and budgets add. 0 for every other reason.
    pub pressure_ms: u64,
    /// Refused because of depth: time until the slots run out of queued tasks if nobody is admitted any more, ms. 0 for
    /// every other reason.
    pub backlog_ms: u64,
    /// Whether these times rest on the policy's service time, because none has been measured. Only of tasks.
    pub assumed: bool,
}

/// The six steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Step {
    Session,
    RateLimit,
    Backpressure,
    CircuitBreaker,
    Economics,
    Enqueue,
}

impl Step {
    /// The word used in bodies, metrics and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::RateLimit => "rate_limit",
            Self::Backpressure => "backpressure",
            Self::CircuitBreaker => "circuit_breaker",
            Self::Economics => "economics",
            Self::Enqueue => "enqueue",
        }
    }
}

/// Why the script turned a request away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The session's burst window is full.
    BurstLimit,
    /// The session's hourly window is full.
    HourlyLimit,
    /// A named limit is full.
    RateLimit,
    /// No live processor accepts work.
    NoLiveProcessors,
    /// The absolute bound of the queue, or of delayed tasks, is reached.
    QueueFull,
    /// Depth is at the limit for everybody.
    HardLimit,
    /// Depth is at the limit for this user type.
    PressureThreshold,
    /// It would still be waiting at its deadline.
    DeadlineUnreachable,
    /// The task kind's breaker is open.
    CircuitOpen,
    /// A budget has too little left.
    BudgetExhausted,
    /// The idempotency key belongs to another body.
    IdempotencyMismatch,
    /// What the caller showed to prove who it is counts once, and was used before.
    ProofUsed,
}

impl Reason {
    /// All reasons, in the order of the script's codes, which start at 1 (header of `admit.lua`).
    pub const ALL: [Self; 12] = [
        Self::BurstLimit,
        Self::HourlyLimit,
        Self::RateLimit,
        Self::NoLiveProcessors,
        Self::QueueFull,
        Self::HardLimit,
        Self::PressureThreshold,
        Self::DeadlineUnreachable,
        Self::CircuitOpen,
        Self::BudgetExhausted,
        Self::IdempotencyMismatch,
        Self::ProofUsed,
    ];

    /// The reason with this code of the script.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// The script's code.
    pub(crate) fn number(self) -> u8 {
        Self::ALL.iter().zip(1..).find(|(reason, _)| **reason == self).map_or(0, |(_, number)| number)
    }

    /// Whether all of a user type are refused for it alike.
    #[must_use]
    pub fn is_shared_pressure(self) -> bool {
        matches!(self, Self::NoLiveProcessors | Self::HardLimit | Self::PressureThreshold)
    }

    /// The step that refuses for this reason.
    #[must_use]
    pub fn step(self) -> Step {
        match self {
            Self::BurstLimit | Self::HourlyLimit | Self::RateLimit => Step::RateLimit,
            Self::NoLiveProcessors
            | Self::QueueFull
            | Self::HardLimit
            | Self::PressureThreshold
            | Self::DeadlineUnreachable => Step::Backpressure,
            Self::CircuitOpen => Step::CircuitBreaker,
            Self::BudgetExhausted => Step::Economics,
            Self::ProofUsed => Step::Session,
            Self::IdempotencyMismatch => Step::Enqueue,
        }
    }

    /// The `code` of the refusal, as fixed by the public interface.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::BurstLimit => "burst_limit",
            Self::HourlyLimit => "hourly_limit",
            Self::RateLimit => "rate_limit",
            Self::NoLiveProcessors => "no_live_processors",
            Self::QueueFull => "queue_full",
            Self::HardLimit => "hard_limit",
            Self::PressureThreshold => "pressure_threshold",
            Self::DeadlineUnreachable => "deadline_unreachable",
            Self::CircuitOpen => "circuit_open",
            Self::BudgetExhausted => "budget_exhausted",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::ProofUsed => "unauthenticated",
        }
    }
}

/// What is left of one sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// `burst`, `hourly`, the limit's name in the policy, or that of a [chain's limit](crate::chain_limits).
    pub name: String,
    /// Most in any window.
    pub limit: u64,
    /// Length of the window, ms.
    pub window_ms: u64,
    /// What may still come now.
    pub remaining: u64,
    /// Time until more becomes available, ms; 0 when nothing is used.
    pub reset_ms: u64,
}

impl LimitState {
    /// Whether it is one of the session's own windows: the same for everybody of the session, whatever they ask for.
    #[must_use]
    pub fn is_of_session(&self) -> bool {
        self.name == BURST || self.name == HOURLY
    }
}

/// What is left of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetState {
    /// Name in the policy.
    pub name: String,
    /// What is counted.
    pub unit: String,
    /// Units per period.
    pub amount: u64,
    /// Units committed in this period.
    pub spent: u64,
    /// Units held by tasks that have not ended.
    pub held: u64,
    /// Time until the period ends, ms.
    pub reset_ms: u64,
}
