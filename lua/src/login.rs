//! `login.lua`: opens sessions.
//!
//! Responsible for what is kept of a session: its token's digest, never the token. Must never judge a credential, nor
//! choose how long a session lasts.

use fred::interfaces::SortedSetsInterface;
use fred::types::Value;
use portcullis_config::UserType;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::StoreError;
use crate::grounds::{Grounds, new_epoch};
use crate::key::digest;
use crate::reply::Reply;
use crate::revoke::{REVOKED_MOST_OWN, kept_by};
use crate::script::LOGIN;
use crate::store::ScopeStore;

/// Sessions that may have to go are named this many at a time.
const NAMED: i64 = 64;
/// How often they are named anew because others logged in meanwhile.
const ROUNDS: usize = 64;
/// How long a session stays revoked that had to go, ms: longer than anybody remembers it, or a delegation that came of
/// it lasts.
const GONE_MS: u64 = 2 * 3_600_000;

/// Where a session is kept: the SHA-256 of its token, 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey(String);

impl SessionKey {
    /// Of the session with this token.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        Self(digest(token))
    }

    /// The key as it is written, if it has the shape of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whom a session lets in, and as what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Whose it is.
    pub principal: String,
    /// What it was opened as; a ceiling may count for less.
    pub user_type: UserType,
    /// What its limits are counted on: the same for every session of a principal, so that a new login mints no new
    /// windows.
    pub session_id: String,
    /// What it may do.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Who vouched for the principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What sort of client it was opened for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_type: Option<String>,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// How long a session lasts and how many a principal may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// From its opening, ms.
    pub lasts_ms: u64,
    /// With one more, the one that ends first is over.
    pub most: u32,
}

/// A session that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// When, Redis clock, ms since the epoch.
    pub created_ms: u64,
    /// When it ends, Redis clock, ms since the epoch.
    pub expires_ms: u64,
    /// Sessions of the principal that are over because of it.
    pub ended: u64,
}

impl ScopeStore {
    /// Opens a session for who is alive by the revocations that are known ([`knowing`](Self::knowing)); where others
    /// are stored, none. Tried again after a lost answer it needs a token of its own: there may be one nobody has.
    pub async fn login(
        &self,
        key: &SessionKey,
        record: &SessionRecord,
        terms: SessionTerms,
        grounds: Grounds<'_>,
    ) -> Result<Opened, StoreError> {
        let kept = serde_json::to_string(record).map_err(|error| StoreError::Protocol(error.to_string()))?;
        // The first twelve digits tell sessions apart for people, and open nothing.
        let about = json!({
            "principal": record.principal,
            "user_type": record.user_type.as_str(),
            "session": &key.as_str()[..12],
            "client_type": record.client_type,
            "issuer": record.issuer,
            "reason": grounds.reason,
        });
        let gone = kept_by(Grounds { reason: "too many sessions", ..grounds })?;
        let k = &self.keys;
        let of = k.sessions_of(&record.principal);
        for _ in 0..ROUNDS {
            let named: Vec<String> =
                self.store.client().zrange(of.clone(), 0, NAMED - 1, None, false, None, false).await?;
            let mut keys = vec![k.session(key.as_str()), of.clone(), k.scope(), k.revoked(), k.revocation()];
            keys.extend([k.revoked_order(), k.revocation_head(), k.audit(), k.audit_head()]);
            keys.extend(named.iter().map(|digest| k.session(digest)));
            let mut args: Vec<Value> = vec![
                self.now_arg(),
                key.as_str().into(),
                kept.as_str().into(),
                terms.lasts_ms.to_string().into(),
                terms.most.max(1).to_string().into(),
                new_epoch().into(),
                grounds.max_audit_events.to_string().into(),
                grounds.by.into(),
                about.to_string().into(),
                k.policy_changes().into(),
                REVOKED_MOST_OWN.to_string().into(),
                GONE_MS.to_string().into(),
                gone.as_str().into(),
                self.revocations.to_string().into(),
            ];
            args.extend(named.into_iter().map(Value::from));
            let mut reply = Reply::new("login", self.by_what_is_known(LOGIN.call(&self.store, keys, args).await)?)?;
            if reply.is_empty() {
                continue;
            }
            let (created_ms, expires_ms) = (reply.int()?.unsigned_abs(), reply.int()?.unsigned_abs());
            return Ok(Opened { created_ms, expires_ms, ended: reply.int()?.unsigned_abs() });
        }
        Err(StoreError::Unavailable("others kept opening sessions of the same principal".to_owned()))
    }
}
