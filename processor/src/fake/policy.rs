//! Policies to test with, made of documents as real ones are.
//!
//! Responsible for changing what is in force without a Redis. Must never make a policy that could not be stored.

use std::time::Duration;

use portcullis_config::{Component, Loaded, Policy, Scope};
use portcullis_lua::{About, LivePolicy, Origin, PolicyStamp, Store, StoreOptions, StoredPolicy};
use serde_json::{Value, json};

use crate::policy::ScopePolicy;

pub(crate) fn scope() -> Scope {
    Scope::new("acme", "shop").unwrap()
}

/// A document that changes the shipped policy this much and has a lease of one second.
fn document(changes: &Value) -> Value {
    let mut document = json!({"tenant": "acme", "project": "shop", "queue": {"lease_ms": 1000}});
    portcullis_config::merge_patch(&mut document, changes);
    document
}

fn loaded(changes: &Value) -> Loaded {
    portcullis_config::parse_value(document(changes), Component::Proc, &|_| None).unwrap()
}

/// The policy of the document without changes.
pub(crate) fn policy() -> Policy {
    loaded(&json!({})).policy
}

/// A policy to start with, which only a test changes: its Redis is not there.
pub(crate) fn live(changes: &Value) -> ScopePolicy {
    let nowhere = StoreOptions {
        url: "redis://127.0.0.1:1".to_owned(),
        connections: 1,
        command_timeout: Duration::from_millis(1),
    };
    LivePolicy::new(Store::open(&nowhere).unwrap().scope(&scope()), Component::Proc, loaded(changes), "test")
}

/// A document as it comes from the store, changed this much.
pub(crate) fn stored(revision: u64, changes: &Value) -> StoredPolicy {
    let document = document(changes).to_string();
    let about = About {
        origin: Origin::Update,
        actor: "ada".to_owned(),
        reason: None,
        rolled_back_to: None,
        changed: Vec::new(),
    };
    let stamp = PolicyStamp::new(revision, &document);
    StoredPolicy { stamp, document, at_ms: 1_700_000_000_000 + revision, about, write_id: revision.to_string() }
}
