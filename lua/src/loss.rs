//! `loss.lua`: revocations that somebody holds and Redis does not are said to be lost.
//!
//! Must never be called for a set that was not compared: whoever says that something is lost stops all agents.

use crate::error::StoreError;
use crate::grounds::Grounds;
use crate::script::LOSS;
use crate::store::ScopeStore;

impl ScopeStore {
    /// Says that the set of this number lacks what was revoked, to all who read it from now on; whether that was news.
    /// Nothing is said where another set is stored by now.
    pub async fn note_loss(&self, number: u64, grounds: Grounds<'_>) -> Result<bool, StoreError> {
        let (keys, mut args) = self.said_of_revocations(grounds);
        args.push(number.to_string().into());
        let answer = LOSS.call(&self.store, keys, args).await?;
        let noted = answer.as_i64().map(|noted| noted == 1);
        noted.ok_or_else(|| StoreError::Protocol("loss returned no number".to_owned()))
    }
}
