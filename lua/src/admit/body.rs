//! The body of a task's record, as it is written at admission.
//!
//! Responsible for its bytes: `[length (4)][envelope][payload]`. Must never say anything else than an [`Envelope`]
//! reads back. Borrowed from the request, because an admission is too short to copy every name in it.
//!
//! [`Envelope`]: crate::task::Envelope

use bytes::Bytes;
use serde::Serialize;

use crate::error::StoreError;
use crate::question::{Draw, Question};

/// Room for an envelope, bytes.
const ENVELOPE_BYTES: usize = 320;

/// An envelope as it is written.
#[derive(Debug, Serialize)]
struct EnvelopeView<'a> {
    kind: &'a str,
    user_type: &'a str,
    session_id: &'a str,
    principal: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    content_type: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<HoldView<'a>>,
}

/// A hold as it is written.
#[derive(Debug, Serialize)]
struct HoldView<'a> {
    budget: &'a str,
    subject: &'a str,
    unit: &'a str,
    amount: u64,
}

/// The body of the task that this request asks for.
pub(super) fn body(question: &Question<'_>) -> Result<Bytes, StoreError> {
    const LENGTH: usize = size_of::<u32>();
    let payload = &question.request.payload;
    let mut body = Vec::with_capacity(LENGTH + ENVELOPE_BYTES + payload.len());
    body.extend_from_slice(&[0; LENGTH]);
    serde_json::to_writer(&mut body, &envelope(question)).map_err(|error| StoreError::Protocol(error.to_string()))?;
    let length = (body.len() - LENGTH) as u32;
    body[..LENGTH].copy_from_slice(&length.to_le_bytes());
    body.extend_from_slice(payload);
    Ok(body.into())
}

fn envelope<'a>(question: &Question<'a>) -> EnvelopeView<'a> {
    let request = question.request;
    EnvelopeView {
        kind: &request.kind,
        user_type: request.user_type.as_str(),
        session_id: &request.session_id,
        principal: &request.principal,
        actor: request.actor.as_deref(),
        request_id: &request.request_id,
        traceparent: request.traceparent.as_deref(),
        content_type: &request.content_type,
        holds: question.draws.iter().map(hold).collect(),
    }
}

fn hold<'a>(draw: &Draw<'a>) -> HoldView<'a> {
    HoldView { budget: draw.name, subject: draw.subject, unit: &draw.budget.unit, amount: draw.estimate }
}

#[cfg(test)]
mod tests {
    use portcullis_config::{Policy, UserType};
    use serde_json::json;

    use super::*;
    use crate::decision::AdmitRequest;
    use crate::policy::CompiledPolicy;
    use crate::stamp::PolicyStamp;
    use crate::task::{Hold, TaskId, decode_body};

    #[test]
    fn what_is_written_is_what_an_envelope_reads_back() {
        let mut policy = Policy::shipped("acme", "demo");
        let budget =
            json!({"unit": "tokens", "amount": 1000, "period": "day", "per": "principal", "default_estimate": 7});
        policy.budgets.insert("daily".to_owned(), serde_json::from_value(budget).unwrap());
        let mut request = AdmitRequest {
            task_id: TaskId::generate(),
            user_type: UserType::new("paid").unwrap(),
            session_id: "s \"quoted\"".to_owned(),
            principal: "ada\n\u{e9}".to_owned(),
            actor: None,
            client_address: None,
            kind: "chat".to_owned(),
            pass: None,
            cost: 1,
            deadline_ms: None,
            delay_ms: 0,
            max_attempts: 1,
            idempotency: None,
            estimates: Vec::new(),
            request_id: "r".to_owned(),
            traceparent: None,
            content_type: "application/json".to_owned(),
            payload: Bytes::from_static(b"\x00{}"),
        };
        for actor in [None, Some("agent".to_owned())] {
            (request.actor, request.traceparent) = (actor.clone(), actor);
            let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
            let written = body(&Question::new(&policy, &request).unwrap()).unwrap();
            let (envelope, payload) = decode_body(written).unwrap();
            assert_eq!(payload, request.payload);
            assert_eq!((&envelope.kind, &envelope.user_type), (&request.kind, &request.user_type));
            assert_eq!((&envelope.session_id, &envelope.principal), (&request.session_id, &request.principal));
            assert_eq!((&envelope.actor, &envelope.traceparent), (&request.actor, &request.traceparent));
            assert_eq!((&envelope.request_id, &envelope.content_type), (&request.request_id, &request.content_type));
            let [Hold { budget, subject, unit, amount }] = &envelope.holds[..] else { panic!("{envelope:?}") };
            assert_eq!((budget.as_str(), subject, unit.as_str(), *amount), ("daily", &request.principal, "tokens", 7));
        }
    }
}
