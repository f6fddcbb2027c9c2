//! What the last decision about a session said is left of its limits, for answers that take no decision.
//!
//! Responsible for `RateLimit` on such answers: reading a task costs nothing and decides nothing, and its caller still
//! plans by what is left. Must never make a number up: a session that this gateway has decided nothing about of late,
//! or only under another policy, is told its quota (`RateLimit-Policy`) and no more. What is repeated is as old as a
//! few seconds, and its times are never shorter than they should be.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::respond::{POLICY_REVISION, RATELIMIT};

/// Sessions remembered at once. At about 300 bytes each this bounds a flood of sessions to 6 MB.
const MAX_SESSIONS: usize = 20_000;

/// How long what is left is worth repeating: other gateways decide about the same session.
const REPEATED_FOR: Duration = Duration::from_secs(5);

#[derive(Debug, Hash, PartialEq, Eq)]
struct Key {
    scope: u64,
    session_id: Box<str>,
}

/// The same, borrowed; it hashes alike.
#[derive(Hash)]
struct Borrowed<'a> {
    scope: u64,
    session_id: &'a str,
}

impl Equivalent<Key> for Borrowed<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.scope == key.scope && *self.session_id == *key.session_id
    }
}

/// A field as it was written, under which revision and when.
#[derive(Clone, Debug)]
struct Left {
    field: HeaderValue,
    revision: HeaderValue,
    at: Instant,
}

/// The memory of one gateway, for all its scopes.
#[derive(Debug)]
pub(crate) struct LimitMemory(Cache<Key, Left>);

impl LimitMemory {
    pub(crate) fn new() -> Self {
        Self(Cache::new(MAX_SESSIONS))
    }

    /// Takes note of what an answer to this session says is left, or adds what an earlier one said.
    pub(crate) fn complete(&self, scope: u64, session_id: &str, headers: &mut HeaderMap) {
        let Some(revision) = headers.get(POLICY_REVISION) else { return };
        if let Some(field) = headers.get(RATELIMIT) {
            let left = Left { field: field.clone(), revision: revision.clone(), at: Instant::now() };
            self.0.insert(Key { scope, session_id: session_id.into() }, left);
        } else if let Some(left) = self.0.get(&Borrowed { scope, session_id })
            && left.revision == revision
            && left.at.elapsed() < REPEATED_FOR
        {
            headers.insert(RATELIMIT, left.field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(revision: &'static str, field: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(POLICY_REVISION, HeaderValue::from_static(revision));
        if let Some(field) = field {
            headers.insert(RATELIMIT, HeaderValue::from_static(field));
        }
        headers
    }

    fn repeated(memory: &LimitMemory, scope: u64, session_id: &str, revision: &'static str) -> bool {
        let mut headers = headers(revision, None);
        memory.complete(scope, session_id, &mut headers);
        headers.contains_key(RATELIMIT)
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_is_repeated_to_its_session_under_its_policy_for_a_while() {
        let memory = LimitMemory::new();
        assert!(!repeated(&memory, 1, "s", "7"), "nothing is known");
        memory.complete(1, "s", &mut headers("7", Some("\"burst\";r=3;t=4")));
        assert!(repeated(&memory, 1, "s", "7"));
        assert!(!repeated(&memory, 2, "s", "7") && !repeated(&memory, 1, "t", "7"), "somebody else");
        assert!(!repeated(&memory, 1, "s", "8"), "another policy");
        let mut newer = headers("7", Some("\"burst\";r=2;t=4"));
        memory.complete(1, "s", &mut newer);
        assert_eq!(newer[RATELIMIT], "\"burst\";r=2;t=4", "a decision of its own speaks for itself");
        tokio::time::advance(REPEATED_FOR).await;
        assert!(!repeated(&memory, 1, "s", "7"), "too old");
    }
}
