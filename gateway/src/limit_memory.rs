//! What the last decision about a caller said is left of its limits, for answers that take no decision.
//!
//! Responsible for `RateLimit` on such answers: reading a task costs nothing and decides nothing, and its caller still
//! plans by what is left. Must never make a number up: a caller that this gateway has decided nothing about of late,
//! or only under another policy, is told its quota (`RateLimit-Policy`) and no more. Nor may it tell one caller of a
//! session what is left to another: each agent has limits of its own, and each address. What is repeated is as old as
//! a few seconds, and its times are never shorter than they should be.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::answer_headers::POLICY_REVISION;
use crate::ratelimit_field::RATELIMIT;

/// Callers remembered at once. At about 400 bytes each this bounds a flood of them to 8 MB.
const MAX_CALLERS: usize = 20_000;

/// How long what is left is worth repeating: other gateways decide about the same caller.
const REPEATED_FOR: Duration = Duration::from_secs(5);

/// Whose limits they are.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Whose<'a> {
    /// Its number in this gateway.
    pub(crate) scope: u64,
    pub(crate) session_id: &'a str,
    /// The last hop of the chain it acts under, by its hash; empty for who acts for itself.
    pub(crate) hop: &'a str,
    /// The digest of its address.
    pub(crate) address: &'a str,
}

/// The same, owned; it hashes alike.
#[derive(Debug, Hash, PartialEq, Eq)]
struct Key {
    scope: u64,
    session_id: Box<str>,
    hop: Box<str>,
    address: Box<str>,
}

impl Equivalent<Key> for Whose<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.scope == key.scope
            && *self.session_id == *key.session_id
            && *self.hop == *key.hop
            && *self.address == *key.address
    }
}

impl Whose<'_> {
    fn key(&self) -> Key {
        let Self { scope, session_id, hop, address } = *self;
        Key { scope, session_id: session_id.into(), hop: hop.into(), address: address.into() }
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
        Self(Cache::new(MAX_CALLERS))
    }

    /// Takes note of what an answer to this caller says is left, or adds what an earlier one said.
    pub(crate) fn complete(&self, whose: Whose<'_>, headers: &mut HeaderMap) {
        let Some(revision) = headers.get(POLICY_REVISION) else { return };
        if let Some(field) = headers.get(RATELIMIT) {
            let left = Left { field: field.clone(), revision: revision.clone(), at: Instant::now() };
            self.0.insert(whose.key(), left);
        } else if let Some(left) = self.0.get(&whose)
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

    const ADA: Whose<'_> = Whose { scope: 1, session_id: "s", hop: "", address: "here" };

    fn repeated(memory: &LimitMemory, whose: Whose<'_>, revision: &'static str) -> bool {
        let mut headers = headers(revision, None);
        memory.complete(whose, &mut headers);
        headers.contains_key(RATELIMIT)
    }

    #[tokio::test(start_paused = true)]
    async fn a_decision_is_repeated_to_its_caller_under_its_policy_for_a_while() {
        let memory = LimitMemory::new();
        assert!(!repeated(&memory, ADA, "7"), "nothing is known");
        memory.complete(ADA, &mut headers("7", Some("\"burst\";r=3;t=4")));
        assert!(repeated(&memory, ADA, "7"));
        for other in [Whose { scope: 2, ..ADA }, Whose { session_id: "t", ..ADA }] {
            assert!(!repeated(&memory, other, "7"), "somebody else");
        }
        for other in [Whose { hop: "h", ..ADA }, Whose { address: "there", ..ADA }] {
            assert!(!repeated(&memory, other, "7"), "the same session, but other limits");
        }
        assert!(!repeated(&memory, ADA, "8"), "another policy");
        let mut newer = headers("7", Some("\"burst\";r=2;t=4"));
        memory.complete(ADA, &mut newer);
        assert_eq!(newer[RATELIMIT], "\"burst\";r=2;t=4", "a decision of its own speaks for itself");
        tokio::time::advance(REPEATED_FOR).await;
        assert!(!repeated(&memory, ADA, "7"), "too old");
    }
}
