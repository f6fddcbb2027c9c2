//! `lapse.lua`: finds passes that have lapsed; what they held is given back by `finish.lua`.
//!
//! Two calls, because only the record of a pass says which budgets it holds. Must never take back anything between
//! them: who finds the same pass twice ends it once.

use crate::ended::Acting;
use crate::error::StoreError;
use crate::finish::Ending;
use crate::pass::{PassLease, PassRecord};
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::LAPSE;
use crate::store::ScopeStore;
use crate::task::TaskId;

impl ScopeStore {
    /// Takes back up to 64 passes whose holders let them lapse: releases what they held and gives probes back. Their
    /// places have not counted since they lapsed. How many this call took back.
    pub async fn lapse(&self, policy: &CompiledPolicy) -> Result<u64, StoreError> {
        let keys = vec![self.keys.pass(), self.keys.pass_record()];
        let mut reply = Reply::new("lapse", LAPSE.call(&self.store, keys, vec![self.now_arg()]).await?)?;
        let mut lapsed = Vec::new();
        while !reply.is_empty() {
            let pass_id = TaskId::from_store(reply.text()?);
            let record = PassRecord::decode(pass_id.clone(), reply.bytes()?);
            lapsed.push(record.map_or_else(|_| unreadable(pass_id), |record| record.lease));
        }
        let endings: Vec<Ending<'_>> = lapsed.iter().map(Ending::lapsed).collect();
        let ended = self.end_passes(policy, &endings).await?;
        Ok(ended.into_iter().filter(|ended| *ended).count() as u64)
    }
}

/// Stands in for a pass whose record cannot be read: it holds nothing, and no breaker hears of it. Its end is told of,
/// because it may have been an agent's.
fn unreadable(pass_id: TaskId) -> PassLease {
    let acting = Some(Acting::default());
    PassLease { pass_id, kind: String::new(), lease_ms: 0, pooled: false, holds: Vec::new(), acting }
}
