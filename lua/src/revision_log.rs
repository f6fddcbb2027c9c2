//! Looking back on a scope's policies: revision records and audit events, written by `revise.lua` and `restore.lua`.

use bytes::Bytes;
use fred::interfaces::{HashesInterface, StreamsInterface};
use fred::types::{Key, Value};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::error::StoreError;
use crate::pack::Unpacker;
use crate::reply::Reply;
use crate::store::ScopeStore;
use crate::stored_policy::{About, json};

/// A revision without its documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RevisionSummary {
    /// Its number.
    pub revision: u64,
    /// When, Redis clock, ms since the epoch.
    pub at_ms: u64,
    /// Who, why and how.
    #[serde(flatten)]
    pub about: About,
}

/// A revision with the document before and its own.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct RevisionRecord {
    /// Number, time, author.
    #[serde(flatten)]
    pub summary: RevisionSummary,
    /// The document it replaced; `None` for the first.
    pub before: Option<Json>,
    /// Its document.
    pub after: Json,
}

/// Something that was changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AuditEvent {
    /// Id in the scope's audit stream.
    pub id: String,
    /// Its number in the chain, from 1.
    pub n: u64,
    /// The hash of the event before it.
    pub prev: String,
    /// Its own hash: of `prev` and of all that it says.
    pub hash: String,
    /// When, Redis clock, ms since the epoch.
    pub at_ms: u64,
    /// What happened, such as `policy_revised`, `session.revoked` or `decisions.counted`.
    pub event: String,
    /// Who, or which replica.
    pub by: String,
    /// The revision it made; 0 where it made none.
    pub revision: u64,
    /// What is known of it.
    pub about: Json,
}

impl ScopeStore {
    /// The newest `limit` revisions that are kept, newest first.
    pub async fn revisions(&self, limit: usize) -> Result<Vec<RevisionSummary>, StoreError> {
        let mut numbers: Vec<u64> = self.store.client().hkeys(self.keys.revision()).await?;
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        numbers.truncate(limit);
        let mut summaries = Vec::with_capacity(numbers.len());
        for number in numbers {
            // One may have been evicted since.
            summaries.extend(self.revision(number).await?.map(|record| record.summary));
        }
        Ok(summaries)
    }

    /// One revision, if it is kept.
    pub async fn revision(&self, number: u64) -> Result<Option<RevisionRecord>, StoreError> {
        let packed: Option<Bytes> = self.store.client().hget(self.keys.revision(), number.to_string()).await?;
        let Some(packed) = packed else { return Ok(None) };
        let mut packed = Unpacker::new(packed);
        let (at_ms, about, before) = (packed.count()?, packed.u32()? as usize, packed.u32()? as usize);
        let about = json(&packed.take(about)?)?;
        let before = packed.take(before)?;
        Ok(Some(RevisionRecord {
            summary: RevisionSummary { revision: number, at_ms, about },
            before: if before.is_empty() { None } else { Some(json(&before)?) },
            after: json(&packed.rest())?,
        }))
    }

    /// The newest `limit` audit events, newest first.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        self.newest_events(self.keys.audit(), limit).await
    }

    /// The newest `limit` counts of decisions that have no event of their own, newest first.
    pub async fn counted(&self, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        self.newest_events(self.keys.counted(), limit).await
    }

    /// The newest `limit` ends of what agents were let do, newest first: `task.ended` and `pass.ended`.
    pub async fn ended(&self, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        self.newest_events(self.keys.ended(), limit).await
    }

    async fn newest_events(&self, stream: Key, limit: u32) -> Result<Vec<AuditEvent>, StoreError> {
        let entries: Value = self.store.client().xrevrange(stream, "+", "-", Some(u64::from(limit))).await?;
        if entries.is_null() {
            return Ok(Vec::new());
        }
        let mut entries = Reply::new("audit", entries)?;
        let mut events = Vec::with_capacity(entries.len());
        while !entries.is_empty() {
            let mut entry = Reply::new("audit", entries.value()?)?;
            let id = entry.text()?;
            events.push(audit_event(id, Reply::new("audit", entry.value()?)?)?);
        }
        Ok(events)
    }
}

fn audit_event(id: String, mut fields: Reply) -> Result<AuditEvent, StoreError> {
    let mut event = AuditEvent {
        id,
        n: 0,
        prev: String::new(),
        hash: String::new(),
        at_ms: 0,
        event: String::new(),
        by: String::new(),
        revision: 0,
        about: Json::Null,
    };
    while !fields.is_empty() {
        let (name, value) = (fields.text()?, fields.text()?);
        match name.as_str() {
            "n" => event.n = value.parse().unwrap_or(0),
            "prev" => event.prev = value,
            "hash" => event.hash = value,
            "event" => event.event = value,
            "at" => event.at_ms = value.parse().unwrap_or(0),
            "by" => event.by = value,
            "revision" => event.revision = value.parse().unwrap_or(0),
            "about" => event.about = json(value.as_bytes())?,
            _ => {}
        }
    }
    Ok(event)
}
