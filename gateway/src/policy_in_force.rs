//! The policy a gateway decides under, in every form a request needs it in.
//!
//! Responsible for making all forms of a revision once and together, so that no request sees the numbers of one and the
//! limits of another. Must never be the judge of which revision is current: the script is.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::http::{HeaderMap, HeaderValue};
use portcullis_config::policy::GUARDED;
use portcullis_config::{Policy, RouteClass, Routes, UserType};
use portcullis_lua::{CompiledPolicy, FromBasis, PolicyBasis, PolicyStamp};

use crate::answer_headers::{POLICY_REVISION, TypeHeaders};
use crate::{metric, ratelimit_field};

/// One revision of the policy.
#[derive(Debug)]
pub struct PolicyInForce {
    basis: PolicyBasis,
    revision_header: HeaderValue,
    /// What answers say about each user type; it changes only with the policy, so it is written once.
    type_headers: BTreeMap<UserType, TypeHeaders>,
    /// Compiled once per revision, by the first path that is asked about: compiled patterns are by far the largest form
    /// of a policy, and most of a thousand scopes proxy nothing.
    routes: OnceLock<Option<Routes>>,
}

impl FromBasis for PolicyInForce {
    fn from_basis(basis: PolicyBasis) -> Self {
        metric::policy_loaded();
        let headers = |user_type: UserType| {
            let limits = ratelimit_field::policy_list(&basis.compiled.limits_of(&user_type));
            let headers = TypeHeaders::new(&user_type, limits);
            (user_type, headers)
        };
        Self {
            revision_header: HeaderValue::from(basis.compiled.revision()),
            type_headers: basis.policy.known_types().into_iter().map(headers).collect(),
            routes: OnceLock::new(),
            basis,
        }
    }

    fn basis(&self) -> &PolicyBasis {
        &self.basis
    }
}

impl PolicyInForce {
    /// The document as this component sees it.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.basis.policy
    }

    /// The document prepared for the scripts.
    #[must_use]
    pub fn compiled(&self) -> &Arc<CompiledPolicy> {
        &self.basis.compiled
    }

    /// What it is stored as.
    #[must_use]
    pub fn stamp(&self) -> PolicyStamp {
        self.basis.compiled.stamp()
    }

    /// Its number in the scope; 0 is the document the gateway was started with.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.basis.compiled.revision()
    }

    /// Which gates a request of this method for a path takes. Guarded where the patterns cannot be used, which a
    /// checked policy rules out.
    #[must_use]
    pub fn route_class(&self, method: &str, path: &str) -> RouteClass {
        let routes = self.routes.get_or_init(|| Routes::new(&self.basis.policy).ok());
        let guarded = || RouteClass::Guarded { class: GUARDED.into(), throttled: true };
        routes.as_ref().map_or_else(guarded, |routes| routes.classify(method, path))
    }

    /// Whether any path takes gates, so that there can be passes.
    pub(crate) fn guards_paths(&self) -> bool {
        let policy = &self.basis.policy;
        !policy.guarded_rest_patterns.is_empty() || !policy.route_classes.is_empty()
    }

    /// Writes into an answer what it says about the policy itself.
    pub(crate) fn write_revision(&self, headers: &mut HeaderMap) {
        headers.insert(POLICY_REVISION, self.revision_header.clone());
    }

    /// What answers say about a user type; `None`: the policy does not know it.
    pub(crate) fn type_headers(&self, user_type: &UserType) -> Option<&TypeHeaders> {
        self.type_headers.get(user_type)
    }

    /// All headers of a refusal of this user type, as [`TypeHeaders::refusal`] has them.
    pub(crate) fn refusal_headers(&self, user_type: &UserType) -> Option<HeaderMap> {
        Some(self.type_headers(user_type)?.refusal(&self.revision_header))
    }
}

/// A stamp names a document of a scope, so of one scope the same stamp is the same policy.
impl PartialEq for PolicyInForce {
    fn eq(&self, other: &Self) -> bool {
        self.stamp() == other.stamp()
    }
}

impl Eq for PolicyInForce {}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// This patch of the shipped policy as revision `revision` of the scope acme/demo.
    pub(crate) fn policy_for_tests(patch: &Value, revision: u64) -> Arc<PolicyInForce> {
        let mut document = json!({"tenant": "acme", "project": "demo"});
        portcullis_config::merge_patch(&mut document, patch);
        let loaded = portcullis_config::parse_value(document, portcullis_config::Component::Ingress, &|_| None);
        let loaded = loaded.expect("a sound document");
        let stamp = if revision == 0 { PolicyStamp::NONE } else { PolicyStamp::new(revision, "{}") };
        Arc::new(PolicyInForce::from_basis(PolicyBasis {
            compiled: Arc::new(CompiledPolicy::new(&loaded.policy, stamp)),
            policy: Arc::new(loaded.policy),
            written: Arc::new(loaded.written),
            stored: None,
            boot_source: None,
        }))
    }

    #[test]
    fn every_form_is_of_the_same_revision() {
        let limits = json!({"rate_limits": {"paid": {"burst": 3, "burst_window": 7, "hourly": -1}}});
        let policy = policy_for_tests(&limits, 9);
        let mut headers = HeaderMap::new();
        policy.write_revision(&mut headers);
        assert_eq!((policy.revision(), &headers[POLICY_REVISION]), (9, &HeaderValue::from_static("9")));
        let paid = UserType::new("paid").unwrap();
        let limits = |user_type: &UserType| policy.type_headers(user_type).map(TypeHeaders::limits);
        assert_eq!(limits(&paid).flatten().unwrap(), r#""burst";q=3;w=7"#);
        assert_eq!(limits(&UserType::new("nobility").unwrap()), None);
    }

    #[test]
    fn paths_are_classed_by_the_patterns_of_the_revision() {
        let policy = policy_for_tests(&json!({"guarded_rest_patterns": ["^/api/chat$"]}), 1);
        let guarded = RouteClass::Guarded { class: GUARDED.into(), throttled: true };
        assert_eq!(policy.route_class("GET", "/api/chat"), guarded);
        assert_eq!(policy.route_class("GET", "/api/news"), RouteClass::Read);
        let other = policy_for_tests(&json!({"guarded_rest_patterns": ["^/api/news$"]}), 2);
        assert_eq!(other.route_class("GET", "/api/news"), guarded);
        assert_eq!(other.route_class("GET", "/api/chat"), RouteClass::Read);
    }
}
