//! As what principals delegated lately: whoever delegated as more than it has become has to be lowered.
//!
//! No script: each of the two is one command. Must never be what a revocation rests on: it only says for whom to look.

use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use portcullis_config::UserType;

use crate::error::StoreError;
use crate::store::ScopeStore;

/// As what a principal delegated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// As this user type.
    pub user_type: String,
    /// By a credential that was issued then, ms since the epoch: what was issued before says nothing against it.
    pub as_of_ms: u64,
}

impl ScopeStore {
    /// Notes that this principal is of this user type by what was issued then; forgotten after `lasts_ms`, when nothing
    /// it granted is left.
    pub async fn note_grant(
        &self,
        principal: &str,
        user_type: &UserType,
        as_of_ms: u64,
        lasts_ms: u64,
    ) -> Result<(), StoreError> {
        let expiry = Some(Expiration::PX(i64::try_from(lasts_ms.max(1)).unwrap_or(i64::MAX)));
        let noted = format!("{as_of_ms} {user_type}");
        self.store.client().set::<(), _, _>(self.keys.grant(principal), noted, expiry, None, false).await?;
        Ok(())
    }

    /// As what this principal last delegated, if that was lately.
    pub async fn granted_as(&self, principal: &str) -> Result<Option<Granted>, StoreError> {
        let noted: Option<String> = self.store.client().get(self.keys.grant(principal)).await?;
        let read = |noted: String| {
            let (as_of, user_type) = noted.split_once(' ')?;
            Some(Granted { user_type: user_type.to_owned(), as_of_ms: as_of.parse().ok()? })
        };
        noted.map(|noted| read(noted).ok_or_else(|| StoreError::Protocol("a grant of no form".to_owned()))).transpose()
    }
}
