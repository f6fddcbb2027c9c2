//! The policy that is shipped: `default.yaml`, compiled into the binary.
//!
//! Responsible for reading it once. Must never repeat one of its numbers.

use std::sync::LazyLock;

use serde_json::Value;

use crate::policy::Policy;

/// The text of the shipped policy, comments included.
pub const DEFAULT_YAML: &str = include_str!("../default.yaml");

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_yaml_ng::from_str(DEFAULT_YAML).expect("the shipped policy is YAML"));

/// The shipped policy as a document; its tenant and project are placeholders.
pub(crate) fn document() -> &'static Value {
    &DOCUMENT
}

impl Policy {
    /// The shipped policy for this tenant and project, whose names [`Policy::scope`] checks.
    ///
    /// # Panics
    /// Never in a release: the shipped policy is part of the binary and the tests of this crate read it.
    #[must_use]
    pub fn shipped(tenant: &str, project: &str) -> Self {
        let mut document = document().clone();
        document["tenant"] = tenant.into();
        document["project"] = project.into();
        serde_json::from_value(document).expect("the shipped policy has the shape of a policy")
    }
}
