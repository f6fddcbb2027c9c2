//! The policy this gateway decides under, in every form a request needs it in.
//!
//! Responsible for swapping all forms together, so that no request sees the numbers of one revision and the limits of
//! another. Must never be the judge of which revision is current: the script is.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::HeaderValue;
use portcullis_config::{Policy, UserType};
use portcullis_lua::CompiledPolicy;

use crate::ratelimit_field;

/// One revision of the policy.
#[derive(Debug)]
pub struct PolicyInForce {
    policy: Arc<Policy>,
    compiled: Arc<CompiledPolicy>,
    revision_header: HeaderValue,
    /// `RateLimit-Policy` by user type; it changes only with the policy, so it is written once.
    limit_headers: BTreeMap<UserType, HeaderValue>,
}

impl PolicyInForce {
    fn new(policy: Policy, revision: u64) -> Self {
        let compiled = CompiledPolicy::new(&policy, revision);
        let limit_headers = policy
            .known_types()
            .into_iter()
            .filter_map(|user_type| {
                let header = ratelimit_field::policy_list(&compiled.limits_of(&user_type))?;
                Some((user_type, header))
            })
            .collect();
        Self {
            policy: Arc::new(policy),
            compiled: Arc::new(compiled),
            revision_header: HeaderValue::from(revision),
            limit_headers,
        }
    }

    /// The document.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The document prepared for the scripts.
    #[must_use]
    pub fn compiled(&self) -> &Arc<CompiledPolicy> {
        &self.compiled
    }

    /// Its number in the scope; 0 is the document the gateway was started with.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.compiled.revision()
    }

    /// `X-Policy-Revision`.
    pub(crate) fn revision_header(&self) -> &HeaderValue {
        &self.revision_header
    }

    /// `RateLimit-Policy` of a user type; `None` when nothing limits it.
    pub(crate) fn limit_header(&self, user_type: &UserType) -> Option<&HeaderValue> {
        self.limit_headers.get(user_type)
    }
}

/// The place every request takes the current policy from. Clones share it.
#[derive(Clone, Debug)]
pub struct PolicyHandle(Arc<ArcSwap<PolicyInForce>>);

impl PolicyHandle {
    /// A handle on this document.
    #[must_use]
    pub fn new(policy: Policy, revision: u64) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(PolicyInForce::new(policy, revision))))
    }

    /// What is in force now.
    #[must_use]
    pub fn load(&self) -> Arc<PolicyInForce> {
        self.0.load_full()
    }

    /// Puts another revision in force for every request that starts from now on.
    pub fn replace(&self, policy: Policy, revision: u64) {
        self.0.store(Arc::new(PolicyInForce::new(policy, revision)));
    }
}
