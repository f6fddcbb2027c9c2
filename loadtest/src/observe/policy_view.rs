//! The policy in force, as somebody reads it who only looks on.
//!
//! Responsible for knowing the thresholds and amounts that the state is held against. Must never store or give back a
//! policy, as replicas do: an observer that repaired what it watches would hide what is broken.

use std::sync::Arc;

use portcullis_config::{Component, Policy};
use portcullis_lua::{CompiledPolicy, PolicyStamp, ScopeStore, StoreError};

/// A policy in both its forms.
#[derive(Clone, Debug)]
pub(super) struct PolicyView {
    pub(super) policy: Arc<Policy>,
    pub(super) compiled: Arc<CompiledPolicy>,
}

impl PolicyView {
    /// The policy of a scope that has none stored.
    pub(super) fn boot(policy: Policy) -> Self {
        let compiled = Arc::new(CompiledPolicy::new(&policy, PolicyStamp::NONE));
        Self { policy: Arc::new(policy), compiled }
    }

    /// Takes over what is stored, unless it is this revision. A document that cannot be read changes nothing.
    pub(super) async fn follow(&mut self, store: &ScopeStore, revision: u64) -> Result<(), StoreError> {
        if self.compiled.revision() == revision {
            return Ok(());
        }
        if let Some(stored) = store.stored_policy().await?
            && let Ok(loaded) = portcullis_config::parse(&stored.document, Component::Ingress, &|_| None)
        {
            let compiled = Arc::new(CompiledPolicy::new(&loaded.policy, stored.stamp));
            *self = Self { policy: Arc::new(loaded.policy), compiled };
        }
        Ok(())
    }
}
