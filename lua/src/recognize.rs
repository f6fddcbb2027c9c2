//! `recognize.lua`: whose session a token opens.
//!
//! Must never tell why a session is not there: unknown, ended and expired are one.

use crate::error::StoreError;
use crate::login::{SessionKey, SessionRecord};
use crate::reply::Reply;
use crate::script::RECOGNIZE;
use crate::store::ScopeStore;
use crate::stored_policy::json;

/// A session that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whom it lets in.
    pub record: SessionRecord,
    /// When it was opened, Redis clock, ms since the epoch.
    pub created_ms: u64,
    /// When it ends, Redis clock, ms since the epoch.
    pub expires_ms: u64,
    /// When it was last seen, to a minute, Redis clock, ms since the epoch.
    pub seen_ms: u64,
}

impl ScopeStore {
    /// Looks a session up and notes that it was seen; `None`: there is none that is not over.
    pub async fn recognize(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let keys = vec![self.keys.session(key.as_str())];
        let mut reply = Reply::new("recognize", RECOGNIZE.call(&self.store, keys, vec![self.now_arg()]).await?)?;
        if reply.is_empty() {
            return Ok(None);
        }
        Ok(Some(Session {
            record: json(&reply.bytes()?)?,
            created_ms: reply.int()?.unsigned_abs(),
            expires_ms: reply.int()?.unsigned_abs(),
            seen_ms: reply.int()?.unsigned_abs(),
        }))
    }
}
