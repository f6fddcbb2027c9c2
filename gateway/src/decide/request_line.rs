//! The request that a decision is about, and its route class.
//!
//! Responsible for reading a target as the application will. Must never let a request through lightly because less was
//! said about it: where the method is not known, any of them may be meant. Must never choose between two classes with
//! gates: the limits of one are not those of the other.

use std::collections::BTreeSet;

use axum::http::{Method, Uri};
use portcullis_config::RouteClass;
use portcullis_config::policy::GUARDED;

use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Refused, RequestFault};

/// Any method that no class names: a class names methods in letters.
const OTHER: &str = "";

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
    /// wrong with it.
    pub(crate) fn new(method: Option<String>, target: &str) -> Result<Self, &'static str> {
        let method = method.filter(|method| !method.is_empty());
        if method.as_ref().is_some_and(|method| Method::from_bytes(method.as_bytes()).is_err()) {
            return Err("must not be asked about with a method that is none");
        }
        // Proxies and applications differ about what stands behind it.
        if target.contains('#') {
            return Err("must not have a fragment");
        }
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let path =
            if path.starts_with('/') { Some(path) } else { path.split_once("://").map(|(_, rest)| from_slash(rest)) };
        let path = path.ok_or("must be a path that begins with '/', or a whole URI")?.to_owned();
        Ok(Self { method, path })
    }

    /// Its method; `None`: it was not said.
    pub(crate) fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// Method and target, where both were said.
    pub(crate) fn said(&self) -> Option<(Method, Uri)> {
        Some((self.method.as_ref()?.parse().ok()?, self.path.parse().ok()?))
    }

    /// Its class under this policy; of a request nobody described, the built-in guarded one. Where the method was not
    /// said, the class with gates that any method would have.
    pub(crate) fn class_of(line: Option<&Self>, policy: &PolicyInForce) -> RouteClass {
        let Some(Self { method, path }) = line else {
            return RouteClass::Guarded { class: GUARDED.into(), throttled: true };
        };
        match method {
            Some(method) => policy.route_class(method, path),
            None => gated(path, policy).next().unwrap_or_else(|| policy.route_class(OTHER, path)),
        }
    }

    /// Refuses a request whose method was not said where its class depends on it.
    pub(crate) fn has_one_class(line: Option<&Self>, policy: &PolicyInForce) -> Result<(), Refused> {
        let Some(Self { method: None, path }) = line else { return Ok(()) };
        let mut classes = gated(path, policy);
        let first = classes.next();
        if classes.all(|class| Some(class) == first) {
            return Ok(());
        }
        let message = "is required: the class of this path depends on it";
        Err(Refused::invalid(vec![RequestFault::new("method", message)]))
    }
}

/// The classes with gates that a path has by one method or another.
fn gated(path: &str, policy: &PolicyInForce) -> impl Iterator<Item = RouteClass> {
    let declared = policy.policy().route_classes.values().filter_map(|class| class.methods.as_ref());
    let methods: BTreeSet<&str> = declared.flatten().map(String::as_str).chain([OTHER]).collect();
    let classes = methods.into_iter().map(move |method| policy.route_class(method, path));
    classes.filter(|class| matches!(class, RouteClass::Guarded { .. }))
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
    fn a_request_is_known_where_method_and_target_were_said() {
        let said =
            |method: Option<&str>| RequestLine::new(method.map(str::to_owned), "http://a/b%20c?d").unwrap().said();
        assert_eq!(said(Some("PUT")), Some((Method::PUT, Uri::from_static("/b%20c"))));
        assert_eq!(said(None), None);
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

    /// Whether a request whose method was not said is refused under this patch of the policy, else its class.
    fn unsaid(patch: &serde_json::Value, target: &str) -> Result<RouteClass, Vec<String>> {
        let (policy, line) = (policy_for_tests(patch, 1), RequestLine::new(None, target).unwrap());
        let paths = |refused: Refused| refused.faults.iter().map(|fault| fault.path.clone()).collect::<Vec<_>>();
        RequestLine::has_one_class(Some(&line), &policy).map_err(paths)?;
        Ok(RequestLine::class_of(Some(&line), &policy))
    }

    #[test]
    fn no_method_that_is_not_said_escapes_its_class() {
        for method in ["HEAD", "PROPFIND", "QUERY"] {
            let class = json!({ "patterns": ["^/reports$"], "methods": [method] });
            assert_eq!(unsaid(&json!({ "route_classes": { "r": class } }), "/reports"), Ok(guarded("r")), "{method}");
        }
        assert_eq!(unsaid(&json!({ "bypass_throttling_patterns": ["^/hooks/"] }), "/hooks/1"), Ok(RouteClass::Bypass));
    }

    #[test]
    fn a_method_on_which_the_class_depends_has_to_be_said() {
        let read = json!({ "patterns": ["^/reports$"], "methods": ["GET"] });
        let write = json!({ "patterns": ["^/reports$", "^/orders$"], "methods": ["PUT", "POST"] });
        let two = json!({ "route_classes": { "read-reports": read, "write": write } });
        let ambiguous = Err(vec!["method".to_owned()]);
        assert_eq!(unsaid(&two, "/reports"), ambiguous);
        assert_eq!(unsaid(&two, "/orders"), Ok(guarded("write")));
        assert_eq!(unsaid(&two, "/news"), Ok(RouteClass::Read));
        let built_in = json!({ "guarded_rest_patterns": ["^/orders$"], "route_classes": two["route_classes"] });
        assert_eq!(unsaid(&built_in, "/orders"), ambiguous, "a GET would be of the class guarded");
        let line = |method: &str| RequestLine::new(Some(method.to_owned()), "/reports").unwrap();
        let policy = policy_for_tests(&two, 1);
        for (method, class) in [("GET", "read-reports"), ("HEAD", "read-reports"), ("POST", "write")] {
            assert!(RequestLine::has_one_class(Some(&line(method)), &policy).is_ok());
            assert_eq!(RequestLine::class_of(Some(&line(method)), &policy), guarded(class));
        }
    }

    #[test]
    fn what_nobody_described_is_guarded_and_what_has_two_readings_is_refused() {
        assert_eq!(RequestLine::class_of(None, &policy_for_tests(&json!({}), 1)), guarded("guarded"));
        for target in ["", "chat", "*", "/chat#x", "http:chat"] {
            assert!(RequestLine::new(None, target).is_err(), "{target}");
        }
        for method in ["GET /", "POST,GET", "P\u{fffd}ST"] {
            assert!(RequestLine::new(Some(method.to_owned()), "/chat").is_err(), "{method}");
        }
    }
}
