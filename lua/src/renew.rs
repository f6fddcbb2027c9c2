//! `renew.lua`: extends leases, and hears which of their tasks were cancelled.

use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::RENEW;
use crate::store::ScopeStore;
use crate::task::{FencingToken, TaskId};

/// Most leases extended by one call of the script.
const RENEW_BATCH: usize = 64;

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Extended.
    Held,
    /// Extended, but the task's caller has cancelled it.
    Cancelled,
    /// Somebody else holds it, or the task has ended.
    Lost,
}

impl ScopeStore {
    /// Extends the leases to the policy's lease time from now; one answer per lease, in order. Under another policy
    /// than the stored one a lease that lasts longer stays as it is.
    pub async fn renew(
        &self,
        policy: &CompiledPolicy,
        leases: &[(TaskId, FencingToken)],
    ) -> Result<Vec<Renewal>, StoreError> {
        let mut renewals = Vec::with_capacity(leases.len());
        for batch in leases.chunks(RENEW_BATCH) {
            let keys = vec![self.keys.lease(), self.keys.run(), self.keys.cancelled(), self.keys.scope()];
            let stamp = policy.stamp().as_u64().to_string();
            let mut args = vec![self.now_arg(), policy.lease_ms.to_string().into(), stamp.into()];
            for (task_id, token) in batch {
                args.push(task_id.as_str().into());
                args.push(token.to_string().into());
            }
            let mut reply = Reply::new("renew", RENEW.call(&self.store, keys, args).await?)?;
            for _ in batch {
                renewals.push(match reply.int()? {
                    0 => Renewal::Lost,
                    1 => Renewal::Held,
                    _ => Renewal::Cancelled,
                });
            }
        }
        Ok(renewals)
    }
}
