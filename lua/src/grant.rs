//! `grant.lua`: as what principals logged in or delegated lately. Whoever did as more than it has become has to be
//! lowered.
//!
//! Must never be what a revocation rests on: it only says for whom to look.

use fred::interfaces::KeysInterface;
use fred::types::{Expiration, SetOptions, Value};
use portcullis_config::UserType;

use crate::error::StoreError;
use crate::script::GRANT;
use crate::store::ScopeStore;

/// As what a principal gave out credentials that outlive its own: sessions and delegations.
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
    /// Notes that this principal grants so, beside what it granted before: of all that, the highest type and the newest
    /// word stay. Forgotten after the longest `lasts_ms`, when nothing it granted is left.
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

    /// Notes that all this principal granted before, if anything is left of it, is served as this from now on.
    pub async fn replace_grant(&self, principal: &str, granted: &Granted) -> Result<(), StoreError> {
        let noted = format!("{} {} {}", granted.as_of_ms, granted.rank, granted.user_type);
        let (expiry, only) = (Some(Expiration::KEEPTTL), Some(SetOptions::XX));
        self.store.client().set::<(), _, _>(self.keys.grant(principal), noted, expiry, only, false).await?;
        Ok(())
    }

    /// How long there may be something left of what this principal granted, ms.
    pub async fn granted_for_ms(&self, principal: &str) -> Result<u64, StoreError> {
        let left_ms: i64 = self.store.client().pttl(self.keys.grant(principal)).await?;
        Ok(u64::try_from(left_ms).unwrap_or(0))
    }

    /// As what this principal granted at most, if it did lately.
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
