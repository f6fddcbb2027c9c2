//! `revoke.lua`: kills credentials by what they die with.
//!
//! Responsible for the names of what a credential dies with, and for saying who revoked what and why. Must never judge
//! who may revoke what: the gateway does.

use std::fmt;

use fred::interfaces::HashesInterface;
use fred::types::Value;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::StoreError;
use crate::grounds::{Grounds, new_epoch};
use crate::key::{bounded, is_bounded};
use crate::login::{SessionKey, SessionRecord};
use crate::reply::Reply;
use crate::script::REVOKE;
use crate::store::ScopeStore;
use crate::stored_policy::json as read_json;

/// Most members in one call.
pub const REVOKE_BATCH: usize = 16;

/// Most members that are kept until they expire. Beyond, nothing more is revoked: every gateway holds them all.
pub const REVOKED_MOST: usize = 100_000;

/// Of them those that callers may make of their own credentials: the rest is the operators', or any caller could keep
/// them from revoking it.
pub const REVOKED_MOST_OWN: usize = 90_000;

/// For how long a task may wait and still be sure to hear that the credential behind it was revoked, ms: the week by
/// which a task may be delayed, and a day.
pub(crate) const WAITS_MS: u64 = 8 * 24 * 3_600_000;

/// Before a member that spares what was issued after its revocation: apart from the same member that spares nothing.
pub(crate) const SPARES_LATER: char = '<';

/// Before the principal of a ceiling.
const CEILING: &str = "u:";

/// What a credential dies with. A revoked member kills every credential that has it, and all that was derived from one.
/// As text, the form it has in requests, envelopes and Redis; one that is long, by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member<'a> {
    /// A token of a delegation chain, by the hash of its signing input.
    Token(&'a str),
    /// A key that holds or issues delegations, by its thumbprint.
    Key(&'a str),
    /// An agent, by its client id.
    Agent(&'a str),
    /// A principal.
    Principal(&'a str),
    /// A session: the id its limits are counted on, or the [`SessionKey`] of one login.
    Session(&'a str),
}

impl<'a> Member<'a> {
    /// What a text stands for; `None` if it is no member.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let member = match kind {
            "t" => Self::Token,
            "k" => Self::Key,
            "c" => Self::Agent,
            "p" => Self::Principal,
            "s" => Self::Session,
            _ => return None,
        };
        Some(member(name))
    }

    /// As text, of a name as it was shown: the digest of a long one stands for that one here, and not for itself. For
    /// operators, who name what they were shown; who may choose a name must not be taken for another by it.
    #[must_use]
    pub fn as_shown(self) -> String {
        let (kind, name) = self.parts();
        if is_bounded(name) { format!("{kind}{name}") } else { self.to_string() }
    }

    fn parts(self) -> (&'static str, &'a str) {
        match self {
            Self::Token(name) => ("t:", name),
            Self::Key(name) => ("k:", name),
            Self::Agent(name) => ("c:", name),
            Self::Principal(name) => ("p:", name),
            Self::Session(name) => ("s:", name),
        }
    }
}

impl fmt::Display for Member<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(f, "{kind}{}", bounded(name))
    }
}

/// A member to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What dies: a [`Member`] as text.
    pub member: String,
    /// For how long, ms: at least as long as anything lives that dies with it.
    pub lasts_ms: u64,
    /// Only what was issued before dies: a principal or session may come back with a new credential.
    pub spares_later: bool,
}

/// What is kept of a revocation for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevokedBy {
    pub(crate) by: String,
    pub(crate) reason: String,
}

/// What became of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The members are dead.
    Done {
        /// The scope's number of revocations now.
        number: u64,
        /// Members that were not revoked before, or not so much; 0: nothing has changed.
        changed: u64,
    },
    /// Nothing is revoked: too many members are, and have not expired.
    Full {
        /// How many.
        revoked: u64,
    },
}

/// What the script is asked to change.
struct Entry {
    member: String,
    lasts_ms: u64,
    /// Lives what is issued this much later than now; `None`: nothing does.
    spares_from_ms: Option<u64>,
}

impl ScopeStore {
    /// Revokes members (at most [`REVOKE_BATCH`]). Once this returns nobody is admitted who dies with one. Revoking
    /// twice is the same as once, so a lost answer may be asked for again. A session that is named by its
    /// [`SessionKey`] is ended with it.
    pub async fn revoke(&self, revocations: &[Revocation], grounds: Grounds<'_>) -> Result<Revoked, StoreError> {
        self.revoke_within(REVOKED_MOST, revocations, grounds).await
    }

    /// The same for credentials that are the caller's own, of which fewer are kept: [`REVOKED_MOST_OWN`].
    pub async fn give_up(&self, revocations: &[Revocation], grounds: Grounds<'_>) -> Result<Revoked, StoreError> {
        self.revoke_within(REVOKED_MOST_OWN, revocations, grounds).await
    }

    async fn revoke_within(
        &self,
        most: usize,
        revocations: &[Revocation],
        grounds: Grounds<'_>,
    ) -> Result<Revoked, StoreError> {
        if revocations.is_empty() || revocations.len() > REVOKE_BATCH {
            return Err(StoreError::Protocol(format!("{} members in one revocation", revocations.len())));
        }
        let mut sessions = Vec::new();
        for revocation in revocations {
            if let Some(key) = revocation.member.strip_prefix("s:").and_then(SessionKey::parse) {
                sessions.push(key);
            }
        }
        let entries: Vec<Entry> = revocations.iter().map(entry_of).collect();
        let event = match revocations.first().map(|revocation| revocation.member.as_str()) {
            Some(member) if member.starts_with("s:") => "session.revoked",
            Some(member) if member.starts_with("p:") => "principal.revoked",
            _ => "delegation.revoked",
        };
        self.change_revoked(event, most, &entries, &sessions, grounds).await
    }

    async fn change_revoked(
        &self,
        event: &str,
        most: usize,
        entries: &[Entry],
        sessions: &[SessionKey],
        grounds: Grounds<'_>,
    ) -> Result<Revoked, StoreError> {
        let k = &self.keys;
        let mut keys = vec![k.scope(), k.revoked(), k.revocation(), k.revoked_order(), k.revocation_head()];
        keys.extend([k.audit(), k.audit_head()]);
        let members: Vec<&str> = entries.iter().map(|entry| entry.member.as_str()).collect();
        let about = json!({"members": members, "reason": grounds.reason});
        let kept = kept_by(grounds)?;
        let mut args: Vec<Value> = vec![
            self.now_arg(),
            k.policy_changes().into(),
            most.to_string().into(),
            grounds.max_audit_events.to_string().into(),
            new_epoch().into(),
            event.into(),
            grounds.by.into(),
            self.told(about).to_string().into(),
            entries.len().to_string().into(),
        ];
        for entry in entries {
            args.push(entry.member.as_str().into());
            args.push(entry.lasts_ms.to_string().into());
            args.push(entry.spares_from_ms.map_or_else(String::new, |later_ms| later_ms.to_string()).into());
            args.push(kept.as_str().into());
        }
        for session in sessions {
            // Whose it is never changes; one that has no record has nothing to end.
            if let Some(principal) = self.principal_of(session).await? {
                keys.extend([k.session(session.as_str()), k.sessions_of(&principal)]);
                args.push(session.as_str().into());
            }
        }
        let mut reply = Reply::new("revoke", REVOKE.call(&self.store, keys, args).await?)?;
        let (done, first) = (reply.int()? == 1, reply.int()?.unsigned_abs());
        if !done {
            return Ok(Revoked::Full { revoked: first });
        }
        Ok(Revoked::Done { number: first, changed: reply.int()?.unsigned_abs() })
    }

    async fn principal_of(&self, session: &SessionKey) -> Result<Option<String>, StoreError> {
        let record: Option<String> = self.store.client().hget(self.keys.session(session.as_str()), "record").await?;
        record.map(|record| read_json::<SessionRecord>(record.as_bytes()).map(|record| record.principal)).transpose()
    }
}

/// What is kept of a revocation for people, as it is stored.
pub(crate) fn kept_by(grounds: Grounds<'_>) -> Result<String, StoreError> {
    let by = RevokedBy { by: grounds.by.to_owned(), reason: grounds.reason.to_owned() };
    serde_json::to_string(&by).map_err(|error| StoreError::Protocol(error.to_string()))
}

/// What is stored of a revocation. Tokens, keys and agents stay revoked for as long as a delegation lasts; tasks may
/// wait longer, and die until the end of their wait with what they were submitted under. An agent or a key may act
/// again then, by what is granted then.
fn entry_of(revocation: &Revocation) -> Entry {
    let Revocation { member, lasts_ms, spares_later } = revocation;
    let (lasts_ms, spares_from_ms) = match Member::parse(member) {
        Some(Member::Token(_)) if !spares_later => (WAITS_MS.max(*lasts_ms), None),
        Some(Member::Key(_) | Member::Agent(_)) if !spares_later => (WAITS_MS.max(*lasts_ms), Some(*lasts_ms)),
        _ => (*lasts_ms, spares_later.then_some(0)),
    };
    Entry { member: stored(member, spares_from_ms.is_some()), lasts_ms, spares_from_ms }
}

/// A member as it is stored.
pub(crate) fn stored(member: &str, spares_later: bool) -> String {
    if spares_later { format!("{SPARES_LATER}{member}") } else { member.to_owned() }
}

/// Where the ceiling of a principal stands among the members.
pub(crate) fn ceiling_of(principal: &str) -> String {
    format!("{CEILING}{}", bounded(principal))
}

/// Whether a stored member is a ceiling.
pub(crate) fn is_ceiling(member: &str) -> bool {
    member.starts_with(CEILING)
}
