//! The request that a decision is about, and its route class.
//!
//! Responsible for reading a target as the application will. Must never let a request through lightly because less was
//! said about it: where the method is not known, any of them may be meant.

use portcullis_config::RouteClass;
use portcullis_config::policy::GUARDED;

use crate::policy_in_force::PolicyInForce;

/// What an unknown method may be.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A request somebody asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestLine {
    /// `None`: it was not said.
    method: Option<String>,
    /// Without the query.
    path: String,
}

impl RequestLine {
    /// A request of this method for this target: a path with or without a query, or a whole URI. The error says what is
    /// wrong with the target.
    pub(crate) fn new(method: Option<String>, target: &str) -> Result<Self, &'static str> {
        // Proxies and applications differ about what stands behind it.
        if target.contains('#') {
            return Err("must not have a fragment");
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let path =
            if path.starts_with('/') { Some(path) } else { path.split_once("://").map(|(_, rest)| from_slash(rest)) };
        let path = path.ok_or("must be a path that begins with '/', or a whole URI")?.to_owned();
        Ok(Self { method: method.filter(|method| !method.is_empty()), path })
    }

    /// Its class under this policy; of a request nobody described, the built-in guarded one.
    pub(crate) fn class_of(line: Option<&Self>, policy: &PolicyInForce) -> RouteClass {
        let Some(Self { method, path }) = line else {
            return RouteClass::Guarded { class: GUARDED.into(), throttled: true };
        };
        if let Some(method) = method {
            return policy.route_class(method, path);
        }
        let mut classes = METHODS.map(|method| policy.route_class(method, path)).into_iter();
        let first = classes.next().unwrap_or(RouteClass::Read);
        let is_guarded = |class: &RouteClass| matches!(class, RouteClass::Guarded { .. });
        if is_guarded(&first) { first } else { classes.find(is_guarded).unwrap_or(first) }
    }
}

/// The path of a URI whose scheme was taken off.
fn from_slash(rest: &str) -> &str {
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy_in_force::tests::policy_for_tests;

    fn class(method: Option<&str>, target: &str) -> RouteClass {
        let policy = policy_for_tests(
            &json!({ "guarded_rest_patterns": ["^/chat$"], "bypass_throttling_patterns": ["^/hooks/"],
                "route_classes": { "reports": { "patterns": ["^/reports$"], "methods": ["POST"] } } }),
            1,
        );
        let line = RequestLine::new(method.map(str::to_owned), target).unwrap();
        RequestLine::class_of(Some(&line), &policy)
    }

    fn guarded(class: &str) -> RouteClass {
        RouteClass::Guarded { class: class.into(), throttled: true }
    }

    #[test]
    fn a_target_is_classed_by_its_path_alone() {
        for target in ["/chat", "/api/chat?x=/hooks/1", "http://shop.example/chat", "/x/../chat", "/%63hat"] {
            assert_eq!(class(Some("GET"), target), guarded("guarded"), "{target}");
        }
        assert_eq!(class(Some("GET"), "/news?next=/chat"), RouteClass::Read);
        assert_eq!(class(Some("GET"), "/hooks/1"), RouteClass::Bypass);
        assert_eq!(class(Some("GET"), "http://shop.example"), RouteClass::Read);
    }

    #[test]
    fn a_method_that_is_not_said_may_be_any() {
        assert_eq!(class(Some("GET"), "/reports"), RouteClass::Read);
        assert_eq!(class(Some("POST"), "/reports"), guarded("reports"));
        for unsaid in [None, Some("")] {
            assert_eq!(class(unsaid, "/reports"), guarded("reports"));
            assert_eq!(class(unsaid, "/news"), RouteClass::Read);
        }
    }

    #[test]
    fn what_nobody_described_is_guarded_and_what_has_two_readings_is_refused() {
        assert_eq!(RequestLine::class_of(None, &policy_for_tests(&json!({}), 1)), guarded("guarded"));
        for target in ["", "chat", "*", "/chat#x", "http:chat"] {
            assert!(RequestLine::new(None, target).is_err(), "{target}");
        }
    }
}
