//! `grant.lua`: as what principals delegated lately. Whoever delegated as more than it has become has to be lowered.
//!
//! Must never be what a revocation rests on: it only says for whom to look.

use fred::interfaces::KeysInterface;
use fred::types::{Expiration, Value};
use portcullis_config::UserType;

use crate::error::StoreError;
use crate::script::GRANT;
use crate::store::ScopeStore;

/// As what a principal delegated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Place of the user type among all, higher is more.
    pub rank: usize,
    /// As this user type.
    pub user_type: UserType,
    /// By a credential that was issued then, ms since the epoch: what was issued before says nothing against it.
    pub as_of_ms: u64,
}

impl ScopeStore {
    /// Notes that this principal delegates so, beside what it delegated before: of all that, the highest type and the
    /// newest word stay. Forgotten after `lasts_ms`, when nothing it granted is left.
    pub async fn note_grant(&self, principal: &str, granted: &Granted, lasts_ms: u64) -> Result<(), StoreError> {
        let Granted { rank, user_type, as_of_ms } = granted;
        let args: Vec<Value> = vec![
            as_of_ms.to_string().into(),
            rank.to_string().into(),
            user_type.as_str().into(),
            lasts_ms.max(1).to_string().into(),
        ];
        GRANT.call(&self.store, vec![self.keys.grant(principal)], args).await?;
        Ok(())
    }

    /// Notes that all this principal delegated before is served as this from now on.
    pub async fn replace_grant(&self, principal: &str, granted: &Granted, lasts_ms: u64) -> Result<(), StoreError> {
        let expiry = Some(Expiration::PX(i64::try_from(lasts_ms.max(1)).unwrap_or(i64::MAX)));
        let noted = format!("{} {} {}", granted.as_of_ms, granted.rank, granted.user_type);
        self.store.client().set::<(), _, _>(self.keys.grant(principal), noted, expiry, None, false).await?;
        Ok(())
    }

    /// As what this principal delegated at most, if it did lately.
    pub async fn granted_as(&self, principal: &str) -> Result<Option<Granted>, StoreError> {
        let noted: Option<String> = self.store.client().get(self.keys.grant(principal)).await?;
        noted.map(|noted| read(&noted).ok_or_else(|| StoreError::Protocol("a grant of no form".to_owned()))).transpose()
    }
}

fn read(noted: &str) -> Option<Granted> {
    let mut words = noted.splitn(3, ' ');
    let (as_of_ms, rank) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Granted { rank, user_type: UserType::new(words.next()?).ok()?, as_of_ms })
}
