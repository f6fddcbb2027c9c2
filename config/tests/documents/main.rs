//! Whole documents through the public interface: what is accepted, what it becomes, and every fault with its path.
//!
//! Must never compare whole messages: their wording is free, the path and the name they give are not.

mod leaves;
mod accepted;
mod amended;
mod reference;
mod example;
mod refused;
mod refused_extras;
mod property;
mod patch_property;
mod fuzz;

use std::collections::BTreeMap;

use portcullis_config::{Component, LoadError, Loaded, parse};

/// The environment of a process that knows its scope.
fn env(name: &str) -> Option<String> {
    match name {
        "TENANT_ID" => Some("acme".to_owned()),
        "PROJECT_ID" => Some("shop".to_owned()),
        _ => None,
    }
}

/// What this document becomes for an ingress.
fn loaded(text: &str) -> Loaded {
    loaded_for(Component::Ingress, text)
}

/// What this document becomes for a component.
fn loaded_for(component: Component, text: &str) -> Loaded {
    parse(text, component, &env).unwrap_or_else(|e| panic!("{e}"))
}

/// The faults of a document, message by path.
fn faults(text: &str) -> BTreeMap<String, String> {
    match parse(text, Component::Ingress, &env) {
        Ok(_) => BTreeMap::new(),
        Err(LoadError::Invalid { faults, .. }) => faults.into_iter().map(|f| (f.path, f.message)).collect(),
        Err(unreadable @ LoadError::Unreadable { .. }) => panic!("{unreadable}"),
    }
}
