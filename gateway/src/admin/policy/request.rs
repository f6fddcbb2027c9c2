//! What a request to change a scope's policy says beside the change itself.
//!
//! Responsible for telling its own keys from those of a policy document, and a patch from a whole document. Must never
//! judge a document: `portcullis-config` does.

use std::time::Duration;

use portcullis_config::Amendment;
use serde_json::Value;

use crate::admin::asked::{Asked, ScopeNames, whole};
use crate::refusal::RequestFault;
use crate::submitted::Submitted;

/// Longest wait for the replicas, seconds: balancers give up on a silent request after a minute.
pub(crate) const MAX_WAIT_SECONDS: u32 = 60;

/// Longest reason, characters.
pub(crate) const MAX_REASON: usize = 500;

/// Where a document that replaces the present one may stand; the last two are the reference system's words.
pub(crate) const WHOLE: [&str; 3] = ["config", "gateway_config", "raw_config"];

/// The keys that every change has, for those who sent another.
const OWN_KEYS: &str = "tenant, project, expected_revision, reason, dry_run";

/// Whose policy is to be changed, on what condition and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ChangeRequest {
    /// The scope.
    pub(crate) names: ScopeNames,
    /// The revision its author has seen; nothing changes if it is another one.
    pub(crate) expected_revision: Option<u64>,
    /// Why, in its author's words.
    pub(crate) reason: Option<String>,
    /// Whether only to say what would happen.
    pub(crate) dry_run: bool,
    /// How long to wait for all replicas.
    pub(crate) wait: Duration,
}

impl ChangeRequest {
    /// Takes its own keys out of the body and reads the query, `?wait=`; faults are noted in the body.
    pub(crate) fn take(body: &mut Submitted, asked: &Asked) -> Self {
        let mut wait = Duration::ZERO;
        body.faults.extend(asked.faults(&["wait"], |_, value| {
            wait = Duration::from_secs(whole(value, 0, MAX_WAIT_SECONDS)?.into());
            Ok(())
        }));
        let names = ScopeNames { tenant: body.take_text("tenant"), project: body.take_text("project") };
        Self {
            names,
            expected_revision: body.take_whole("expected_revision"),
            reason: body.take_reason("reason", MAX_REASON),
            dry_run: body.take_flag("dry_run"),
            wait,
        }
    }
}

/// What is left of an update: a patch, or under a key of its own a document that replaces the present one.
pub(crate) fn take_amendment(body: &mut Submitted) -> Option<Amendment> {
    let given: Vec<(&str, Value)> = WHOLE.iter().filter_map(|name| Some((*name, body.take(name)?))).collect();
    let Some((name, document)) = given.first() else {
        return Some(Amendment::Patch(Value::Object(body.take_rest())));
    };
    let others = given[1..].iter().map(|(other, _)| *other);
    let beside: Vec<&str> = others.chain(body.rest().keys().map(String::as_str)).collect();
    let message = if !beside.is_empty() {
        format!("replaces the whole document, so that nothing else can be changed beside it: {}", beside.join(", "))
    } else if document.is_object() {
        return Some(Amendment::Whole(document.clone()));
    } else {
        "must be a document: a JSON object".to_owned()
    };
    body.faults.push(RequestFault::new(*name, message));
    None
}

/// The revision to go back to.
pub(crate) fn take_revision(body: &mut Submitted) -> Option<u64> {
    let missing = !body.rest().contains_key("revision");
    let revision = body.take_whole("revision");
    if missing {
        body.faults.push(RequestFault::new("revision", "is required"));
    }
    body.nothing_else(&format!("revision, {OWN_KEYS}"));
    revision
}

/// Going back to the boot document takes no further key.
pub(crate) fn take_nothing(body: &mut Submitted) {
    body.nothing_else(OWN_KEYS);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admin::asked::tests::asked;

    fn submitted(body: &Value) -> Submitted {
        Submitted::parse(body.to_string().as_bytes()).unwrap()
    }

    fn paths(body: &Submitted) -> Vec<&str> {
        body.faults.iter().map(|fault| fault.path.as_str()).collect()
    }

    #[test]
    fn its_own_keys_are_told_from_those_of_the_document() {
        let mut body = submitted(&json!({
            "tenant": "acme", "expected_revision": 7, "reason": "Ünïcode too", "dry_run": true, "limits": {"a": null},
        }));
        let request = ChangeRequest::take(&mut body, &asked(&[("wait", "60")]));
        let names = ScopeNames { tenant: Some("acme".to_owned()), project: None };
        let expected = ChangeRequest {
            names,
            expected_revision: Some(7),
            reason: Some("Ünïcode too".to_owned()),
            dry_run: true,
            wait: Duration::from_secs(60),
        };
        assert_eq!(request, expected);
        assert_eq!(take_amendment(&mut body), Some(Amendment::Patch(json!({"limits": {"a": null}}))));
        assert_eq!(body.faults, []);
    }

    #[test]
    fn all_its_faults_are_told_at_once() {
        let mut body = submitted(&json!({
            "tenant": 5, "project": ["a"], "expected_revision": "7", "reason": "a\nb", "dry_run": 1,
        }));
        // A scope in the query would be taken for heeded: it belongs into the body.
        ChangeRequest::take(&mut body, &asked(&[("wait", "61"), ("tenant", "acme")]));
        let all = ["wait", "tenant", "tenant", "project", "expected_revision", "reason", "dry_run"];
        assert_eq!(paths(&body), all);
    }

    #[test]
    fn a_reason_is_short_and_readable_and_no_place_for_a_credential() {
        for (reason, fits) in [
            ("a".repeat(500), true),
            ("a".repeat(501), false),
            (" ".to_owned(), false),
            ("\u{7}".to_owned(), false),
            (format!("as gs_{} wished", "canary0".repeat(6)), false),
        ] {
            let mut body = submitted(&json!({"reason": reason}));
            let request = ChangeRequest::take(&mut body, &asked(&[]));
            assert_eq!((request.reason.is_some(), body.faults.is_empty()), (fits, fits), "{reason}");
        }
    }

    #[test]
    fn a_whole_document_stands_under_a_key_of_its_own_and_alone() {
        for name in WHOLE {
            let mut body = submitted(&json!({name: {"queue": {}}}));
            assert_eq!(take_amendment(&mut body), Some(Amendment::Whole(json!({"queue": {}}))));
        }
        for (body, path) in [
            (json!({"config": {}, "limits": {}}), "config"),
            (json!({"raw_config": {}, "gateway_config": {}}), "gateway_config"),
            (json!({"config": "queue: {}"}), "config"),
        ] {
            let mut body = submitted(&body);
            assert_eq!(take_amendment(&mut body), None);
            assert_eq!(paths(&body), [path]);
        }
    }

    #[test]
    fn a_rollback_names_a_revision_and_a_reset_nothing() {
        let revision = |body: &Value| {
            let mut body = submitted(body);
            (take_revision(&mut body), paths(&body).into_iter().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(revision(&json!({"revision": 3})), (Some(3), vec![]));
        assert_eq!(revision(&json!({})), (None, vec!["revision".to_owned()]));
        assert_eq!(revision(&json!({"revision": -1, "limits": {}})).1, ["revision", "limits"]);
        let mut body = submitted(&json!({"revision": 3}));
        take_nothing(&mut body);
        assert_eq!(paths(&body), ["revision"]);
    }
}
