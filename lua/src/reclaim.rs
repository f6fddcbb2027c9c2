//! `reclaim.lua`: takes back lapsed leases.

use crate::claim::read_leases;
use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::RECLAIM;
use crate::store::ScopeStore;
use crate::task::Lease;

/// What a reclaim took back.
#[derive(Debug)]
pub struct Reclaimed {
    /// When it ran, Redis clock, ms since the epoch, rounded down.
    pub now_ms: u64,
    /// Tasks at the front of the queue again.
    pub requeued: u64,
    /// Tasks leased to the caller, to be settled as their purpose says.
    pub leases: Vec<Lease>,
}

impl ScopeStore {
    /// Takes back up to 64 lapsed leases, fewer if their tasks are large.
    pub async fn reclaim(&self, policy: &CompiledPolicy) -> Result<Reclaimed, StoreError> {
        let k = &self.keys;
        let keys = vec![k.scope(), k.queue(), k.lease(), k.run(), k.task(), k.wake(), k.cancelled()];
        let args = vec![self.now_arg(), policy.lease_ms.to_string().into(), k.changes().into()];
        let mut reply = Reply::new("reclaim", RECLAIM.call(&self.store, keys, args).await?)?;
        let (now_ms, requeued) = (reply.int()?.unsigned_abs(), reply.int()?.unsigned_abs());
        Ok(Reclaimed { now_ms, requeued, leases: read_leases(&mut reply, now_ms)? })
    }
}
