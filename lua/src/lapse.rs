//! `lapse.lua`: finds passes that have lapsed; what they held is given back by `finish.lua`.
//!
//! Two calls, because only the record of a pass says which budgets it holds. Must never take back anything between
//! them: who finds the same pass twice ends it once. Nor must what cannot be ended keep anybody from what lapsed later.

use crate::ended::Acting;
use crate::error::StoreError;
use crate::finish::Ending;
use crate::pass::{PASS_BATCH, PassEnded, PassLease, PassRecord};
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::LAPSE;
use crate::store::ScopeStore;
use crate::task::TaskId;

/// What a search for lapsed passes came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lapsed {
    /// Passes that this call took back.
    pub taken_back: usize,
    /// Passes that lie where they were, because Redis does not take their ends.
    pub refused: usize,
    /// Whether it found as many as one call looks at, so that there may be more behind.
    pub more: bool,
}

impl ScopeStore {
    /// Takes back up to 64 passes whose holders let them lapse, leaving out the `first` that lapsed: releases what they
    /// held and gives probes back. Their places have not counted since they lapsed. Who goes on behind those that were
    /// refused finds the others.
    pub async fn lapse(&self, policy: &CompiledPolicy, first: usize) -> Result<Lapsed, StoreError> {
        let keys = vec![self.keys.pass(), self.keys.pass_record()];
        let args = vec![self.now_arg(), first.to_string().into()];
        let mut reply = Reply::new("lapse", LAPSE.call(&self.store, keys, args).await?)?;
        let mut lapsed = Vec::new();
        while !reply.is_empty() {
            let pass_id = TaskId::from_store(reply.text()?);
            let record = PassRecord::decode(pass_id.clone(), reply.bytes()?);
            lapsed.push(record.map_or_else(|_| unreadable(pass_id), |record| record.lease));
        }
        let endings: Vec<Ending<'_>> = lapsed.iter().map(Ending::lapsed).collect();
        let ended = self.end_passes(policy, &endings).await?;
        let count = |what| ended.iter().filter(|each| **each == what).count();
        Ok(Lapsed {
            taken_back: count(PassEnded::Now),
            refused: count(PassEnded::Refused),
            more: lapsed.len() >= PASS_BATCH,
        })
    }
}

/// Stands in for a pass whose record cannot be read: it holds nothing, and no breaker hears of it. Its end is told of,
/// because it may have been an agent's.
fn unreadable(pass_id: TaskId) -> PassLease {
    let acting = Some(Acting::default());
    PassLease { pass_id, kind: String::new(), lease_ms: 0, pooled: false, holds: Vec::new(), acting }
}
