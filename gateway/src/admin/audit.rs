//! `/admin/audit`: what was changed, by whom; and the chains of events as they are stored, to be checked elsewhere.
//!
//! Responsible for the parameters, and for an export to which nothing was added and from which nothing was taken:
//! hashes are made of every byte. Must never call an export complete that is not: only one that reached the end of the
//! stream has the head for its last line, as it was before the entries were read.

use std::collections::VecDeque;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use portcullis_lua::{AuditEvent, Chain, ChainEntry, ChainHead, ExportLine, StoreError};
use serde_json::{Value, json};

use super::asked::{Asked, whole};
use super::scoped::{Scoped, unanswered};
use super::{Answer, Shared, redact, view};
use crate::openapi::{AuditQuery, ExportQuery, Surveying};
use crate::refusal::Refused;

/// Audit events given when the caller does not say how many, and the most that are; also the most that are looked
/// through for those a filter wants.
pub(crate) const AUDIT_EVENTS: (u32, u32) = (50, 1000);

/// Most entries of one export; more than any stream keeps.
pub(crate) const MAX_EXPORTED: u32 = 10_000_000;

/// Longest value of a filter, characters.
pub(crate) const MAX_FILTER: usize = 256;

/// The streams, by the names they are exported under.
pub(crate) const STREAMS: [(&str, Chain); 4] =
    [("audit", Chain::Audit), ("decision", Chain::Decisions), ("counted", Chain::Counts), ("ended", Chain::Ends)];

/// A stream id of Redis.
pub(crate) const STREAM_ID_PATTERN: &str = "^[0-9]{1,20}-[0-9]{1,20}$";

/// Entries read at once: batches of decisions take kilobytes each.
const PAGE: u32 = 256;

/// What was changed, by whom.
#[utoipa::path(
    get, path = "/admin/audit", operation_id = "read_audit", tag = "audit",
    summary = "What was changed, by whom",
    params(AuditQuery),
    responses((status = 200, description = "Newest first", body = ref("#/components/schemas/Audit")), Surveying)
)]
pub(crate) async fn events(State(admin): Shared, asked: Asked) -> Answer {
    let mut filter = Filter::default();
    let names = asked.of_scope(&Filter::PARAMETERS, |name, value| filter.set(name, value))?;
    let scoped = admin.address(&names, &asked, &[]).await?;
    let events = scoped.ask(scoped.store().audit(filter.reach())).await?;
    Ok(Json(json!({"events": filter.select(&events).map(shown).collect::<Value>()})))
}

/// A stream's entries, oldest first, as they are stored.
#[utoipa::path(
    get, path = "/admin/audit/export", operation_id = "export_audit", tag = "audit",
    summary = "A chain of events as it is stored, to be checked elsewhere",
    description = "A line for each entry, oldest first: `{\"id\":…,\"fields\":[[NAME,VALUE],…]}`. The last line is the \
        head of the chain, `{\"head\":{\"number\":N,\"hash\":…}}`, once the end of the stream is reached; without it \
        there is more after the last entry. `portcullis-gateway verify-audit` checks it.",
    params(ExportQuery),
    responses((status = 200, description = "Newline-delimited JSON", body = String,
        content_type = "application/x-ndjson"), Surveying)
)]
pub(crate) async fn export(State(admin): Shared, asked: Asked) -> Result<Response, Refused> {
    let mut wanted = Wanted::default();
    let names = asked.of_scope(&Wanted::PARAMETERS, |name, value| wanted.set(name, value))?;
    let scoped = admin.address(&names, &asked, &[]).await?;
    let mut export = Export::begin(scoped, wanted).await.map_err(|error| unanswered(&error))?;
    // What cannot be read at all is told as such; what breaks off later ends without the line that ends an export.
    let first = export.next_page().await.map_err(|error| unanswered(&error))?;
    let pages = futures_util::stream::unfold((VecDeque::from_iter(first), export), async |(mut ready, mut export)| {
        if let Some(page) = ready.pop_front() {
            return Some((Ok(page), (ready, export)));
        }
        let page = export.next_page().await.transpose()?;
        Some((page, (ready, export)))
    });
    let content_type = (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(([content_type], Body::from_stream(pages)).into_response())
}

/// An event as it is shown.
fn shown(event: &AuditEvent) -> Value {
    redact::values(view::with_time(event, "at_ms", "at", event.at_ms))
}

/// Which audit events are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    limit: u32,
    event: Option<String>,
    by: Option<String>,
}

impl Default for Filter {
    fn default() -> Self {
        Self { limit: AUDIT_EVENTS.0, event: None, by: None }
    }
}

impl Filter {
    const PARAMETERS: [&'static str; 3] = ["limit", "event", "by"];

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "limit" => self.limit = whole(value, 1, AUDIT_EVENTS.1)?,
            "event" => self.event = Some(words(value)?),
            _ => self.by = Some(words(value)?),
        }
        Ok(())
    }

    /// How many of the newest events have to be read.
    fn reach(&self) -> u32 {
        if self.event.is_none() && self.by.is_none() { self.limit } else { AUDIT_EVENTS.1 }
    }

    fn select<'a>(&'a self, events: &'a [AuditEvent]) -> impl Iterator<Item = &'a AuditEvent> {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let wanted = move |event: &&AuditEvent| is(&self.event, &event.event) && is(&self.by, &event.by);
        events.iter().filter(wanted).take(self.limit as usize)
    }
}

fn words(value: &str) -> Result<String, String> {
    let fits = (1..=MAX_FILTER).contains(&value.chars().count());
    if fits { Ok(value.to_owned()) } else { Err(format!("must be 1 to {MAX_FILTER} characters")) }
}

/// Which part of which chain is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    chain: Chain,
    after: Option<String>,
    limit: u32,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { chain: Chain::Audit, after: None, limit: MAX_EXPORTED }
    }
}

impl Wanted {
    const PARAMETERS: [&'static str; 3] = ["stream", "after", "limit"];

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "stream" => {
                let found = STREAMS.into_iter().find(|(name, _)| *name == value);
                let names = STREAMS.map(|(name, _)| name).join(", ");
                self.chain = found.map(|(_, chain)| chain).ok_or_else(|| format!("must be one of {names}"))?;
            }
            "after" if is_stream_id(value) => self.after = Some(value.to_owned()),
            "after" => return Err("must be the id of an entry, such as 1700000000000-0".to_owned()),
            _ => self.limit = whole(value, 1, MAX_EXPORTED)?,
        }
        Ok(())
    }
}

/// Two numbers of 64 bits, as Redis writes them.
fn is_stream_id(text: &str) -> bool {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && part.parse::<u64>().is_ok();
    text.split_once('-').is_some_and(|(ms, number)| is_number(ms) && is_number(number))
}

/// An export under way.
struct Export {
    scoped: Scoped,
    wanted: Wanted,
    /// As it was before the first entry was read.
    head: Option<ChainHead>,
    ended: bool,
}

impl Export {
    async fn begin(scoped: Scoped, wanted: Wanted) -> Result<Self, StoreError> {
        let head = scoped.read(scoped.store().chain_head(wanted.chain)).await?;
        Ok(Self { scoped, wanted, head, ended: false })
    }

    /// The next lines; `None` at the end.
    async fn next_page(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.ended || self.wanted.limit == 0 {
            return Ok(None);
        }
        let (chain, after, most) = (self.wanted.chain, self.wanted.after.as_deref(), self.wanted.limit.min(PAGE));
        let entries = self.scoped.read(self.scoped.store().chain_entries(chain, after, most)).await?;
        self.ended = entries.len() < most as usize;
        self.wanted.limit -= most;
        if let Some(last) = entries.last() {
            self.wanted.after = Some(last.id.clone());
        }
        lines(entries, self.ended, self.head.as_ref()).map(Some)
    }
}

/// The lines of these entries; after the last there is, the head.
fn lines(entries: Vec<ChainEntry>, ended: bool, head: Option<&ChainHead>) -> Result<Bytes, StoreError> {
    let end = ended.then(|| ExportLine::Head { head: head.cloned() });
    let mut lines = Vec::new();
    for line in entries.into_iter().map(ExportLine::Entry).chain(end) {
        serde_json::to_writer(&mut lines, &line).map_err(|error| StoreError::Protocol(error.to_string()))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::asked::tests::asked;

    fn event(n: u64, name: &str, by: &str) -> AuditEvent {
        AuditEvent {
            id: format!("{n}-0"),
            n,
            prev: "0".repeat(40),
            hash: "1".repeat(40),
            at_ms: 1_000,
            event: name.to_owned(),
            by: by.to_owned(),
            revision: 0,
            about: json!({"token": "t1", "reason": "had gs_canarycanarycanarycanary in it"}),
        }
    }

    fn filter(query: &[(&str, &str)]) -> Result<Filter, Vec<String>> {
        let mut filter = Filter::default();
        let read = asked(query).of_scope(&Filter::PARAMETERS, |name, value| filter.set(name, value));
        read.map(|_| filter).map_err(|refused| refused.faults.into_iter().map(|fault| fault.path).collect())
    }

    fn wanted(query: &[(&str, &str)]) -> Result<Wanted, Vec<String>> {
        let mut wanted = Wanted::default();
        let read = asked(query).of_scope(&Wanted::PARAMETERS, |name, value| wanted.set(name, value));
        read.map(|_| wanted).map_err(|refused| refused.faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn an_event_shows_its_place_in_the_chain_and_no_credential() {
        let expected = json!({
            "id": "7-0", "n": 7, "prev": "0".repeat(40), "hash": "1".repeat(40), "at": "1970-01-01T00:00:01.000Z",
            "event": "delegation.minted", "by": "user:ada", "revision": 0,
            "about": {"token": "t1", "reason": "had *** in it"},
        });
        assert_eq!(shown(&event(7, "delegation.minted", "user:ada")), expected);
    }

    #[test]
    fn filters_apply_before_the_limit_and_together() {
        let events = [
            event(4, "session.revoked", "admin_token"),
            event(3, "policy_revised", "user:ada"),
            event(2, "policy_revised", "agent:x"),
            event(1, "policy_revised", "user:ada"),
        ];
        let numbers = |query: &[(&str, &str)]| -> Vec<u64> {
            filter(query).unwrap().select(&events).map(|event| event.n).collect()
        };
        assert_eq!(numbers(&[]), [4, 3, 2, 1]);
        assert_eq!(numbers(&[("event", "policy_revised"), ("limit", "2")]), [3, 2]);
        assert_eq!(numbers(&[("event", "policy_revised"), ("by", "user:ada")]), [3, 1]);
        assert_eq!(numbers(&[("by", "user:")]), [] as [u64; 0]);
        assert_eq!(filter(&[("limit", "2")]).unwrap().reach(), 2);
        assert_eq!(filter(&[("limit", "2"), ("by", "x")]).unwrap().reach(), AUDIT_EVENTS.1);
        assert_eq!(
            filter(&[("limit", "0"), ("event", ""), ("at", "x")]),
            Err(["limit", "event", "at"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn an_export_is_of_a_stream_from_an_entry_on() {
        let query = [("stream", "decision"), ("after", "1700000000000-3"), ("limit", "5")];
        let expected = Wanted { chain: Chain::Decisions, after: Some("1700000000000-3".to_owned()), limit: 5 };
        assert_eq!(wanted(&query), Ok(expected));
        assert_eq!(wanted(&[]), Ok(Wanted::default()));
        for after in ["", "5", "5-", "-5", "+", "-", "(5-0", "5-0 ", "+5-0", "99999999999999999999-0", "5-0-0", "５-0"]
        {
            assert_eq!(wanted(&[("after", after)]), Err(vec!["after".to_owned()]), "{after}");
        }
        let query = [("stream", "Audit"), ("limit", "0")];
        assert_eq!(wanted(&query), Err(["stream", "limit"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn only_the_end_of_a_stream_is_followed_by_the_head() {
        let entry: ChainEntry = serde_json::from_str(r#"{"id":"1-0","fields":[["n","1"]]}"#).unwrap();
        let head = ChainHead { number: 1, hash: "abc".to_owned() };
        let written =
            |ended, head| String::from_utf8(lines(vec![entry.clone()], ended, head).unwrap().to_vec()).unwrap();
        let line = "{\"id\":\"1-0\",\"fields\":[[\"n\",\"1\"]]}\n";
        assert_eq!(written(false, Some(&head)), line);
        assert_eq!(written(true, Some(&head)), format!("{line}{{\"head\":{{\"number\":1,\"hash\":\"abc\"}}}}\n"));
        assert_eq!(written(true, None), format!("{line}{{\"head\":null}}\n"));
    }
}
