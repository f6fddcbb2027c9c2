//! Every Redis key, its type and its lifetime. The only file that spells one.
//!
//! All keys of a scope start with the hash tag `{tenant:project}`, so they share a slot and a script may touch them
//! together on a cluster. Must never build a key from anything but a scope and names the scripts are given.
//!
//! | key | type | holds | lifetime |
//! |---|---|---|---|
//! | `scope` | STRING | policy stamp, times, slots, revocations, head of the decisions, tags, counts | the scope's |
//! | `queue` | ZSET | task id → start tag | until claimed |
//! | `delayed` | ZSET | task id → due ms | until due |
//! | `lease` | ZSET | task id → expiry ms | until settled |
//! | `run` | HASH | task id → token, runs, history | until the task ends |
//! | `task` | HASH | task id → record and payload | until the task ends; of dead letters until evicted |
//! | `pass` | ZSET | pass id → expiry ms, of all in flight | until it ends |
//! | `pass-record` | HASH | pass id → record: what ends it | until it ends |
//! | `dead` | ZSET | task id → time of death | at most `max_dead_letters` |
//! | `cancelled` | SET | ids of running tasks to be cancelled | until they end |
//! | `wake` | LIST | at most one token for idle processors | until popped |
//! | `processor` | HASH | worker → heartbeat | until swept |
//! | `beat` | ZSET | worker → expiry ms | until swept |
//! | `decision` | STREAM | decision events, chained | `max_decision_events` batches |
//! | `breaker-kind` | ZSET | task kind → time its breaker began | at most 256 |
//! | `policy` | HASH | the stored policy: stamp, document, time, about, write id | the scope's |
//! | `revision` | HASH | number → time, about, document before, document | at most `max_policy_revisions` |
//! | `audit` | STREAM | what was changed by whom, chained | `max_audit_events` |
//! | `audit-head` | STRING | number and hash of the newest audit event | the scope's |
//! | `counted` | STREAM | how many decisions were made without an event | `max_audit_events` |
//! | `counted-head` | STRING | number and hash of the newest of these | the scope's |
//! | `ended` | STREAM | how ended what agents were let do, chained | `max_decision_events` |
//! | `ended-head` | STRING | number and hash of the newest of these | the scope's |
//! | `revoked` | ZSET | member a credential dies with → expiry ms | until expired, at most 100,000 |
//! | `revocation` | HASH | the same member → times, ceiling, who and why | the same |
//! | `revoked-order` | ZSET | the same member → number of the change that made it what it is | the same |
//! | `revocation-head` | HASH | number of revocations, epoch of the data, losses of revocations | the scope's |
//! | `gateway` | HASH | gateway → policy stamp it holds, times | ten timeouts after the last report |
//! | `limit:SESSION` | STRING | the session's windows | until they are empty, at most a quarter longer |
//! | `named-limit:NAME:SUBJECT` | STRING | the subject's window of a named limit | the same |
//! | `chain-limit:WINDOW:HASH` | STRING | calls through a hop of a chain of delegations | the same |
//! | `budget:NAME:SUBJECT` | STRING | period end, spent, held | the period; 31 days more while something is held |
//! | `session:DIGEST` | HASH | a session: record, created, expires, last seen | until it expires |
//! | `session-of:PRINCIPAL` | ZSET | digest of a session → expiry ms | the longest of its sessions' |
//! | `write-limit:SUBJECT` | STRING | the subject's windows of writes | as `limit:SESSION` |
//! | `grant:PRINCIPAL` | STRING | as what the principal logged in or delegated, what its provider said | as the first |
//! | `once:DIGEST` | STRING | nothing: that it was used | as long as it could be used again |
//! | `breaker:KIND` | STRING | the kind's breaker | two windows; a day while not closed |
//! | `pool:CLASS` | ZSET | pass id → expiry ms, of the class; without one: as load of the scope | until it ends |
//! | `pool-service:CLASS` | STRING | mean duration of a pass of the pool, ms | a day |
//! | `idempotency:HASH` | STRING | task id and body hash | `idempotency_ttl_seconds` |
//! | `done:TASK` | STRING | outcome of a finished task | `result_ttl_seconds` |
//! | `output:TASK` | STREAM | streamed output | result ttl and attempt timeout after the last piece |
//! | `statistics:HOUR` | HASH | counts of decisions | `throttling_events_retention_hours` |
//! | `flush:GATEWAY` | STRING | number of the last counts it wrote | a day |
//! | `policy-changes` | channel | stamp of the policy just stored; `revoked NUMBER` | |
//! | `changes` | channel | ids of tasks with something new, 26 characters each | |

use std::borrow::Cow;

use fred::types::Key;
use portcullis_config::Scope;
use sha2::{Digest, Sha256};

use crate::task::TaskId;

/// A longer subject stands in a key as its digest: subjects come from callers.
const SUBJECT_BYTES: usize = 64;

/// The keys of one scope.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
    /// Asked for by every refusal that is repeated from memory.
    policy_changes: String,
}

macro_rules! scope_keys {
    ($($name:ident = $text:literal),+ $(,)?) => {
        $(pub(crate) fn $name(&self) -> Key {
            self.of($text)
        })+
    };
}

impl Keys {
    pub(crate) fn new(scope: &Scope) -> Self {
        let prefix = format!("{{{}:{}}}:", scope.tenant(), scope.project());
        Self { policy_changes: format!("{prefix}policy-changes"), prefix }
    }

    scope_keys! {
        scope = "scope",
        queue = "queue",
        delayed = "delayed",
        lease = "lease",
        run = "run",
        task = "task",
        pass = "pass",
        pass_record = "pass-record",
        dead = "dead",
        cancelled = "cancelled",
        wake = "wake",
        processor = "processor",
        beat = "beat",
        decision = "decision",
        breaker_kind = "breaker-kind",
        policy = "policy",
        revision = "revision",
        audit = "audit",
        audit_head = "audit-head",
        counted = "counted",
        counted_head = "counted-head",
        ended = "ended",
        ended_head = "ended-head",
        revoked = "revoked",
        revocation = "revocation",
        revoked_order = "revoked-order",
        revocation_head = "revocation-head",
        gateway = "gateway",
    }

    /// Instead of a class: the pool of passes that count as load of the scope.
    pub(crate) const SHARED_POOL: &str = "";

    pub(crate) fn pool(&self, class: &str) -> Key {
        self.of2("pool:", class)
    }

    pub(crate) fn pool_service(&self, class: &str) -> Key {
        self.of2("pool-service:", class)
    }

    pub(crate) fn policy_changes(&self) -> &str {
        &self.policy_changes
    }

    pub(crate) fn changes(&self) -> String {
        format!("{}changes", self.prefix)
    }

    pub(crate) fn limit(&self, session_id: &str) -> Key {
        self.of2("limit:", session_id)
    }

    pub(crate) fn named_limit(&self, name: &str, subject: &str) -> Key {
        format!("{}named-limit:{name}:{}", self.prefix, bounded(subject)).into()
    }

    /// Of a window this long, of the hop of this hash.
    pub(crate) fn chain_limit(&self, window_ms: u64, hash: &str) -> Key {
        format!("{}chain-limit:{window_ms}:{}", self.prefix, bounded(hash)).into()
    }

    pub(crate) fn budget(&self, name: &str, subject: &str) -> Key {
        format!("{}budget:{name}:{}", self.prefix, bounded(subject)).into()
    }

    pub(crate) fn session(&self, digest: &str) -> Key {
        self.of2("session:", digest)
    }

    pub(crate) fn sessions_of(&self, principal: &str) -> Key {
        self.of2("session-of:", &bounded(principal))
    }

    pub(crate) fn write_limit(&self, subject: &str) -> Key {
        self.of2("write-limit:", &bounded(subject))
    }

    pub(crate) fn grant(&self, principal: &str) -> Key {
        self.of2("grant:", &bounded(principal))
    }

    pub(crate) fn once(&self, digest: &str) -> Key {
        self.of2("once:", digest)
    }

    pub(crate) fn breaker(&self, kind: &str) -> Key {
        self.of2("breaker:", kind)
    }

    pub(crate) fn idempotency(&self, hash: &str) -> Key {
        self.of2("idempotency:", hash)
    }

    pub(crate) fn done(&self, id: &TaskId) -> Key {
        self.of2("done:", id.as_str())
    }

    pub(crate) fn output(&self, id: &TaskId) -> Key {
        self.of2("output:", id.as_str())
    }

    pub(crate) fn statistics(&self, hour_ms: u64) -> Key {
        format!("{}statistics:{hour_ms}", self.prefix).into()
    }

    pub(crate) fn flush(&self, gateway: &str) -> Key {
        self.of2("flush:", gateway)
    }

    fn of(&self, name: &str) -> Key {
        self.of2(name, "")
    }

    fn of2(&self, kind: &str, name: &str) -> Key {
        let mut key = String::with_capacity(self.prefix.len() + kind.len() + name.len());
        key.push_str(&self.prefix);
        key.push_str(kind);
        key.push_str(name);
        key.into()
    }
}

/// A subject as part of a key or member: one that is long, by its digest, which is longer than any that stands for
/// itself.
pub(crate) fn bounded(subject: &str) -> Cow<'_, str> {
    if subject.len() <= SUBJECT_BYTES {
        return subject.into();
    }
    format!("sha256:{}", digest(subject)).into()
}

/// Whether a subject looks like one that is long, as [`bounded`] writes it.
pub(crate) fn is_bounded(subject: &str) -> bool {
    let hex = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit);
    subject.strip_prefix("sha256:").is_some_and(|digest| digest.len() == 64 && digest.bytes().all(hex))
}

/// SHA-256 of a text, hexadecimal.
pub(crate) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().fold(String::with_capacity(2 * digest.len()), |hex, byte| hex + &format!("{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_starts_with_the_scope_as_hash_tag() {
        let keys = Keys::new(&Scope::new("acme", "chat").unwrap());
        let id = TaskId::generate();
        assert_eq!(keys.scope().as_str(), Some("{acme:chat}:scope"));
        assert_eq!(keys.limit("s1").as_str(), Some("{acme:chat}:limit:s1"));
        assert_eq!(keys.budget("daily", "p}{x").as_str(), Some("{acme:chat}:budget:daily:p}{x"));
        assert_eq!(keys.done(&id).as_str(), Some(format!("{{acme:chat}}:done:{id}").as_str()));
        assert_eq!(keys.statistics(7).as_str(), Some("{acme:chat}:statistics:7"));
        assert_eq!(keys.changes(), "{acme:chat}:changes");
    }
    #[test]
    fn a_long_subject_is_bounded_and_stays_apart_from_every_other() {
        let keys = Keys::new(&Scope::new("acme", "chat").unwrap());
        let name = |subject: &str| keys.named_limit("daily", subject).as_str().unwrap().to_owned();
        let long = "x".repeat(1 << 20);
        assert_eq!(name("p}{x"), "{acme:chat}:named-limit:daily:p}{x");
        assert_eq!(name(&"x".repeat(64)), format!("{{acme:chat}}:named-limit:daily:{}", "x".repeat(64)));
        assert!(name(&long).len() < 128);
        assert_ne!(name(&long), name(&long[1..]));
        let digest = name(&long).rsplit("daily:").next().unwrap().to_owned();
        assert_ne!(name(&digest), name(&long), "nobody can name himself after another's digest");
        assert_eq!(
            keys.budget("daily", &long).as_str().unwrap().len(),
            name(&long).len() - "named-limit".len() + "budget".len()
        );
    }
}
