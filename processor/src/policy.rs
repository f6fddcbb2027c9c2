//! The policy in force, as the parts of a processor see it.
//!
//! Responsible for one revision as a whole: what its author meant and what the scripts are called with. Must never mix
//! two revisions: a lease is as long as the policy its script was called with says.

use portcullis_config::Policy;
use portcullis_lua::{CompiledPolicy, FromBasis, LivePolicy, PolicyBasis};

/// The policy of the processor's scope. Loaded where it is used, so that a new one counts from then on.
pub(crate) type ScopePolicy = LivePolicy<ActivePolicy>;

/// One revision of the policy.
#[derive(Debug)]
pub(crate) struct ActivePolicy {
    basis: PolicyBasis,
}

impl ActivePolicy {
    /// What its author meant for processors.
    pub(crate) fn policy(&self) -> &Policy {
        &self.basis.policy
    }

    /// What the scripts are called with.
    pub(crate) fn compiled(&self) -> &CompiledPolicy {
        &self.basis.compiled
    }
}

impl FromBasis for ActivePolicy {
    fn from_basis(basis: PolicyBasis) -> Self {
        Self { basis }
    }

    fn basis(&self) -> &PolicyBasis {
        &self.basis
    }
}
