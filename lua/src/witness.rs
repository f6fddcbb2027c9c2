//! `witness.lua`: audit events about what changes nothing in Redis.

use fred::types::Value;

use crate::error::StoreError;
use crate::grounds::Grounds;
use crate::script::WITNESS;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Appends an audit event: what it is called, by whom (of the grounds, whose reason is not used), and what is known
    /// of it. Must not hold a credential.
    pub async fn witness(
        &self,
        event: &str,
        grounds: Grounds<'_>,
        about: &serde_json::Value,
    ) -> Result<(), StoreError> {
        let keys = vec![self.keys.audit(), self.keys.audit_head()];
        let args: Vec<Value> = vec![
            self.now_arg(),
            grounds.max_audit_events.to_string().into(),
            event.into(),
            grounds.by.into(),
            about.to_string().into(),
        ];
        WITNESS.call(&self.store, keys, args).await.map(drop)
    }
}
