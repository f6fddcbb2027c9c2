//! A replica without a process around it, and documents to tell apart.

use std::sync::Arc;

use portcullis_config::Component;
use portcullis_lua::{
    About, FromBasis, LivePolicy, NewRevision, Origin, PolicyBasis, PolicyStamp, Retention, Revised, ScopeStore,
    StoreError, StoredPolicy, TaskId,
};
use serde_json::{Value, json};

/// What a replica keeps of a revision when it keeps nothing else.
#[derive(Debug)]
pub(crate) struct Bare(PolicyBasis);

impl FromBasis for Bare {
    fn from_basis(basis: PolicyBasis) -> Self {
        Self(basis)
    }

    fn basis(&self) -> &PolicyBasis {
        &self.0
    }
}

/// Something that follows a scope's policy.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    pub(crate) live: LivePolicy<Bare>,
    pub(crate) store: ScopeStore,
}

impl Replica {
    pub(crate) fn of(store: &ScopeStore, name: &str) -> Self {
        let boot = portcullis_config::parse(&document(store, 0).to_string(), Component::Ingress, &|_| None);
        let boot = boot.expect("a sound document");
        Self { live: LivePolicy::new(store.clone(), Component::Ingress, boot, name), store: store.clone() }
    }

    /// The number of the document in force.
    pub(crate) fn number(&self) -> u64 {
        self.live.load().0.policy.limits.max_queue_size
    }

    /// What is held, as stored.
    pub(crate) fn held(&self) -> Option<Arc<StoredPolicy>> {
        self.live.load().0.stored.clone()
    }

    /// Stores document `number` on top of what is held.
    pub(crate) async fn write(&self, number: u64) -> Result<Revised, StoreError> {
        let revised = revise(&self.store, self.live.stamp(), number).await;
        if let Ok(Revised::Stored(stored)) = &revised {
            self.live.adopt(stored.clone());
        }
        revised
    }
}

/// A document with a number in it.
pub(crate) fn document(store: &ScopeStore, number: u64) -> Value {
    let scope = store.scope();
    json!({"tenant": scope.tenant(), "project": scope.project(), "limits": {"max_queue_size": number}})
}

/// Stores document `number` if `expected` is stored.
pub(crate) async fn revise(store: &ScopeStore, expected: PolicyStamp, number: u64) -> Result<Revised, StoreError> {
    store.revise(expected, RETENTION, &new(store, number)).await
}

/// Document `number` as a new revision.
pub(crate) fn new(store: &ScopeStore, number: u64) -> NewRevision {
    let about = About {
        origin: Origin::Update,
        actor: format!("writer of {number}"),
        reason: None,
        rolled_back_to: None,
        changed: vec!["limits.max_queue_size".to_owned()],
    };
    NewRevision { document: document(store, number), about, write_id: TaskId::generate().to_string() }
}

/// More than any test writes.
pub(crate) const RETENTION: Retention = Retention { max_revisions: 1000, max_audit_events: 1000 };
