//! Step 6, enqueue: the task itself.
//!
//! Feeds the script the payload, untouched, and how the task wants to be run, and the idempotency key. Refuses with
//! `invalid_request` (every fault at once, with its path), `payload_too_large` and `idempotency_mismatch`. Must never
//! look into the payload: it is carried as the bytes the caller sent.

use std::borrow::Cow;
use std::fmt;

use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use portcullis_config::Policy;
use portcullis_lua::{AdmitRequest, Idempotency};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::economics;
use crate::refusal::{Cause, Refused, RequestFault};
use crate::trace_context::TraceContext;
use crate::{digest, idempotency_key};

/// Title and detail of `idempotency_mismatch`.
pub(super) const WORDS: (&str, &str) = (
    "Idempotency key used before",
    "This Idempotency-Key was used with another body. Send a new key, or the same body as before.",
);

/// Content type of every payload: it is a JSON value inside a JSON body.
pub(crate) const PAYLOAD_CONTENT_TYPE: &str = "application/json";

/// Room in the body for everything but the payload, bytes.
const ENVELOPE_BYTES: u64 = 16 * 1024;

/// Longest deadline, ms: added to a time of the Redis clock it stays a whole number that a script can hold.
pub(crate) const MAX_DEADLINE_MS: u64 = 1 << 52;

/// A body that has been read and found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Submission {
    pub(crate) kind: String,
    pub(crate) payload: Bytes,
    pub(crate) deadline_ms: Option<u64>,
    pub(crate) delay_ms: u64,
    /// What the caller asks for; `None` leaves it to the policy.
    pub(crate) max_attempts: Option<u32>,
    pub(crate) estimates: Vec<(String, u64)>,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) trace: Option<TraceContext>,
}

impl Submission {
    /// A submission of no kind in particular, to ask about, not to send: a name that no task can have, so that what
    /// applies to some kinds only is left out.
    pub(super) fn nominal() -> Self {
        Self {
            kind: String::new(),
            payload: Bytes::new(),
            deadline_ms: None,
            delay_ms: 0,
            max_attempts: None,
            estimates: Vec::new(),
            idempotency: None,
            trace: None,
        }
    }
}

/// Largest body worth reading under this policy, bytes.
pub(crate) fn max_body_bytes(policy: &Policy) -> usize {
    usize::try_from(policy.queue.max_payload_bytes.saturating_add(ENVELOPE_BYTES)).unwrap_or(usize::MAX)
}

/// The payload, or the body around it, is too large.
pub(crate) fn payload_too_large() -> Refused {
    Refused::new(Cause::PayloadTooLarge, "Payload too large", "The payload is larger than a task's payload may be.")
}

/// The body did not arrive in time.
pub(crate) fn body_timeout() -> Refused {
    Refused::new(Cause::BodyTimeout, "Body timed out", "The body of the request did not arrive in time.")
}

/// The body broke off or was not transferred as HTTP requires.
pub(crate) fn unreadable_body() -> Refused {
    Refused::invalid(vec![RequestFault::new("body", "could not be read to its end")])
}

/// Refuses a request that this policy does not allow, although the one under which its body was read did.
pub(crate) fn within_bounds(request: &AdmitRequest, max_attempts: Option<u32>, policy: &Policy) -> Result<(), Refused> {
    let queue = &policy.queue;
    let mut faults = Vec::new();
    if request.delay_ms > queue.max_delay_ms {
        faults.push(out_of_range("delay_ms", 0, queue.max_delay_ms));
    }
    if max_attempts.is_some_and(|attempts| u64::from(attempts) > queue.max_attempts_limit) {
        faults.push(out_of_range("max_attempts", 1, queue.max_attempts_limit));
    }
    if !faults.is_empty() {
        return Err(Refused::invalid(faults));
    }
    if request.payload.len() as u64 > queue.max_payload_bytes { Err(payload_too_large()) } else { Ok(()) }
}

/// Reads a request of this principal to submit a task.
pub(crate) fn submission(
    headers: &HeaderMap,
    body: &Bytes,
    principal: &str,
    policy: &Policy,
) -> Result<Submission, Refused> {
    let mut faults = Vec::new();
    let idempotency = idempotency(headers, body, principal, &mut faults);
    let submission = if content_type_is_json(headers) {
        read_body(body, policy, &mut faults)
    } else {
        faults.push(RequestFault::new("Content-Type", "must be application/json"));
        None
    };
    match submission {
        Some(submission) if faults.is_empty() => {
            if submission.payload.len() as u64 > policy.queue.max_payload_bytes {
                return Err(payload_too_large());
            }
            Ok(Submission { idempotency, trace: TraceContext::of(headers), ..submission })
        }
        _ => Err(Refused::invalid(faults)),
    }
}

/// The top level of the body: names in their order, values unread.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(4);
                while let Some(BorrowedName(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(FieldsVisitor).map(Fields)
    }
}

/// A field name, borrowed from the body unless it has escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct BorrowedName<'a>(#[serde(borrow)] Cow<'a, str>);

/// Collects every fault; `None` once one of them leaves nothing to send.
fn read_body(body: &Bytes, policy: &Policy, faults: &mut Vec<RequestFault>) -> Option<Submission> {
    let fields = match serde_json::from_slice::<Fields<'_>>(body) {
        Ok(Fields(fields)) => fields,
        Err(error) => {
            // What stands there instead would be quoted, whatever it is.
            let where_not_json = if error.is_data() { String::new() } else { format!(": {error}") };
            faults.push(RequestFault::new("body", format!("must be a JSON object{where_not_json}")));
            return None;
        }
    };
    let queue = &policy.queue;
    let (mut kind, mut payload) = (None, None);
    let mut submission = Submission::nominal();
    for (index, (name, raw)) in fields.iter().enumerate() {
        if fields[..index].iter().any(|(earlier, _)| earlier == name) {
            faults.push(RequestFault::new(name.as_ref(), "is given more than once"));
            continue;
        }
        match name.as_ref() {
            "kind" => kind = Some(read_kind(raw, faults)),
            "payload" => payload = Some(body.slice_ref(raw.get().as_bytes())),
            "deadline_ms" => submission.deadline_ms = Some(whole(name, raw, 1, MAX_DEADLINE_MS, faults)),
            "delay_ms" => submission.delay_ms = whole(name, raw, 0, queue.max_delay_ms, faults),
            "max_attempts" => {
                submission.max_attempts = Some(whole(name, raw, 1, queue.max_attempts_limit, faults) as u32);
            }
            "estimate" => submission.estimates = economics::estimates(raw, faults),
            "lane" => faults.push(RequestFault::new("lane", "is not supported: this version does not order lanes yet")),
            _ => faults.push(RequestFault::new(name.as_ref(), "is not a field of a task")),
        }
    }
    for (name, missing) in [("kind", kind.is_none()), ("payload", payload.is_none())] {
        if missing {
            faults.push(RequestFault::new(name, "is required"));
        }
    }
    Some(Submission { kind: kind?, payload: payload?, ..submission })
}

fn read_kind(raw: &RawValue, faults: &mut Vec<RequestFault>) -> String {
    let kind = serde_json::from_str::<String>(raw.get()).unwrap_or_default();
    faults.extend(kind_fault(&kind));
    kind
}

/// What is wrong with the name of a kind.
pub(crate) fn kind_fault(kind: &str) -> Option<RequestFault> {
    let first = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let well_formed = (1..=64).contains(&kind.len())
        && kind.starts_with(first)
        && kind.chars().all(|c| first(c) || matches!(c, '.' | '_' | '-'));
    let message = "must be a string of 1 to 64 of a-z, 0-9, '.', '_' and '-', starting with a letter or digit";
    (!well_formed).then(|| RequestFault::new("kind", message))
}

fn whole(name: &str, raw: &RawValue, least: u64, most: u64, faults: &mut Vec<RequestFault>) -> u64 {
    let number = serde_json::from_str::<u64>(raw.get()).ok().filter(|number| (least..=most).contains(number));
    number.unwrap_or_else(|| {
        faults.push(out_of_range(name, least, most));
        least
    })
}

fn out_of_range(name: &str, least: u64, most: u64) -> RequestFault {
    RequestFault::new(name, format!("must be a whole number from {least} to {most}"))
}

/// A missing content type is taken for JSON, as nothing else is accepted.
fn content_type_is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// A key belongs to its principal.
fn idempotency(
    headers: &HeaderMap,
    body: &[u8],
    principal: &str,
    faults: &mut Vec<RequestFault>,
) -> Option<Idempotency> {
    let key = idempotency_key::of(headers).map_err(|fault| faults.push(fault)).ok()??;
    Some(Idempotency { key_hash: digest::hex(&[principal, &key]), body_hash: digest::body_hex(body) })
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
