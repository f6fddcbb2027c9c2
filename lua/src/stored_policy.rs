//! The policy a scope has in Redis, as it is read.
//!
//! Responsible for what a stored policy consists of. Must never judge a document: whoever stores one has checked it.

use std::collections::HashMap;

use bytes::Bytes;
use fred::interfaces::HashesInterface;
use fred::types::Key;
use portcullis_config::Policy;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::pack::text;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;

/// A policy as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPolicy {
    /// Names it.
    pub stamp: PolicyStamp,
    /// The document as JSON text: what its author wrote, with its slices, without placeholders.
    pub document: String,
    /// When it was written, Redis clock, ms since the epoch; later than what it replaced.
    pub at_ms: u64,
    /// Who wrote it, why and how.
    pub about: About,
    /// Names the write.
    pub write_id: String,
}

/// Who wrote a document, why and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// How it came to be.
    pub origin: Origin,
    /// Who wrote it.
    pub actor: String,
    /// Why, in its author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The revision it repeats, if it is a rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<u64>,
    /// The paths whose effective value it changed.
    #[serde(default)]
    pub changed: Vec<String>,
}

/// How a revision came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Somebody changed the policy.
    Update,
    /// Somebody went back to an earlier revision.
    Rollback,
    /// Somebody went back to the boot document.
    Reset,
    /// A replica was started with `GATEWAY_CONFIG_FORCE_ENV_ON_STARTUP`.
    Boot,
}

/// How many revisions and audit events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `monitoring.max_policy_revisions`.
    pub max_revisions: u64,
    /// `monitoring.max_audit_events`.
    pub max_audit_events: u64,
}

impl Retention {
    /// What a policy says of it.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        Self {
            max_revisions: policy.monitoring.max_policy_revisions,
            max_audit_events: policy.monitoring.max_audit_events,
        }
    }
}

impl About {
    /// As the scripts take it.
    pub(crate) fn encode(&self) -> Result<String, StoreError> {
        self.encoded().map(|about| about.to_string())
    }

    /// As the scripts take it, before it is written.
    pub(crate) fn encoded(&self) -> Result<serde_json::Value, StoreError> {
        serde_json::to_value(self).map_err(|error| StoreError::Protocol(error.to_string()))
    }
}

impl ScopeStore {
    /// The scope's stored policy, if it has one.
    pub async fn stored_policy(&self) -> Result<Option<StoredPolicy>, StoreError> {
        let fields: HashMap<String, Bytes> = self.store.client().hgetall(self.keys.policy()).await?;
        if fields.is_empty() {
            return Ok(None);
        }
        let field = |name: &str| {
            let missing = || StoreError::Protocol(format!("a stored policy without {name}"));
            text(fields.get(name).ok_or_else(missing)?)
        };
        let number = |name: &str| {
            field(name)?.parse().map_err(|_| StoreError::Protocol(format!("a stored policy whose {name} is no number")))
        };
        Ok(Some(StoredPolicy {
            stamp: PolicyStamp::from_u64(number("stamp")?),
            document: field("document")?,
            at_ms: number("at")?,
            about: json(field("about")?.as_bytes())?,
            write_id: field("write")?,
        }))
    }

    /// The keys of `revise` and `restore`.
    pub(crate) fn policy_keys(&self) -> Vec<Key> {
        let k = &self.keys;
        vec![k.scope(), k.policy(), k.revision(), k.audit(), k.audit_head()]
    }
}

/// A stored document or record, or a protocol error.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Protocol(format!("a stored policy: {error}")))
}

/// The stamp a script returned.
pub(crate) fn stamp(returned: i64) -> PolicyStamp {
    PolicyStamp::from_u64(u64::try_from(returned).unwrap_or(0))
}
