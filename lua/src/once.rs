//! What may be used once: proofs of possession, by their ids.
//!
//! Responsible for using it up where nothing is decided with it; what is decided with it is used up by `admit.lua`. No
//! script: one command is atomic by itself. Must never keep what a caller sent, only its digest.

use fred::interfaces::KeysInterface;
use fred::types::{Expiration, SetOptions};

use crate::error::StoreError;
use crate::key::digest;
use crate::store::ScopeStore;

/// Something that may be used once in a scope.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Once {
    pub(crate) digest: String,
    pub(crate) lasts_ms: u32,
}

impl Once {
    /// What has this id, and could be used again for `lasts_ms`.
    #[must_use]
    pub fn new(id: &str, lasts_ms: u32) -> Self {
        Self { digest: digest(id), lasts_ms: lasts_ms.max(1) }
    }
}

impl ScopeStore {
    /// Whether this has not been used in the scope as long ago as it lasts; from now on it has. A lost answer counts as
    /// used.
    pub async fn use_once(&self, once: &Once) -> Result<bool, StoreError> {
        let expiry = Some(Expiration::PX(once.lasts_ms.into()));
        let set: Option<String> =
            self.store.client().set(self.keys.once(&once.digest), "", expiry, Some(SetOptions::NX), false).await?;
        Ok(set.is_some())
    }
}
