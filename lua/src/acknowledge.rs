//! `acknowledge.lua`: an operator has seen that revocations were lost.

use crate::error::StoreError;
use crate::grounds::Grounds;
use crate::script::ACKNOWLEDGE;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Ends the refusal of delegated callers that began with a loss of revocations, on every gateway that notices this;
    /// the scope's number of revocations now. Harmless where none were lost.
    pub async fn acknowledge_loss(&self, grounds: Grounds<'_>) -> Result<u64, StoreError> {
        let (keys, args) = self.said_of_revocations(grounds);
        let answer = ACKNOWLEDGE.call(&self.store, keys, args).await?;
        let number = answer.as_i64().map(i64::unsigned_abs);
        number.ok_or_else(|| StoreError::Protocol("acknowledge returned no number".to_owned()))
    }
}
