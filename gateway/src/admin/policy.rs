//! The policy of a scope: what it is, what it was, who holds it, and changing it.
//!
//! Responsible for the routes under `/admin/gateway`. Must never change anything on a dry run,
//! anywhere, nor take what a client says of itself for who it is.

pub(crate) mod request;
pub(super) mod change;
mod convergence;
pub(super) mod view;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use portcullis_config::Amendment;
use portcullis_lua::Origin;
use serde_json::{Value, json};

use super::asked::Asked;
use super::scoped::{Scoped, unanswered};
use super::{Answer, Shared};
use crate::openapi::{ChangeQuery, Changing, RevisionPath, RevisionsQuery, ScopeQuery, Surveying, Validating};
use crate::refusal::{Refused, RequestFault};
use crate::respond::RequestId;
use crate::submitted::Submitted;
use change::{Base, Plan};
use request::ChangeRequest;

/// Revisions given when the caller does not say how many, and the most that are: each is read by itself.
pub(crate) const REVISIONS: (u32, u32) = (50, 200);

/// Says what a document or a patch would mean, and changes nothing. A body that cannot be accepted is answered with all
/// that is wrong with it, and 200: that is what was asked. Without Redis it is judged by what this gateway holds.
#[utoipa::path(
    post, path = "/admin/gateway/validate-config", operation_id = "validate_config", tag = "policy",
    summary = "What a patch or a document would mean, or all that is wrong with it",
    request_body(content = ref("#/components/schemas/Candidate"), content_type = "application/json"),
    responses(
        (status = 200, description = "Nothing is changed", body = ref("#/components/schemas/Validation")),
        Validating
    )
)]
pub(crate) async fn validate(State(admin): Shared, asked: Asked, body: Body) -> Answer {
    let mut submitted = Submitted::read(body).await?;
    let request = ChangeRequest::take(&mut submitted, &asked);
    let amendment = request::take_amendment(&mut submitted);
    let scoped = admin.address(&request.names, &asked, &submitted.faults).await?;
    let base = Base::stored(&scoped).await.unwrap_or_else(|_| Base::held(&scoped));
    let mut errors = submitted.faults;
    if let Some(expected) = request.expected_revision.filter(|expected| *expected != base.revision()) {
        let message = format!("is {expected}, but the policy is at revision {}", base.revision());
        errors.push(RequestFault::new("expected_revision", message));
    }
    let amended = amendment.map(|amendment| base.amended(&scoped, &amendment)).and_then(|made| match made {
        Ok(amended) => Some(amended),
        Err(found) => {
            errors.extend(found);
            None
        }
    });
    let changes = amended.as_ref().map(|amended| amended.changes.as_slice()).unwrap_or_default();
    Ok(Json(json!({
        "scope": scoped.store().scope(),
        "revision": base.revision(),
        "valid": errors.is_empty(),
        "errors": errors,
        "warnings": amended.as_ref().map(|amended| amended.warnings.as_slice()).unwrap_or_default(),
        "changed": view::paths(changes, |_| true),
        "changes": super::redact::document(json!(changes)),
        "effective": amended.as_ref().map(|amended| super::redact::document(amended.effective.clone())),
    })))
}

/// Patches the document, or replaces it.
#[utoipa::path(
    post, path = "/admin/gateway/update-config", operation_id = "update_config", tag = "policy",
    summary = "Patches the document, or replaces it",
    params(ChangeQuery),
    request_body(content = ref("#/components/schemas/Update"), content_type = "application/json"),
    responses((status = 200, description = "It is in force", body = ref("#/components/schemas/Change")), Changing)
)]
pub(crate) async fn update(State(admin): Shared, asked: Asked, id: RequestId, body: Body) -> Answer {
    let mut submitted = Submitted::read(body).await?;
    let request = ChangeRequest::take(&mut submitted, &asked);
    let amendment = request::take_amendment(&mut submitted);
    let scoped = admin.address(&request.names, &asked, &submitted.faults).await?;
    let plan = amendment.map(|amendment| Plan { amendment, origin: Origin::Update, rolled_back_to: None });
    answer_change(&scoped, &request, plan, submitted.faults, &id).await
}

/// Goes back to the document this gateway was started with.
#[utoipa::path(
    post, path = "/admin/gateway/reset-config", operation_id = "reset_config", tag = "policy",
    summary = "Back to the document the gateway was started with",
    params(ChangeQuery),
    request_body(content = ref("#/components/schemas/Reset"), content_type = "application/json"),
    responses((status = 200, description = "It is in force", body = ref("#/components/schemas/Change")), Changing)
)]
pub(crate) async fn reset(State(admin): Shared, asked: Asked, id: RequestId, body: Body) -> Answer {
    let mut submitted = Submitted::read(body).await?;
    let request = ChangeRequest::take(&mut submitted, &asked);
    request::take_nothing(&mut submitted);
    let scoped = admin.address(&request.names, &asked, &submitted.faults).await?;
    let amendment = Amendment::Whole(scoped.live().boot_document());
    let plan = Plan { amendment, origin: Origin::Reset, rolled_back_to: None };
    answer_change(&scoped, &request, Some(plan), submitted.faults, &id).await
}

/// Goes back to the document of an earlier revision.
#[utoipa::path(
    post, path = "/admin/gateway/config/rollback", operation_id = "rollback_config", tag = "policy",
    summary = "Back to the document of an earlier revision",
    params(ChangeQuery),
    request_body(content = ref("#/components/schemas/Rollback"), content_type = "application/json"),
    responses((status = 200, description = "It is in force", body = ref("#/components/schemas/Change")), Changing)
)]
pub(crate) async fn rollback(State(admin): Shared, asked: Asked, id: RequestId, body: Body) -> Answer {
    let mut submitted = Submitted::read(body).await?;
    let request = ChangeRequest::take(&mut submitted, &asked);
    let number = request::take_revision(&mut submitted);
    let scoped = admin.address(&request.names, &asked, &submitted.faults).await?;
    let Some(number) = number else { return Err(Refused::invalid(submitted.faults)) };
    if !submitted.faults.is_empty() {
        return Err(Refused::invalid(submitted.faults));
    }
    let record = scoped.ask(scoped.store().revision(number)).await?.ok_or_else(Refused::not_found)?;
    let amendment = Amendment::Whole(record.after);
    let plan = Plan { amendment, origin: Origin::Rollback, rolled_back_to: Some(number) };
    answer_change(&scoped, &request, Some(plan), submitted.faults, &id).await
}

async fn answer_change(
    scoped: &Scoped,
    request: &ChangeRequest,
    plan: Option<Plan>,
    faults: Vec<RequestFault>,
    id: &RequestId,
) -> Answer {
    let made = Box::pin(change::make(scoped, request, plan, faults)).await?;
    if request.dry_run {
        return Ok(Json(view::made(scoped, request, &made, &Value::Null)));
    }
    tracing::info!(
        scope = %scoped.store().scope(), revision = made.revision, actor = scoped.operator().actor(),
        request_id = id.as_str(),
        origin = ?made.origin, changed = ?view::paths(&made.amended.changes, |_| true), "the policy was changed"
    );
    let convergence = convergence::wait(scoped, made.revision, request.wait).await;
    Ok(Json(view::made(scoped, request, &made, &convergence)))
}

/// The policy this gateway holds.
#[utoipa::path(
    get, path = "/admin/gateway/config", operation_id = "read_config", tag = "policy",
    summary = "The policy this gateway holds",
    params(ScopeQuery),
    responses((status = 200, description = "With its author", body = ref("#/components/schemas/Config")), Surveying)
)]
pub(crate) async fn config(State(admin): Shared, asked: Asked) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    let stored = scoped.scope().catch_up().await.ok();
    Ok(Json(view::config(&scoped, stored.map(portcullis_lua::PolicyStamp::revision))))
}

/// The newest revisions that are kept.
#[utoipa::path(
    get, path = "/admin/gateway/config/revisions", operation_id = "list_revisions", tag = "policy",
    summary = "The revisions that are kept",
    params(RevisionsQuery),
    responses((status = 200, description = "Newest first", body = ref("#/components/schemas/Revisions")), Surveying)
)]
pub(crate) async fn revisions(State(admin): Shared, asked: Asked) -> Answer {
    let (scoped, limit) = admin.limited(&asked, REVISIONS).await?;
    let list = scoped.ask(scoped.store().revisions(limit as usize)).await?;
    Ok(Json(json!({"revisions": list.iter().map(view::summary).collect::<Value>()})))
}

/// One revision with the document before it and its own. What is not a number names none.
#[utoipa::path(
    get, path = "/admin/gateway/config/revisions/{n}", operation_id = "read_revision", tag = "policy",
    summary = "A revision with the document before it and its own",
    params(RevisionPath, ScopeQuery),
    responses(
        (status = 200, description = "As it was stored", body = ref("#/components/schemas/RevisionRecord")),
        Surveying
    )
)]
pub(crate) async fn revision(State(admin): Shared, asked: Asked, Path(number): Path<String>) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    let number = number.parse().map_err(|_| Refused::not_found())?;
    let record = scoped.ask(scoped.store().revision(number)).await?.ok_or_else(Refused::not_found)?;
    Ok(Json(view::record(&record)))
}

/// Which replica holds which policy.
#[utoipa::path(
    get, path = "/admin/gateway/config/convergence", operation_id = "read_convergence", tag = "policy",
    summary = "Which replica holds which revision",
    params(ScopeQuery),
    responses(
        (status = 200, description = "Silent ones are shown and do not count",
            body = ref("#/components/schemas/Convergence")),
        Surveying
    )
)]
pub(crate) async fn convergence(State(admin): Shared, asked: Asked) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    let seen = convergence::look(&scoped).await.map_err(|error| unanswered(&error))?;
    Ok(Json(convergence::shown(&seen)))
}
