//! On what grounds something about credentials is changed.
//!
//! Responsible for what every such change is told besides what it changes: by whom and why, for the audit event, and what
//! a set of revocations is called that does not exist yet. Must never judge whether the grounds are good.

/// Who changes something and why, for the audit event.
#[derive(Clone, Copy, Debug)]
pub struct Grounds<'a> {
    /// Who.
    pub by: &'a str,
    /// Why, in their words.
    pub reason: &'a str,
    /// `monitoring.max_audit_events`.
    pub max_audit_events: u64,
}

/// Names a set of revocations, should it be the first.
pub(crate) fn new_epoch() -> String {
    ulid::Ulid::generate().to_string()
}
