//! As what principals delegated lately: whoever delegated as more than it has become has to be lowered.
//!
//! No script: each of the two is one command. Must never be what a revocation rests on: it only says for whom to look.

use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use portcullis_config::UserType;

use crate::error::StoreError;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Notes that this principal delegates as this user type; forgotten after `lasts_ms`, when nothing it granted is
    /// left.
    pub async fn note_grant(&self, principal: &str, user_type: &UserType, lasts_ms: u64) -> Result<(), StoreError> {
        let expiry = Some(Expiration::PX(i64::try_from(lasts_ms.max(1)).unwrap_or(i64::MAX)));
        let key = self.keys.grant(principal);
        self.store.client().set::<(), _, _>(key, user_type.as_str(), expiry, None, false).await?;
        Ok(())
    }

    /// As what this principal last delegated, if that was lately.
    pub async fn granted_as(&self, principal: &str) -> Result<Option<String>, StoreError> {
        Ok(self.store.client().get(self.keys.grant(principal)).await?)
    }
}
