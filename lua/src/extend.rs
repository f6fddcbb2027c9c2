//! `extend.lua`: passes last longer, and probes among them are judged as soon as their responses begin.

use bytes::Bytes;
use fred::types::Value;

use crate::error::StoreError;
use crate::pack::Packer;
use crate::pass::{PASS_BATCH, PassExtension};
use crate::policy::{CompiledPolicy, ListedRules};
use crate::reply::Reply;
use crate::script::EXTEND;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Extends the places of passes, each by its own lease time from now, and tells breakers of the heads of probes.
    /// One answer per pass, in order: whether it is still held. One that has lapsed is lost, also while nobody has
    /// taken it back yet. May be repeated.
    pub async fn extend(&self, policy: &CompiledPolicy, extensions: &[PassExtension]) -> Result<Vec<bool>, StoreError> {
        let k = &self.keys;
        let mut extended = Vec::with_capacity(extensions.len());
        for batch in extensions.chunks(PASS_BATCH) {
            let mut keys = vec![k.pass(), k.pass_record(), k.breaker_kind()];
            let rules = ListedRules::new(batch.iter().map(|extension| policy.breaker_of(&extension.lease.kind)));
            let mut args: Vec<Value> = vec![self.now_arg(), rules.packed.into()];
            for (extension, rules_number) in batch.iter().zip(rules.numbers) {
                let lease = &extension.lease;
                keys.extend([k.pool(lease.pool()), k.breaker(&lease.kind)]);
                args.push(lease.pass_id.as_str().into());
                args.push(head(extension, rules_number).into());
                args.push(lease.kind.as_str().into());
            }
            let mut reply = Reply::new("extend", EXTEND.call(&self.store, keys, args).await?)?;
            for _ in batch {
                extended.push(reply.int()? == 1);
            }
        }
        Ok(extended)
    }
}

fn head(extension: &PassExtension, rules_number: u8) -> Bytes {
    let answered_ms = extension.head.map_or(-1.0, |head| head.answered_ms as f64);
    let failed = extension.head.is_some_and(|head| head.failed);
    let mut packed = Packer::with_capacity(18);
    packed.f64(extension.lease.lease_ms as f64).f64(answered_ms).u8(u8::from(failed)).u8(rules_number);
    packed.finish()
}
