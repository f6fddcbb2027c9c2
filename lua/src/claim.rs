//! `claim.lua`: leases waiting tasks to a processor.

use bytes::Bytes;
use fred::types::{Key, Value};

use crate::envelope::Envelope;
use crate::error::StoreError;
use crate::pack::Unpacker;
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::CLAIM;
use crate::store::ScopeStore;
use crate::task::{FencingToken, Lease, Purpose, TaskId};

/// Most leases handed out by one call.
pub const CLAIM_BATCH: u32 = 64;

/// What a claim found.
#[derive(Debug)]
pub struct Claimed {
    /// When it ran, Redis clock, ms since the epoch, rounded down.
    pub now_ms: u64,
    /// The scope's number of revocations: whoever holds another reads them before running any of the leases.
    pub revocations: u64,
    /// The leases, in the queue's order.
    pub leases: Vec<Lease>,
    /// Tasks still waiting in the queue.
    pub waiting: u64,
    /// Time until the next delayed task is due, ms; `None` when none is delayed.
    pub next_due_ms: Option<u64>,
}

impl ScopeStore {
    /// Leases up to `slots` (at most [`CLAIM_BATCH`] a call) waiting tasks to the caller, for the policy's lease time.
    pub async fn claim(&self, policy: &CompiledPolicy, slots: u32) -> Result<Claimed, StoreError> {
        let (keys, args) = self.claim_call(policy, slots);
        read_claim(CLAIM.call(&self.store, keys, args).await?)
    }

    /// Keys and arguments of a claim.
    pub(crate) fn claim_call(&self, policy: &CompiledPolicy, slots: u32) -> (Vec<Key>, Vec<Value>) {
        let k = &self.keys;
        let keys = vec![k.scope(), k.queue(), k.delayed(), k.lease(), k.run(), k.task(), k.wake()];
        let args = vec![
            self.now_arg(),
            slots.min(CLAIM_BATCH).to_string().into(),
            policy.lease_ms.to_string().into(),
            k.changes().into(),
        ];
        (keys, args)
    }
}

/// What the script answered.
pub(crate) fn read_claim(answer: Value) -> Result<Claimed, StoreError> {
    let mut reply = Reply::new("claim", answer)?;
    let (now_ms, revocations) = (reply.int()?.unsigned_abs(), reply.int()?.unsigned_abs());
    let (waiting, next_due_ms) = (reply.int()?.unsigned_abs(), u64::try_from(reply.int()?).ok());
    Ok(Claimed { now_ms, revocations, leases: read_leases(&mut reply, now_ms)?, waiting, next_due_ms })
}

/// The leases at the end of a reply, six elements each. A record that cannot be read costs only its own task its run.
pub(crate) fn read_leases(reply: &mut Reply, now_ms: u64) -> Result<Vec<Lease>, StoreError> {
    let mut leases = Vec::with_capacity(reply.len() / 6);
    while !reply.is_empty() {
        let task_id = TaskId::from_store(reply.text()?);
        let token = reply.text()?.parse().map_err(|_| StoreError::Protocol("a token that is no number".to_owned()))?;
        let (attempt, max_attempts) = (reply.int()? as u32, reply.int()? as u32);
        let purpose = purpose(reply.int()?)?;
        let (record, purpose) = match Record::read(reply.bytes()?) {
            Ok(record) => (record, purpose),
            Err(fault) => {
                tracing::error!(%task_id, %fault, "the record of a task cannot be read");
                (Record::unreadable(), Purpose::Unreadable)
            }
        };
        leases.push(Lease {
            task_id,
            token: FencingToken(token),
            attempt,
            max_attempts,
            created_ms: record.created_ms,
            claimed_ms: now_ms,
            deadline_ms: record.deadline_ms,
            probe_epoch: record.probe_epoch,
            purpose,
            envelope: record.envelope,
            payload: record.payload,
        });
    }
    Ok(leases)
}

/// A task's record, as `include/record.lua` lays it out.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) created_ms: u64,
    deadline_ms: Option<u64>,
    probe_epoch: u64,
    pub(crate) envelope: Envelope,
    payload: Bytes,
}

impl Record {
    pub(crate) fn read(packed: Bytes) -> Result<Self, StoreError> {
        let mut record = Unpacker::new(packed);
        let (created_ms, deadline_ms, probe_epoch) = (record.count()?, record.count()?, record.count()?);
        // Attempts allowed and class are the scripts' own.
        record.take(3)?;
        let envelope = Envelope::unpack(&mut record)?;
        let (deadline_ms, payload) = ((deadline_ms > 0).then_some(deadline_ms), record.rest());
        Ok(Self { created_ms, deadline_ms, probe_epoch, envelope, payload })
    }

    /// Stands in for one that cannot be read: nobody's task, of no kind, which holds nothing that could be found.
    fn unreadable() -> Self {
        let envelope = Envelope::of_nobody();
        Self { created_ms: 0, deadline_ms: None, probe_epoch: 0, envelope, payload: Bytes::new() }
    }
}

fn purpose(number: i64) -> Result<Purpose, StoreError> {
    match number {
        1 => Ok(Purpose::Run),
        2 => Ok(Purpose::Expire),
        3 => Ok(Purpose::Cancel),
        4 => Ok(Purpose::Bury),
        other => Err(StoreError::Protocol(format!("a lease with the purpose {other}"))),
    }
}
