//! `follow.lua`: a gateway says which policy it holds and hears which is stored.

use fred::interfaces::HashesInterface;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::script::FOLLOW;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::stored_policy::stamp;

/// What a gateway reports of itself in a scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Name of the instance.
    pub name: String,
    /// The rest of it.
    pub said: Said,
    /// The policy it decides under.
    pub stamp: PolicyStamp,
    /// How long the report holds, ms.
    pub timeout_ms: u64,
}

/// The part of a report that only people read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Version of its binary.
    pub version: String,
    /// Why it cannot put the stored policy in force, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl ScopeStore {
    /// Reports a gateway; the stamp that is stored now.
    pub async fn follow(&self, presence: &Presence) -> Result<PolicyStamp, StoreError> {
        let said = serde_json::to_string(&presence.said).map_err(|error| StoreError::Protocol(error.to_string()))?;
        let args = vec![
            self.now_arg(),
            presence.name.as_str().into(),
            presence.stamp.as_u64().to_string().into(),
            presence.timeout_ms.to_string().into(),
            said.into(),
        ];
        let answer = FOLLOW.call(&self.store, vec![self.keys.scope(), self.keys.gateway()], args).await?;
        answer.as_i64().map(stamp).ok_or_else(|| StoreError::Protocol("follow returned no stamp".to_owned()))
    }

    /// Forgets a gateway that no longer serves the scope.
    pub async fn unfollow(&self, name: &str) -> Result<(), StoreError> {
        let _: i64 = self.store.client().hdel(self.keys.gateway(), name).await?;
        Ok(())
    }
}
