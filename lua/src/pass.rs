//! A pass: a request that is let through without being queued. It is decided like a task (`admit.lua`), and instead of
//! a queue entry it gets a place among the passes in flight, which ends with the response or lapses.
//!
//! Responsible for the words for it and for what is kept of a pass while it is in flight, so that somebody else can end
//! it. Must never decide anything: the scripts do.

use bytes::Bytes;
use fred::interfaces::HashesInterface;
use portcullis_config::UserType;
use serde::{Deserialize, Serialize};

use crate::ended::Acting;
use crate::envelope::Hold;
use crate::error::StoreError;
use crate::key::Keys;
use crate::pack::Unpacker;
use crate::store::ScopeStore;
use crate::task::TaskId;

/// Most passes in one call of a script about passes.
pub const PASS_BATCH: usize = 64;

/// What is asked for where a pass is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassTerms {
    /// How long its place lasts unless it is extended, ms. 0 asks for a decision without a place: pressure is looked at
    /// and nothing is held, so that the estimate counts as spent at once and a half-open breaker refuses, because
    /// nobody would tell how its probe went.
    pub lease_ms: u64,
    /// Whether rate limits apply.
    pub throttled: bool,
    /// How many times its estimates count, also those that a limit or budget has for it; 0 is once. Its cost says so
    /// already.
    pub hits: u32,
}

/// The right to a place among the passes in flight, until it lapses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassLease {
    /// The pass: the id its request was admitted with.
    pub pass_id: TaskId,
    /// Its route class; chooses the breaker.
    pub kind: String,
    /// How long the place lasts without an extension, ms.
    pub lease_ms: u64,
    /// Whether the place is in a pool of its class's own; else it counts in the scope's depth.
    pub pooled: bool,
    /// Budget holds taken at admission, committed or released when the pass ends.
    pub holds: Vec<Hold>,
    /// Whom an agent asked for it for, and through whom; `None` where no agent did.
    pub acting: Option<Acting>,
}

/// A pass whose holder goes on.
#[derive(Clone, Debug)]
pub struct PassExtension {
    /// The place that is to last longer.
    pub lease: PassLease,
    /// How its response began, where it has and that was not told before. Only a probe is judged by it, and then no
    /// more by its end.
    pub head: Option<PassHead>,
}

/// How the response to a pass's request began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassHead {
    /// Time from the start to the head of the response, ms, by the holder's clock.
    pub answered_ms: u64,
    /// Whether it says that the application failed.
    pub failed: bool,
}

/// How a pass ended.
#[derive(Clone, Debug)]
pub struct PassEnd {
    /// The place being given up.
    pub lease: PassLease,
    /// What became of the request.
    pub outcome: PassOutcome,
    /// Units really used, by unit. A hold without an entry commits its estimate if the pass succeeded, or
    /// was abandoned after the head of its answer had come; else nothing.
    pub usage: Vec<(String, u64)>,
    /// Time from the start to the head of the response, ms, by the holder's clock: what can be slow. `None`: until now,
    /// by the clock of Redis.
    pub answered_ms: Option<u64>,
}

/// What became of a request that was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassOutcome {
    /// It was answered. Feeds the breaker a success, slow if it was; a refusal by the application is one too.
    Succeeded,
    /// The application could not answer it: unreachable, too late, broken off, 5xx. Feeds the breaker a failure.
    Failed,
    /// Nobody knows, as when its caller left. Feeds the breaker nothing; a probe makes room for another.
    Abandoned,
}

/// What became of a pass that was to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassEnded {
    /// This call ended it.
    Now,
    /// It had ended or lapsed before. Nothing changed.
    Before,
    /// Redis does not take its end, as that of an agent's which cannot be recorded. Nothing changed: it lapses, and is
    /// taken back when its end is taken.
    Refused,
}

/// A pass in flight, as anybody may find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassRecord {
    /// What ends it.
    pub lease: PassLease,
    /// When it was admitted, Redis clock, ms since the epoch.
    pub started_ms: u64,
    /// Whose it is.
    pub principal: String,
    /// The caller's user type.
    pub user_type: UserType,
    /// The caller's session.
    pub session_id: String,
    /// The agent acting for the principal, if any.
    pub actor: Option<String>,
    /// Id of the HTTP request.
    pub request_id: String,
}

impl ScopeStore {
    /// A pass that has not ended. One that has lapsed is found until it was taken back, but nothing can be done with
    /// it; one whose record cannot be read is nobody's, so nobody finds it.
    pub async fn pass(&self, pass_id: &TaskId) -> Result<Option<PassRecord>, StoreError> {
        let record: Option<Bytes> = self.store.client().hget(self.keys.pass_record(), pass_id.as_str()).await?;
        Ok(record.and_then(|record| PassRecord::decode(pass_id.clone(), record).ok()))
    }
}

/// What is kept of a pass beside what the script itself writes, as it is written.
#[derive(Debug, Serialize)]
pub(crate) struct PassView<'a> {
    pub(crate) kind: &'a str,
    pub(crate) user_type: &'a str,
    pub(crate) session_id: &'a str,
    pub(crate) principal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) agents: Vec<String>,
    pub(crate) request_id: &'a str,
    pub(crate) lease_ms: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) holds: Vec<Hold>,
}

impl PassView<'_> {
    pub(crate) fn encode(&self) -> Result<Bytes, StoreError> {
        Ok(serde_json::to_vec(self).map_err(|error| StoreError::Protocol(error.to_string()))?.into())
    }
}

/// The same, read back.
#[derive(Debug, Deserialize)]
struct Body {
    kind: String,
    user_type: UserType,
    session_id: String,
    principal: String,
    #[serde(default)]
    actor: Option<String>,
    #[serde(default)]
    agents: Vec<String>,
    request_id: String,
    lease_ms: u64,
    #[serde(default)]
    holds: Vec<Hold>,
}

impl PassLease {
    /// The pool its place is in.
    pub(crate) fn pool(&self) -> &str {
        if self.pooled { &self.kind } else { Keys::SHARED_POOL }
    }
}

impl PassRecord {
    /// `[started d][probe epoch d][pooled B][body]`, as `include/pass.lua` says.
    pub(crate) fn decode(pass_id: TaskId, record: Bytes) -> Result<Self, StoreError> {
        let mut record = Unpacker::new(record);
        let started_ms = record.count()?;
        record.f64()?;
        let pooled = record.u8()? == 1;
        let body: Body =
            serde_json::from_slice(&record.rest()).map_err(|error| StoreError::Protocol(format!("a pass: {error}")))?;
        let acting = Acting::new(&body.principal, body.agents);
        let lease = PassLease { pass_id, kind: body.kind, lease_ms: body.lease_ms, pooled, holds: body.holds, acting };
        Ok(Self {
            lease,
            started_ms,
            principal: body.principal,
            user_type: body.user_type,
            session_id: body.session_id,
            actor: body.actor,
            request_id: body.request_id,
        })
    }
}
