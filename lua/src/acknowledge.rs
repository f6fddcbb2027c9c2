//! `acknowledge.lua`: an operator has seen that revocations were lost.

use fred::types::Value;
use serde_json::json;

use crate::error::StoreError;
use crate::grounds::{Grounds, new_epoch};
use crate::script::ACKNOWLEDGE;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Ends the refusal of delegated callers that began with a loss of revocations, on every gateway that notices this;
    /// the scope's number of revocations now. Harmless where none were lost.
    pub async fn acknowledge_loss(&self, grounds: Grounds<'_>) -> Result<u64, StoreError> {
        let k = &self.keys;
        let keys = vec![k.scope(), k.revocation_head(), k.audit(), k.audit_head()];
        let args: Vec<Value> = vec![
            self.now_arg(),
            k.policy_changes().into(),
            grounds.max_audit_events.to_string().into(),
            new_epoch().into(),
            grounds.by.into(),
            self.told(json!({"reason": grounds.reason})).to_string().into(),
            ulid::Ulid::generate().to_string().into(),
        ];
        let answer = ACKNOWLEDGE.call(&self.store, keys, args).await?;
        let number = answer.as_i64().map(i64::unsigned_abs);
        number.ok_or_else(|| StoreError::Protocol("acknowledge returned no number".to_owned()))
    }
}
