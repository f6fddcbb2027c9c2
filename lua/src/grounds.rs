//! On what grounds something is changed.
//!
//! Responsible for what every such change is told besides what it changes: by whom, on whose behalf and why, for the
//! audit event, and what a set of revocations is called that does not exist yet. Must never judge whether the grounds
//! are good.

use fred::types::{Key, Value as Argument};
use serde::Serialize;
use serde_json::{Value, json};

use crate::provenance::Hop;
use crate::store::ScopeStore;

/// Who changes something and why, for the audit event.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// Who.
    pub by: &'a str,
    /// Why, in their words.
    pub reason: &'a str,
    /// `monitoring.max_audit_events`.
    pub max_audit_events: u64,
}

/// Names a set of revocations, should it be the first.
pub(crate) fn new_epoch() -> String {
    ulid::Ulid::generate().to_string()
}

/// Whom an agent acts for: its own name is whatever the holder of the chain above it chose.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ActingFor {
    principal: String,
    /// The delegations, the principal's own first.
    chain: Vec<Hop>,
}

impl ScopeStore {
    /// The same scope for what an agent changes in this principal's name, under these delegations, the principal's own
    /// first: audit events say so. Without a delegation, it is the principal itself.
    #[must_use]
    pub fn acting_for(&self, principal: &str, chain: &[Hop]) -> Self {
        let mut store = self.clone();
        let acting = || ActingFor { principal: principal.to_owned(), chain: chain.to_vec() };
        store.acting_for = (!chain.is_empty()).then(|| acting().into());
        store
    }

    /// Keys and arguments of what is said of a set of revocations as a whole, under a name of its own.
    pub(crate) fn said_of_revocations(&self, grounds: Grounds<'_>) -> (Vec<Key>, Vec<Argument>) {
        let k = &self.keys;
        let keys = vec![k.scope(), k.revocation_head(), k.audit(), k.audit_head()];
        let args = vec![
            self.now_arg(),
            k.policy_changes().into(),
            grounds.max_audit_events.to_string().into(),
            new_epoch().into(),
            grounds.by.into(),
            self.told(json!({"reason": grounds.reason})).to_string().into(),
            ulid::Ulid::generate().to_string().into(),
        ];
        (keys, args)
    }

    /// What is known of a change, and on whose behalf it is made.
    pub(crate) fn told(&self, mut about: Value) -> Value {
        if let (Some(acting), Some(fields)) = (&self.acting_for, about.as_object_mut()) {
            fields.insert("acting_for".to_owned(), serde_json::to_value(acting.as_ref()).unwrap_or_default());
        }
        about
    }
}
