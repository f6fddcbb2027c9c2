//! `extend.lua`: passes last longer.

use fred::types::Value;

use crate::error::StoreError;
use crate::pass::{PASS_BATCH, PassLease};
use crate::reply::Reply;
use crate::script::EXTEND;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Extends the places of passes, each by its own lease time from now; one answer per pass, in order: whether it is
    /// still held. One that has lapsed is lost, also while nobody has taken it back yet.
    pub async fn extend(&self, leases: &[PassLease]) -> Result<Vec<bool>, StoreError> {
        let mut extended = Vec::with_capacity(leases.len());
        for batch in leases.chunks(PASS_BATCH) {
            let mut keys = vec![self.keys.pass()];
            let mut args: Vec<Value> = vec![self.now_arg()];
            for lease in batch {
                keys.push(self.keys.pool(lease.pool()));
                args.push(lease.pass_id.as_str().into());
                args.push(lease.lease_ms.to_string().into());
            }
            let mut reply = Reply::new("extend", EXTEND.call(&self.store, keys, args).await?)?;
            for _ in batch {
                extended.push(reply.int()? == 1);
            }
        }
        Ok(extended)
    }
}
