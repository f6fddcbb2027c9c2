//! `settle.lua`: ends attempts under their fencing tokens.

use bytes::Bytes;
use fred::types::Value;

use crate::ended::Acting;
use crate::error::StoreError;
use crate::pack::Packer;
use crate::policy::{CompiledPolicy, ListedRules};
use crate::reply::Reply;
use crate::script::SETTLE;
use crate::store::ScopeStore;
use crate::task::{Kept, Outcome, Settlement, TaskError, TaskStatus};

/// Most settlements in one call of the script.
pub const SETTLE_BATCH: usize = 64;

/// What became of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The task is now in this status. A retry gives `Queued`, or `Dead` when no attempt was left, or `Cancelled`.
    Done(TaskStatus),
    /// The token was not the task's newest; nothing changed.
    Stale,
}

impl ScopeStore {
    /// Ends attempts; one answer per settlement, in order. More than [`SETTLE_BATCH`] make several calls, each of which
    /// is atomic.
    pub async fn settle(
        &self,
        policy: &CompiledPolicy,
        settlements: &[Settlement],
    ) -> Result<Vec<Settled>, StoreError> {
        let mut settled = Vec::with_capacity(settlements.len());
        for batch in settlements.chunks(SETTLE_BATCH) {
            let k = &self.keys;
            let mut keys = vec![
                k.scope(),
                k.queue(),
                k.delayed(),
                k.lease(),
                k.run(),
                k.task(),
                k.dead(),
                k.wake(),
                k.cancelled(),
                k.breaker_kind(),
                k.audit(),
                k.audit_head(),
            ];
            let kinds = batch.iter().map(|settlement| settlement.lease.envelope.kind.as_str());
            let rules = ListedRules::new(kinds.map(|kind| policy.breaker_of(kind)));
            let mut args: Vec<Value> =
                vec![self.now_arg(), policy.settle_settings.clone().into(), k.changes().into(), rules.packed.into()];
            let mut says_end = false;
            for (settlement, rules_number) in batch.iter().zip(rules.numbers) {
                let envelope = &settlement.lease.envelope;
                keys.push(k.done(&settlement.lease.task_id));
                keys.push(k.breaker(&envelope.kind));
                let acting = Acting::of_lease(&settlement.lease);
                says_end |= acting.is_some();
                let head = head(policy, settlement, rules_number, acting)?;
                keys.extend(envelope.holds.iter().map(|hold| k.budget(&hold.budget, &hold.subject)));
                args.push(settlement.lease.task_id.as_str().into());
                args.push(head.into());
                args.push(envelope.kind.as_str().into());
                args.push(kept(settlement).encode()?.into());
            }
            if says_end {
                keys.extend([k.ended(), k.ended_head()]);
            }
            let mut reply = Reply::new("settle", SETTLE.call(&self.store, keys, args).await?)?;
            for _ in batch {
                settled.push(read(reply.int()?)?);
            }
        }
        Ok(settled)
    }
}

fn head(
    policy: &CompiledPolicy,
    settlement: &Settlement,
    rules_number: u8,
    acting: Option<Acting>,
) -> Result<Bytes, StoreError> {
    let (outcome, after_ms) = match &settlement.outcome {
        Outcome::Succeeded { .. } => (1, 0),
        Outcome::Failed { .. } => (2, 0),
        Outcome::Retry { after_ms, .. } => (3, *after_ms),
        Outcome::Cancelled => (4, 0),
        Outcome::Expired => (5, 0),
        Outcome::Dead { .. } => (6, 0),
        Outcome::HandedBack => (7, 0),
        Outcome::Revoked { .. } => (8, 0),
    };
    let holds = &settlement.lease.envelope.holds;
    let mut head = Packer::with_capacity(32 + 17 * holds.len());
    head.f64(settlement.lease.token.0 as f64)
        .u8(outcome)
        .f64(after_ms as f64)
        .f64(settlement.lease.probe_epoch as f64)
        .u8(rules_number)
        .u8(holds.len() as u8);
    for hold in holds {
        let period = policy.period_number_of(&hold.budget);
        head.u8(period).f64(hold.amount as f64).f64(actual(&settlement.outcome, &hold.unit));
    }
    if let Some(acting) = acting {
        let code = error_of(&settlement.outcome).map(|error| error.code.as_str());
        let end = acting.ends_task(&settlement.lease.task_id, &settlement.lease.envelope.kind, code)?;
        head.bytes(&end);
    }
    Ok(head.finish())
}

/// Units to commit; −1 commits the estimate.
fn actual(outcome: &Outcome, unit: &str) -> f64 {
    let (usage, otherwise) = match outcome {
        Outcome::Succeeded { usage, .. } => (usage, -1.0),
        Outcome::Failed { usage, .. } => (usage, 0.0),
        _ => return 0.0,
    };
    usage.iter().find(|(name, _)| name == unit).map_or(otherwise, |&(_, amount)| amount as f64)
}

/// Why the attempt did not succeed, where there is more to say than the outcome.
fn error_of(outcome: &Outcome) -> Option<&TaskError> {
    match outcome {
        Outcome::Failed { error, .. }
        | Outcome::Retry { error, .. }
        | Outcome::Revoked { error }
        | Outcome::Dead { error } => Some(error),
        Outcome::Succeeded { .. } | Outcome::Cancelled | Outcome::Expired | Outcome::HandedBack => None,
    }
}

fn kept(settlement: &Settlement) -> Kept<'_> {
    let result = match &settlement.outcome {
        Outcome::Succeeded { result, .. } => Some(result),
        _ => None,
    };
    let error = error_of(&settlement.outcome);
    Kept { envelope: &settlement.lease.envelope, created_ms: settlement.lease.created_ms, result, error }
}

fn read(status: i64) -> Result<Settled, StoreError> {
    Ok(Settled::Done(match status {
        0 => return Ok(Settled::Stale),
        1 | 2 => TaskStatus::Queued,
        3 => TaskStatus::Succeeded,
        4 => TaskStatus::Failed,
        5 => TaskStatus::Dead,
        6 => TaskStatus::Cancelled,
        7 => TaskStatus::Expired,
        other => return Err(StoreError::Protocol(format!("settle returned the status {other}"))),
    }))
}
