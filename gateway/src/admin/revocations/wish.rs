//! What an operator wants to be revoked.
//!
//! Responsible for what each kind is known by, and how long it stays revoked: as long as anything may live that dies
//! with it. Must never let a name through that is a credential, for it would be kept where none may be.

use portcullis_delegation::REASON_MAX;
use portcullis_lua::{Member, Revocation, SessionKey};

use crate::delegation_terms::LONGEST_MS;
use crate::refusal::RequestFault;
use crate::submitted::Submitted;

/// What can be revoked.
pub(crate) const KINDS: [&str; 5] = ["principal", "agent", "session", "token", "key"];

/// Longest name, characters.
pub(crate) const MAX_ID: usize = 256;

/// Digests of delegations and thumbprints of keys: SHA-256 in base64url (RFC 4648 §5).
const DIGEST_LENGTH: usize = 43;
/// The id of an API key.
const API_KEY_ID_LENGTH: usize = 8;

/// How long an API key stays revoked, ms: it lives until the operator takes it from the identity document. Ten years.
const API_KEY_MS: u64 = 10 * 365 * 24 * 3_600_000;

/// What is to be revoked, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RevocationWish {
    /// One of [`KINDS`].
    pub(crate) kind: &'static str,
    /// What it is known by.
    pub(crate) id: String,
    /// Why, in the operator's words.
    pub(crate) reason: String,
}

impl RevocationWish {
    /// Takes it out of a body; faults are noted there.
    pub(crate) fn take(body: &mut Submitted) -> Option<Self> {
        let kind = take_kind(body);
        let id = required(body, "id", |body| body.take_name("id", MAX_ID));
        let reason = take_reason(body);
        body.nothing_else("kind, id, reason, tenant, project");
        let (kind, id) = (kind?, id?);
        let fits = match kind {
            "token" => is_digest(&id) || is_api_key_id(&id),
            "key" => is_digest(&id),
            _ => true,
        };
        if !fits {
            let message = match kind {
                "token" => "must be the SHA-256 of a delegation (43 characters) or the id of an API key (8)",
                _ => "must be the thumbprint of a key (RFC 7638), 43 characters",
            };
            return body.wrong("id", message);
        }
        Some(Self { kind, id, reason: reason? })
    }

    /// What the store is asked for, where sessions last this long.
    pub(crate) fn revocation(&self, session_ms: u64) -> Revocation {
        let id = self.id.as_str();
        let (member, lasts_ms, spares_later) = match self.kind {
            "principal" => (Member::Principal(id), session_ms.max(LONGEST_MS), true),
            // The id that limits are counted on is that of the next login, too.
            "session" => (Member::Session(id), session_ms.max(LONGEST_MS), self.login().is_none()),
            "agent" => (Member::Agent(id), LONGEST_MS, false),
            "key" => (Member::Key(id), LONGEST_MS, false),
            _ if is_api_key_id(id) => (Member::Token(id), API_KEY_MS, false),
            _ => (Member::Token(id), LONGEST_MS, false),
        };
        Revocation { member: member.as_shown(), lasts_ms, spares_later }
    }

    /// The login, if it is one that is meant.
    pub(crate) fn login(&self) -> Option<SessionKey> {
        if self.kind == "session" { SessionKey::parse(&self.id) } else { None }
    }
}

/// Takes the reason, which has to be given.
pub(crate) fn take_reason(body: &mut Submitted) -> Option<String> {
    required(body, "reason", |body| body.take_reason("reason", MAX_REASON))
}

/// The kind and name of a member.
pub(crate) fn named(member: Option<Member<'_>>) -> Option<(&'static str, &str)> {
    Some(match member? {
        Member::Principal(id) => ("principal", id),
        Member::Agent(id) => ("agent", id),
        Member::Session(id) => ("session", id),
        Member::Token(id) => ("token", id),
        Member::Key(id) => ("key", id),
    })
}

fn take_kind(body: &mut Submitted) -> Option<&'static str> {
    let given = required(body, "kind", |body| body.take_text("kind"))?;
    let known = KINDS.into_iter().find(|kind| *kind == given);
    known.or_else(|| body.wrong("kind", format!("must be one of {}", KINDS.join(", "))))
}

/// What has to be given; a value that is no good has been noted as such.
fn required(body: &mut Submitted, name: &str, take: impl FnOnce(&mut Submitted) -> Option<String>) -> Option<String> {
    let before = body.faults.len();
    let taken = take(body);
    if taken.is_none() && body.faults.len() == before {
        body.faults.push(RequestFault::new(name, "is required"));
    }
    taken
}

fn is_digest(id: &str) -> bool {
    id.len() == DIGEST_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_api_key_id(id: &str) -> bool {
    id.len() == API_KEY_ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Longest reason, characters.
pub(crate) const MAX_REASON: usize = REASON_MAX;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SESSION_MS: u64 = 30 * 24 * 3_600_000;
    const DIGEST: &str = "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg";

    fn take(body: &Value) -> (Option<RevocationWish>, Vec<String>) {
        let mut submitted = Submitted::parse(body.to_string().as_bytes()).unwrap();
        let wish = RevocationWish::take(&mut submitted);
        (wish, submitted.faults.into_iter().map(|fault| fault.path).collect())
    }

    fn revocation(kind: &str, id: &str) -> Revocation {
        let (wish, faults) = take(&json!({"kind": kind, "id": id, "reason": "left"}));
        assert_eq!(faults, Vec::<String>::new(), "{kind} {id}");
        wish.unwrap().revocation(SESSION_MS)
    }

    #[test]
    fn each_kind_stays_revoked_as_long_as_anything_lives_that_dies_with_it() {
        let login = "0123456789abcdef".repeat(4);
        let table = [
            ("principal", "ada", "p:ada", SESSION_MS, true),
            ("session", "user-0123", "s:user-0123", SESSION_MS, true),
            ("session", &login, &format!("s:{login}"), SESSION_MS, false),
            ("agent", "indexer", "c:indexer", LONGEST_MS, false),
            ("key", DIGEST, &format!("k:{DIGEST}"), LONGEST_MS, false),
            ("token", DIGEST, &format!("t:{DIGEST}"), LONGEST_MS, false),
            ("token", "abcd1234", "t:abcd1234", API_KEY_MS, false),
        ];
        for (kind, id, member, lasts_ms, spares_later) in table {
            assert_eq!(revocation(kind, id), Revocation { member: member.to_owned(), lasts_ms, spares_later });
        }
    }

    #[test]
    fn a_long_name_and_the_digest_that_is_shown_of_it_are_the_same() {
        for kind in ["principal", "agent", "session"] {
            let long = revocation(kind, &"a".repeat(65));
            let shown = long.member.split_once(':').unwrap().1;
            assert!(shown.starts_with("sha256:"), "{shown}");
            assert_eq!(revocation(kind, shown), long);
            for other in [&shown[..70], &format!("{shown}0"), &shown.to_uppercase(), &format!("{shown} ")] {
                let other = take(&json!({"kind": kind, "id": other, "reason": "left"})).0;
                assert!(other.is_none_or(|other| other.revocation(SESSION_MS) != long));
            }
        }
    }

    #[test]
    fn sessions_shorter_than_delegations_do_not_shorten_a_revocation() {
        let (wish, _) = take(&json!({"kind": "principal", "id": "ada", "reason": "left"}));
        assert_eq!(wish.unwrap().revocation(1_000).lasts_ms, LONGEST_MS);
    }

    #[test]
    fn every_fault_is_named() {
        let table = [
            (json!({}), vec!["kind", "id", "reason"]),
            (json!({"kind": "user", "id": "", "reason": " ", "until": 5}), vec!["kind", "id", "reason", "until"]),
            (json!({"kind": 5, "id": ["ada"], "reason": null}), vec!["kind", "id", "reason"]),
            (json!({"kind": "token", "id": "ada", "reason": "r"}), vec!["id"]),
            (json!({"kind": "key", "id": "abcd1234", "reason": "r"}), vec!["id"]),
            (
                json!({"kind": "principal", "id": "a".repeat(MAX_ID + 1), "reason": "a".repeat(REASON_MAX + 1)}),
                vec!["id", "reason"],
            ),
            (json!({"kind": "principal", "id": "a\nb", "reason": "a\nb"}), vec!["id", "reason"]),
        ];
        for (body, expected) in table {
            assert_eq!(take(&body), (None, expected.into_iter().map(str::to_owned).collect()), "{body}");
        }
    }

    #[test]
    fn a_credential_is_not_taken_for_a_name() {
        let session = format!("gs_{}", "canary0".repeat(6));
        let signed = "eyJhbGciOiJFZERTQSJ9.eyJjYW5hcnkiOjF9.canary".to_owned();
        for secret in [session, format!("gk_abcd1234_{}", "canary0".repeat(6)), signed] {
            for kind in KINDS {
                let (wish, faults) = take(&json!({"kind": kind, "id": secret, "reason": format!("see {secret}")}));
                assert_eq!((wish, faults), (None, vec!["id".to_owned(), "reason".to_owned()]), "{kind}");
            }
        }
    }
}
