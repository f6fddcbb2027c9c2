//! What can happen next.
//!
//! Responsible for saying whom it concerns: a timer or an answer belongs to one start of one process, and means nothing
//! to the next. Must never be large, as thousands of them lie in a heap.

use portcullis_lua::{AdmitRequest, FencingToken, TaskId};

use super::call::{Call, Heard};
use super::plan::Place;

/// Something that happens at some time.
#[derive(Debug)]
pub(super) enum Event {
    /// A call reaches Redis.
    Arrived(Box<Sent>),
    /// A blocking pop has lasted for its longest.
    PopOver { id: u64 },
    /// An answer reaches its caller, or its caller has waited long enough.
    Answered { to: Place, life: u32, id: u64, heard: Box<Heard> },
    /// A process has something to do.
    Timer { to: Place, life: u32, timer: Timer },
    /// A message about the policy.
    News { to: Place },
    /// A caller thinks of something.
    Come { client: usize },
    /// A request reaches a gateway.
    Asked { gateway: usize, asked: Box<Asked> },
    /// An answer reaches a caller.
    Told { client: usize, request: u64, told: Told },
    /// A caller comes again with a request that was turned away.
    Again { client: usize, request: u64 },
    /// A trouble of the plan begins.
    Trouble(usize),
    /// What a failover will come back to is copied.
    Copy(usize),
    /// It is over.
    Healed(usize),
    /// A process is started.
    Start(Place),
    /// Accounts are checked and what is over is forgotten.
    Sweep,
}

/// A call on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) id: u64,
    pub(super) from: Place,
    pub(super) life: u32,
    pub(super) call: Call,
}

/// A request on its way, or the wish to cancel a task.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) client: usize,
    pub(super) number: u64,
    pub(super) what: Wish,
}

/// What a caller wants.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Submit(Box<AdmitRequest>),
    Cancel { task_id: TaskId, principal: String },
}

/// What a caller is told.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Accepted(TaskId),
    Refused {
        retry_after_ms: u64,
    },
    /// It is not known whether it had an effect.
    Unavailable,
}

/// What a process has put down for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// A gateway looks what is due.
    Upkeep,
    /// A gateway asks whether Redis is back.
    Probe,
    /// A processor asks for the policy before it begins.
    Begin,
    /// The next heartbeat; older ones mean nothing.
    Beat(u32),
    Renew,
    Reclaim,
    Claim,
    /// The handler of the attempt under this token answers.
    Answer(FencingToken),
    /// Something that ends this attempt may be due.
    Look(FencingToken),
    Settle,
    /// The drain time is over.
    CutOff,
    /// The time to settle what was cut off is over.
    Leave,
    /// The operator goes on.
    Operator,
}
