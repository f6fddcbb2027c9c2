//! The pass that a request asks for: its record, as it is written at admission, and the lease its holder gets.
//!
//! Must never say anything else than a [`PassRecord`](crate::PassRecord) reads back.

use bytes::Bytes;

use crate::ended::Acting;
use crate::error::StoreError;
use crate::pass::{PassLease, PassTerms, PassView};
use crate::question::Question;

/// The body of the record.
pub(super) fn body(question: &Question<'_>, terms: PassTerms) -> Result<Bytes, StoreError> {
    let request = question.request;
    let view = PassView {
        kind: &request.kind,
        user_type: request.user_type.as_str(),
        session_id: &request.session_id,
        principal: &request.principal,
        actor: request.actor.as_deref(),
        agents: acting(question).map(|acting| acting.agents).unwrap_or_default(),
        request_id: &request.request_id,
        lease_ms: terms.lease_ms,
        holds: question.holds(),
    };
    view.encode()
}

/// The lease of an admitted request; `None` where it asked for a decision only.
pub(super) fn lease(question: &Question<'_>, terms: PassTerms) -> Option<PassLease> {
    (terms.lease_ms > 0).then(|| PassLease {
        pass_id: question.request.task_id.clone(),
        kind: question.request.kind.clone(),
        lease_ms: terms.lease_ms,
        pooled: question.pool.is_some(),
        holds: question.holds(),
        acting: acting(question),
    })
}

fn acting(question: &Question<'_>) -> Option<Acting> {
    Acting::of_chain(&question.request.principal, &question.request.provenance.hops)
}
