//! `witness.lua`: audit events about what changes nothing in Redis.

use fred::types::Value;

use crate::error::StoreError;
use crate::grounds::Grounds;
use crate::script::WITNESS;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Appends an audit event: what it is called, by whom (of the grounds, whose reason is not used), and what is known
    /// of it. Must not hold a credential. Fails where other revocations are stored than are known
    /// ([`knowing`](Self::knowing)).
    pub async fn witness(
        &self,
        event: &str,
        grounds: Grounds<'_>,
        about: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let k = &self.keys;
        let keys = vec![k.audit(), k.audit_head(), k.scope(), k.revocation_head()];
        let args: Vec<Value> = vec![
            self.now_arg(),
            grounds.max_audit_events.to_string().into(),
            event.into(),
            grounds.by.into(),
            about.to_string().into(),
            self.revocations.to_string().into(),
        ];
        self.by_what_is_known(WITNESS.call(&self.store, keys, args).await).map(drop)
    }
}
