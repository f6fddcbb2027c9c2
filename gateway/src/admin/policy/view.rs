//! Policies and revisions, as the admin interface shows them.
//!
//! Responsible for their JSON, points in time as RFC 3339. Must never show a secret of a document, whoever wrote it
//! there: every document that leaves goes through `redact.rs`.

use portcullis_config::{PolicyChange, TakesEffect};
use portcullis_lua::{FromBasis, RevisionRecord, RevisionSummary};
use serde_json::{Value, json};

use super::change::Made;
use super::request::ChangeRequest;
use crate::admin::scoped::Scoped;
use crate::admin::{redact, view};
use crate::timestamp::rfc3339;

/// The policy this gateway holds for a scope; `stored_revision` is what Redis says is stored, if it says so.
pub(crate) fn config(scoped: &Scoped, stored_revision: Option<u64>) -> Value {
    let policy = scoped.policy();
    let basis = policy.basis();
    let effective = serde_json::to_value(basis.policy.as_ref()).unwrap_or_default();
    let mut shown = json!({
        "scope": scoped.store().scope(),
        "revision": policy.revision(),
        "stored_revision": stored_revision,
        "fault": scoped.live().fault(),
        "source": source(scoped),
        "origin": null,
        "actor": null,
        "at": null,
    });
    if let (Some(stored), Value::Object(fields)) = (&basis.stored, &mut shown) {
        fields.extend(view::object(&stored.about));
        fields.insert("at".to_owned(), rfc3339(stored.at_ms).into());
    }
    shown["document"] = redact::document(basis.written.as_ref().clone());
    shown["effective"] = redact::document(effective);
    shown
}

/// Where the policy in force came from: `stored`, or the place of the boot document.
pub(crate) fn source(scoped: &Scoped) -> String {
    scoped.policy().basis().boot_source.as_deref().map_or_else(|| "stored".to_owned(), redact::url)
}

/// The answer to a change. What a dry run answers is the same, about what would happen.
pub(crate) fn made(scoped: &Scoped, request: &ChangeRequest, made: &Made, convergence: &Value) -> Value {
    let changes = &made.amended.changes;
    json!({
        "scope": scoped.store().scope(),
        "revision": made.revision,
        "changed": paths(changes, |_| true),
        "restart_required": paths(changes, |change| change.takes_effect == TakesEffect::AfterRestart),
        "without_effect": paths(changes, |change| change.takes_effect == TakesEffect::Never),
        "warnings": made.amended.warnings,
        "dry_run": request.dry_run,
        "convergence": convergence,
    })
}

/// The paths of those changes that are wanted.
pub(crate) fn paths(changes: &[PolicyChange], wanted: impl Fn(&PolicyChange) -> bool) -> Vec<&str> {
    changes.iter().filter(|change| wanted(change)).map(|change| change.path.as_str()).collect()
}

/// A revision without its documents.
pub(crate) fn summary(summary: &RevisionSummary) -> Value {
    redact::values(view::with_time(summary, "at_ms", "at", summary.at_ms))
}

/// A revision with the document before it and its own.
pub(crate) fn record(record: &RevisionRecord) -> Value {
    let mut shown = summary(&record.summary);
    shown["before"] = redact::document(record.before.clone().unwrap_or_default());
    shown["after"] = redact::document(record.after.clone());
    shown
}

#[cfg(test)]
mod tests {
    use portcullis_lua::{About, Origin};

    use super::*;

    #[test]
    fn a_record_says_who_when_and_what_without_secrets() {
        let about = About {
            origin: Origin::Rollback,
            actor: "admin_token".to_owned(),
            reason: Some("too strict".to_owned()),
            rolled_back_to: Some(2),
            changed: vec!["queue.lease_ms".to_owned()],
        };
        let shown = record(&RevisionRecord {
            summary: RevisionSummary { revision: 4, at_ms: 0, about },
            before: None,
            after: json!({"redis_url": "redis://u:canary@db"}),
        });
        let expected = json!({
            "revision": 4, "at": "1970-01-01T00:00:00.000Z", "origin": "rollback", "actor": "admin_token",
            "reason": "too strict", "rolled_back_to": 2, "changed": ["queue.lease_ms"], "before": null,
            "after": {"redis_url": "redis://***@db"},
        });
        assert_eq!(shown, expected);
    }
}
