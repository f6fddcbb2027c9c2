//! `finish.lua`: ends passes.

use std::slice;

use bytes::Bytes;
use fred::types::Value;
use futures_util::future::join_all;

use crate::error::StoreError;
use crate::pack::Packer;
use crate::pass::{PASS_BATCH, PassEnd, PassEnded, PassLease, PassOutcome};
use crate::policy::{CompiledPolicy, ListedRules};
use crate::reply::Reply;
use crate::script::FINISH;
use crate::store::ScopeStore;

/// Ends a pass whose holder let it lapse.
const LAPSED: u8 = 4;

/// What a call of the script says of one pass.
#[derive(Debug)]
pub(crate) struct Ending<'a> {
    lease: &'a PassLease,
    outcome: u8,
    /// −1: unknown.
    answered_ms: f64,
    usage: &'a [(String, u64)],
    /// Whether a hold without an entry commits its estimate.
    estimates_count: bool,
}

impl ScopeStore {
    /// Ends passes: their places are free, their holds committed or released, and the breakers of their classes told.
    /// One answer per pass, in order. One that had lapsed or ended before changes nothing, so that a call may be
    /// repeated; one that Redis does not take holds up no other. More than [`PASS_BATCH`] make several calls, each of
    /// which is atomic.
    pub async fn finish(&self, policy: &CompiledPolicy, ends: &[PassEnd]) -> Result<Vec<PassEnded>, StoreError> {
        let endings: Vec<Ending<'_>> = ends.iter().map(Ending::of).collect();
        self.end_passes(policy, &endings).await
    }

    /// The same, for any outcome.
    pub(crate) async fn end_passes(
        &self,
        policy: &CompiledPolicy,
        endings: &[Ending<'_>],
    ) -> Result<Vec<PassEnded>, StoreError> {
        let mut ended = Vec::with_capacity(endings.len());
        for batch in endings.chunks(PASS_BATCH) {
            match self.end_at_once(policy, batch).await {
                // Whatever is damaged, it need not be what all of them touch.
                Err(StoreError::Protocol(_)) => ended.extend(self.end_each(policy, batch).await?),
                answers => ended.extend(answers?),
            }
        }
        Ok(ended)
    }

    async fn end_each(&self, policy: &CompiledPolicy, batch: &[Ending<'_>]) -> Result<Vec<PassEnded>, StoreError> {
        // All on their way together: the caller has the time of a command or two.
        let calls = batch.iter().map(|ending| self.end_at_once(policy, slice::from_ref(ending)));
        let mut ended = Vec::with_capacity(batch.len());
        for (ending, answer) in batch.iter().zip(join_all(calls).await) {
            match answer {
                Err(StoreError::Protocol(fault)) => {
                    tracing::warn!(pass_id = %ending.lease.pass_id, fault, "the end of a pass was refused");
                    ended.push(PassEnded::Refused);
                }
                answers => ended.extend(answers?),
            }
        }
        Ok(ended)
    }

    async fn end_at_once(&self, policy: &CompiledPolicy, batch: &[Ending<'_>]) -> Result<Vec<PassEnded>, StoreError> {
        let k = &self.keys;
        let mut keys = vec![k.pass(), k.pass_record(), k.breaker_kind()];
        let rules = ListedRules::new(batch.iter().map(|ending| policy.breaker_of(&ending.lease.kind)));
        let most_ends = policy.max_decision_batches.to_string();
        let mut args: Vec<Value> = vec![self.now_arg(), rules.packed.into(), most_ends.into()];
        for (ending, rules_number) in batch.iter().zip(rules.numbers) {
            let lease = ending.lease;
            keys.extend([k.breaker(&lease.kind), k.pool(lease.pool()), k.pool_service(lease.pool())]);
            keys.extend(lease.holds.iter().map(|hold| k.budget(&hold.budget, &hold.subject)));
            args.push(lease.pass_id.as_str().into());
            args.push(ending.head(policy, rules_number)?.into());
            args.push(lease.kind.as_str().into());
        }
        if batch.iter().any(|ending| ending.lease.acting.is_some()) {
            keys.extend([k.ended(), k.ended_head()]);
        }
        let mut reply = Reply::new("finish", FINISH.call(&self.store, keys, args).await?)?;
        batch.iter().map(|_| read(reply.int()?)).collect()
    }
}

fn read(answer: i64) -> Result<PassEnded, StoreError> {
    match answer {
        0 => Ok(PassEnded::Before),
        1 => Ok(PassEnded::Now),
        2 => Ok(PassEnded::Refused),
        other => Err(StoreError::Protocol(format!("finish answered {other}"))),
    }
}

impl<'a> Ending<'a> {
    fn of(end: &'a PassEnd) -> Self {
        let outcome = match end.outcome {
            PassOutcome::Succeeded => 1,
            PassOutcome::Failed => 2,
            PassOutcome::Abandoned => 3,
        };
        Self {
            lease: &end.lease,
            outcome,
            answered_ms: end.answered_ms.map_or(-1.0, |answered_ms| answered_ms as f64),
            usage: &end.usage,
            // Who leaves in the middle of an answer has had the work done.
            estimates_count: match end.outcome {
                PassOutcome::Succeeded => true,
                PassOutcome::Abandoned => end.answered_ms.is_some(),
                PassOutcome::Failed => false,
            },
        }
    }

    /// Of a pass that has lapsed: what it held is released.
    pub(crate) fn lapsed(lease: &'a PassLease) -> Self {
        Self { lease, outcome: LAPSED, answered_ms: -1.0, usage: &[], estimates_count: false }
    }

    fn head(&self, policy: &CompiledPolicy, rules_number: u8) -> Result<Bytes, StoreError> {
        let holds = &self.lease.holds;
        let mut head = Packer::with_capacity(16 + 17 * holds.len());
        head.u8(self.outcome).f64(self.answered_ms).u8(rules_number).u8(holds.len() as u8);
        for hold in holds {
            let used = self.usage.iter().find(|(unit, _)| *unit == hold.unit).map(|(_, amount)| *amount);
            let otherwise = if self.estimates_count { hold.amount } else { 0 };
            let period = policy.period_number_of(&hold.budget);
            head.u8(period).f64(hold.amount as f64).f64(used.unwrap_or(otherwise) as f64);
        }
        if let Some(acting) = &self.lease.acting {
            head.bytes(&acting.ends_pass(&self.lease.pass_id, &self.lease.kind)?);
        }
        Ok(head.finish())
    }
}
