//! The body of a task's record, as it is written at admission: `[envelope][payload]`.
//!
//! Must never say anything else than an [`Envelope`](crate::Envelope) reads back.

use bytes::Bytes;

use crate::ended::Acting;
use crate::envelope::{ENVELOPE_BYTES, EnvelopeView, HoldView};
use crate::pack::Packer;
use crate::question::{Draw, Question};

/// The body of the task that this request asks for.
pub(super) fn body(question: &Question<'_>) -> Bytes {
    let request = question.request;
    let acting = Acting::of_chain(&request.principal, &request.provenance.hops);
    let envelope = EnvelopeView {
        kind: &request.kind,
        user_type: request.user_type.as_str(),
        session_id: &request.session_id,
        principal: &request.principal,
        actor: request.actor.as_deref(),
        agents: acting.as_ref().map_or(&[], |acting| &acting.agents),
        members: &request.provenance.members,
        issued_at_ms: request.provenance.issued_at_ms.unwrap_or(0),
        request_id: &request.request_id,
        traceparent: request.traceparent.as_deref(),
        tracestate: request.tracestate.as_deref(),
        content_type: &request.content_type,
    };
    let mut body = Packer::with_capacity(ENVELOPE_BYTES + request.payload.len());
    envelope.pack(&mut body, question.draws.iter().map(hold));
    body.bytes(&request.payload).finish()
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
    use crate::envelope::{Envelope, Hold};
    use crate::pack::Unpacker;
    use crate::policy::CompiledPolicy;
    use crate::provenance::{Hop, Provenance};
    use crate::stamp::PolicyStamp;
    use crate::task::TaskId;

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
            provenance: Provenance::default(),
            request_id: "r".to_owned(),
            traceparent: None,
            tracestate: None,
            content_type: "application/json".to_owned(),
            payload: Bytes::from_static(b"\x00{}"),
        };
        for actor in [None, Some("agent".to_owned())] {
            (request.traceparent, request.tracestate) = (actor.clone(), actor.clone());
            request.provenance.members = actor.iter().map(|actor| format!("c:{actor}")).collect();
            request.provenance.issued_at_ms = actor.is_some().then_some(7);
            let agent = actor.iter().map(|actor| Hop { client_id: actor.clone(), ..Hop::default() });
            request.provenance.hops = agent.collect();
            request.actor = actor;
            let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
            let mut written = Unpacker::new(body(&Question::new(&policy, &request).unwrap()));
            let envelope = Envelope::unpack(&mut written).unwrap();
            assert_eq!(written.rest(), request.payload);
            assert_eq!((&envelope.kind, &envelope.user_type), (&request.kind, &request.user_type));
            assert_eq!((&envelope.session_id, &envelope.principal), (&request.session_id, &request.principal));
            assert_eq!((&envelope.actor, &envelope.traceparent), (&request.actor, &request.traceparent));
            assert_eq!(envelope.agents, request.actor.iter().cloned().collect::<Vec<_>>());
            assert_eq!(envelope.tracestate, request.tracestate);
            assert_eq!(&envelope.members[..], &request.provenance.members[..]);
            assert_eq!(envelope.issued_at_ms, request.provenance.issued_at_ms.unwrap_or(0));
            assert_eq!((&envelope.request_id, &envelope.content_type), (&request.request_id, &request.content_type));
            let [Hold { budget, subject, unit, amount }] = &envelope.holds[..] else { panic!("{envelope:?}") };
            assert_eq!((budget.as_str(), subject, unit.as_str(), *amount), ("daily", &request.principal, "tokens", 7));
        }
    }
}
