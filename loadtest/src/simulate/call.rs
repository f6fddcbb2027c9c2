//! What a process can ask of Redis, and what it can hear.
//!
//! Responsible for the vocabulary between actors and the store: one word per script of `portcullis-lua`. Must never
//! carry anything a real call does not carry.

use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_lua::{
    AdmitRequest, Decision, FencingToken, Heartbeat, Lease, PolicyStamp, Renewal, Settled, Settlement, StoreError,
    StoredPolicy, TaskId,
};

/// A script with its arguments. `policy` is the caller's, as scripts are called with the caller's numbers.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Admit {
        policy: Arc<Policy>,
        stamp: PolicyStamp,
        requests: Vec<AdmitRequest>,
    },
    /// Behind a blocking pop of at most `wait_us`, or at once if that is 0.
    Claim {
        policy: Arc<Policy>,
        slots: u32,
        wait_us: u64,
    },
    Renew {
        policy: Arc<Policy>,
        stamp: PolicyStamp,
        leases: Vec<(TaskId, FencingToken)>,
    },
    Settle {
        policy: Arc<Policy>,
        settlements: Vec<Settlement>,
    },
    Reclaim {
        policy: Arc<Policy>,
    },
    Beat {
        policy: Arc<Policy>,
        stamp: PolicyStamp,
        beat: Box<Heartbeat>,
    },
    Leave {
        worker: String,
    },
    Cancel {
        policy: Arc<Policy>,
        task_id: TaskId,
        principal: String,
    },
    /// Reads what is stored.
    ReadPolicy,
    Restore {
        held: Arc<StoredPolicy>,
    },
    Revise {
        expected: PolicyStamp,
        document: String,
        write_id: String,
    },
    Follow {
        name: String,
        stamp: PolicyStamp,
        timeout_ms: u64,
    },
    /// Whether every live gateway holds the stored policy.
    Convergence,
    /// The subscribing connection is made.
    Subscribe,
    Ping,
}

/// What a script answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Decided(Vec<Decision>),
    Claimed {
        leases: Vec<Lease>,
        waiting: u64,
        next_due_ms: Option<u64>,
    },
    Renewed(Vec<Renewal>),
    Settled(Vec<Settled>),
    Reclaimed {
        requeued: u64,
        leases: Vec<Lease>,
    },
    /// What is stored now.
    Stamp(PolicyStamp),
    Policy(Option<Box<StoredPolicy>>),
    /// Stored, or what is stored instead.
    Revised(Result<Box<StoredPolicy>, PolicyStamp>),
    Converged(bool),
    Done,
}

/// An answer, or nothing known about the effect; a stale policy is an error that says that there was none.
pub(super) type Heard = Result<Answer, StoreError>;

/// No answer came, or none will.
pub(super) fn unavailable() -> StoreError {
    StoreError::Unavailable(String::new())
}

impl Call {
    /// The name of the script.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Admit { .. } => "admit",
            Self::Claim { .. } => "claim",
            Self::Renew { .. } => "renew",
            Self::Settle { .. } => "settle",
            Self::Reclaim { .. } => "reclaim",
            Self::Beat { .. } => "heartbeat",
            Self::Leave { .. } => "leave",
            Self::Cancel { .. } => "cancel",
            Self::ReadPolicy => "read policy",
            Self::Restore { .. } => "restore",
            Self::Revise { .. } => "revise",
            Self::Follow { .. } => "follow",
            Self::Convergence => "convergence",
            Self::Subscribe => "subscribe",
            Self::Ping => "ping",
        }
    }
}
