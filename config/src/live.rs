//! The policy in force, replaced while requests are being decided.
//!
//! Responsible for one thing: a reader gets one whole policy, the old or the new, and never waits. Must never check a
//! policy: whoever replaces it has done so.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::policy::Policy;

/// A handle on the policy in force; every clone sees the same policy.
#[derive(Clone, Debug)]
pub struct LivePolicy(Arc<ArcSwap<Policy>>);

impl LivePolicy {
    /// A handle that starts with this policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(policy)))
    }

    /// The policy in force now. Hold it for one decision, not for longer.
    #[must_use]
    pub fn load(&self) -> Arc<Policy> {
        self.0.load_full()
    }

    /// Puts another policy in force for every clone; decisions under way finish under the one they loaded.
    pub fn replace(&self, policy: Policy) {
        self.0.store(Arc::new(policy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_sees_the_replacement_and_a_loaded_policy_stays_whole() {
        let live = LivePolicy::new(Policy::shipped("acme", "shop"));
        let clone = live.clone();
        let before = clone.load();
        live.replace(Policy::shipped("acme", "other"));
        assert_eq!(before.project, "shop");
        assert_eq!(clone.load().project, "other");
    }
}
