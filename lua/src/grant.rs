//! `grant.lua`: what providers say of principals, and as what principals give out credentials that outlive their own.
//! Who has become less than it was then is served as less.
//!
//! Must never judge who may speak for a provider: the gateway does.

use fred::types::Value;
use portcullis_config::UserType;
use serde_json::json;

use crate::error::StoreError;
use crate::grounds::{Grounds, new_epoch};
use crate::reply::Reply;
use crate::revoke::{REVOKED_MOST_OWN, ceiling_of, kept_by};
use crate::script::GRANT;
use crate::store::ScopeStore;

/// What a credential says its principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated<'a> {
    /// Whose it is.
    pub principal: &'a str,
    /// What it is served as with this credential.
    pub user_type: &'a UserType,
    /// Place of the user type among all, higher is more.
    pub rank: usize,
    /// How new this word is of the provider that knows the principal; `None`: it is not such a word, and says nothing
    /// about what the principal is otherwise.
    pub word: Option<AsOf>,
}

/// How new a provider's word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// Of then, ms since the epoch.
    Time(u64),
    /// Of the moment in which it is noted.
    Now,
}

/// What is known of a principal once a statement is noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// As what it may give something out now: as what was stated, or less if the newest word says less.
    pub at_most: UserType,
    /// How new the newest word is, ms since the epoch, if there is one.
    pub as_of_ms: Option<u64>,
    /// What was given out as more is not served as less yet: so many members are revoked that there is no room.
    pub full: Option<u64>,
}

impl ScopeStore {
    /// Notes that a principal gives something out that lasts so long, not counting what passes until it is made. It
    /// may be no more than what is returned.
    pub async fn note_grant(
        &self,
        stated: Stated<'_>,
        lasts_ms: u64,
        grounds: Grounds<'_>,
    ) -> Result<Noted, StoreError> {
        let noted = self.note(stated, Some(lasts_ms), grounds).await?;
        noted.ok_or_else(|| StoreError::Protocol("grant noted nothing".to_owned()))
    }

    /// Notes what a provider says of a principal; `None` of one that has given nothing out that may be left. Once this
    /// returns, nothing that it gave out is admitted as more than the newest word.
    pub async fn note_word(&self, stated: Stated<'_>, grounds: Grounds<'_>) -> Result<Option<Noted>, StoreError> {
        self.note(stated, None, grounds).await
    }

    async fn note(
        &self,
        stated: Stated<'_>,
        lasts_ms: Option<u64>,
        grounds: Grounds<'_>,
    ) -> Result<Option<Noted>, StoreError> {
        let Stated { principal, user_type, rank, word } = stated;
        let (k, member) = (&self.keys, ceiling_of(principal));
        let mut keys = vec![k.grant(principal), k.scope(), k.revoked(), k.revocation(), k.revoked_order()];
        keys.extend([k.revocation_head(), k.audit(), k.audit_head()]);
        let about = json!({"members": [&member], "reason": grounds.reason, "user_type": user_type.as_str()});
        let said = match word {
            Some(AsOf::Time(as_of_ms)) => as_of_ms.to_string(),
            Some(AsOf::Now) => "now".to_owned(),
            None => String::new(),
        };
        let args: Vec<Value> = vec![
            self.now_arg(),
            user_type.as_str().into(),
            rank.to_string().into(),
            said.into(),
            lasts_ms.map_or_else(String::new, |lasts_ms| lasts_ms.max(1).to_string()).into(),
            member.as_str().into(),
            kept_by(grounds)?.into(),
            REVOKED_MOST_OWN.to_string().into(),
            k.policy_changes().into(),
            new_epoch().into(),
            grounds.max_audit_events.to_string().into(),
            grounds.by.into(),
            self.told(about).to_string().into(),
        ];
        let mut reply = Reply::new("grant", GRANT.call(&self.store, keys, args).await?)?;
        if reply.is_empty() {
            return Ok(None);
        }
        let at_most = UserType::new(reply.text()?).map_err(|error| StoreError::Protocol(error.to_string()))?;
        let (as_of_ms, full) = (u64::try_from(reply.int()?).ok(), u64::try_from(reply.int()?).ok());
        Ok(Some(Noted { at_most, as_of_ms, full }))
    }
}
