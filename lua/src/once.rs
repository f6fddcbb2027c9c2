//! What may be used once: proofs of possession, by their ids.
//!
//! No script: one command is atomic by itself. Must never keep what a caller sent, only its digest.

use fred::interfaces::KeysInterface;
use fred::types::{Expiration, SetOptions};

use crate::error::StoreError;
use crate::key::digest;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Whether this has not been used in the scope within the last `lasts_ms`; from now on it has. A lost answer counts
    /// as used.
    pub async fn once(&self, id: &str, lasts_ms: u64) -> Result<bool, StoreError> {
        let expiry = Some(Expiration::PX(i64::try_from(lasts_ms.max(1)).unwrap_or(i64::MAX)));
        let set: Option<String> =
            self.store.client().set(self.keys.once(&digest(id)), "", expiry, Some(SetOptions::NX), false).await?;
        Ok(set.is_some())
    }
}
