//! `restore.lua`: gives Redis back the policy it lost.

use fred::types::Value;

use crate::error::StoreError;
use crate::script::RESTORE;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::stored_policy::{Retention, StoredPolicy, stamp};

impl ScopeStore {
    /// Gives back a policy that this replica holds and Redis may have lost; the stamp that is stored then.
    pub async fn restore(
        &self,
        held: &StoredPolicy,
        retention: Retention,
        replica: &str,
    ) -> Result<PolicyStamp, StoreError> {
        let args: Vec<Value> = vec![
            self.now_arg(),
            held.stamp.as_u64().to_string().into(),
            held.document.as_str().into(),
            held.at_ms.to_string().into(),
            held.about.encode()?.into(),
            replica.into(),
            held.write_id.as_str().into(),
            retention.max_revisions.to_string().into(),
            retention.max_audit_events.to_string().into(),
            self.keys.policy_changes().into(),
        ];
        let answer = RESTORE.call(&self.store, self.policy_keys(), args).await?;
        answer.as_i64().map(stamp).ok_or_else(|| StoreError::Protocol("restore returned no stamp".to_owned()))
    }
}
