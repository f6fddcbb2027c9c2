//! `revise.lua`: makes a document the scope's policy, if the stored one is the one its author saw.
//!
//! Must never report a failure that was a success: a lost answer is looked up.

use std::time::Duration;

use fred::types::Value;
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use crate::error::StoreError;
use crate::reply::Reply;
use crate::script::REVISE;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::stored_policy::{About, Retention, StoredPolicy, stamp};

/// How long a writer whose answer was lost keeps asking what became of its document.
const READ_BACK: Duration = Duration::from_secs(2);

/// Pause between two such questions.
const READ_BACK_PAUSE: Duration = Duration::from_millis(50);

/// A document to be stored.
#[derive(Clone, Debug)]
pub struct NewRevision {
    /// The document.
    pub document: Json,
    /// Who writes it, why and how.
    pub about: About,
    /// Names this write, unique; it tells a write whose answer was lost from one that never happened.
    pub write_id: String,
}

/// What became of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revised {
    /// It is the policy.
    Stored(StoredPolicy),
    /// Another policy is stored than its author saw; nothing changed.
    Conflict {
        /// What is stored.
        current: PolicyStamp,
    },
}

impl ScopeStore {
    /// Stores a document if the stored policy is still `expected`. A lost answer is looked up: an error means that
    /// nothing is known, not even after two seconds of asking.
    pub async fn revise(
        &self,
        expected: PolicyStamp,
        retention: Retention,
        new: &NewRevision,
    ) -> Result<Revised, StoreError> {
        let document = new.document.to_string();
        let about = self.told(new.about.encoded()?).to_string();
        let args: Vec<Value> = vec![
            self.now_arg(),
            expected.as_u64().to_string().into(),
            document.as_str().into(),
            PolicyStamp::check(&document).to_string().into(),
            about.into(),
            new.about.actor.as_str().into(),
            new.write_id.as_str().into(),
            retention.max_revisions.to_string().into(),
            retention.max_audit_events.to_string().into(),
            self.keys.policy_changes().into(),
        ];
        let answer = match REVISE.call(&self.store, self.policy_keys(), args).await {
            Err(StoreError::Unavailable(reason)) => return self.read_back(new, StoreError::Unavailable(reason)).await,
            answer => answer?,
        };
        let mut reply = Reply::new("revise", answer)?;
        let (stored, stamp) = (reply.int()? == 1, stamp(reply.int()?));
        if !stored {
            return Ok(Revised::Conflict { current: stamp });
        }
        let at_ms = u64::try_from(reply.int()?).unwrap_or(0);
        Ok(Revised::Stored(StoredPolicy {
            stamp,
            document,
            at_ms,
            about: new.about.clone(),
            write_id: new.write_id.clone(),
        }))
    }

    /// What became of a write whose answer was lost. A command that Redis has not read yet may still run, so that it is
    /// not stored is never known for certain.
    async fn read_back(&self, new: &NewRevision, lost: StoreError) -> Result<Revised, StoreError> {
        let deadline = Instant::now() + READ_BACK;
        while Instant::now() < deadline {
            sleep(READ_BACK_PAUSE).await;
            match self.stored_policy().await {
                Ok(Some(stored)) if stored.write_id == new.write_id => return Ok(Revised::Stored(stored)),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "cannot read back yet"),
            }
        }
        Err(lost)
    }
}
