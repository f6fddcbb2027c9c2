//! `/admin/revocations`: what is revoked, revoking more, and going on after revocations were lost.
//!
//! Responsible for who dies with what is named and for how long that is remembered. Must never take a credential for
//! the name of one: what is named here is kept and shown.

mod wish;

use std::cmp::Reverse;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use portcullis_lua::{Grounds, Member, Revoked, RevokedMember, StoreError};
use serde_json::{Value, json};

use super::asked::{Asked, ScopeNames};
use super::scoped::Scoped;
use super::{Answer, Shared, redact};
use crate::admission::writes;
use crate::openapi::{RevocationsQuery, Revoking, Surveying};
use crate::refusal::{Cause, Refused};
use crate::respond::RequestId;
use crate::submitted::Submitted;
use crate::timestamp::rfc3339;
use wish::RevocationWish;

pub(crate) use wish::{KINDS, MAX_ID, MAX_REASON};

/// Revocations given when the caller does not say how many, and the most that are.
pub(crate) const REVOCATIONS: (u32, u32) = (50, 1000);

/// The word for what lowers a principal's user type, among the kinds of what is revoked.
pub(crate) const CEILING: &str = "ceiling";

/// Revokes what has this name, with everything that was derived from it. Nobody is admitted who dies with it once this
/// has answered. Twice is as good as once, except that what is revoked as it is now takes in what was issued since.
#[utoipa::path(
    post, path = "/admin/revocations", operation_id = "revoke", tag = "revocations",
    summary = "Revokes a principal, an agent, a session, a token or a key",
    description = "A principal, and a session by the id its limits are counted on, is revoked as it is now: who logs \
        in later is admitted. A login (a session by the digest of its token) and an API key (a token by its id) stay \
        revoked. So do an agent, a key and the token of a delegation for as long as any delegation lasts that was \
        granted before; by then all of them have expired, and new ones count.",
    request_body(content = ref("#/components/schemas/RevocationWish"), content_type = "application/json"),
    responses((status = 200, description = "It is revoked", body = ref("#/components/schemas/Revoked")), Revoking)
)]
pub(crate) async fn revoke(State(admin): Shared, asked: Asked, id: RequestId, body: Body) -> Answer {
    let mut submitted = Submitted::read(body).await?;
    submitted.faults.extend(asked.faults(&[], |_, _| Ok(())));
    let names = take_names(&mut submitted);
    let wish = RevocationWish::take(&mut submitted);
    let scoped = admin.address(&names, &asked, &submitted.faults).await?;
    submitted.sound()?;
    let wish = wish.ok_or_else(|| Refused::invalid(Vec::new()))?;
    scoped.operator().count_write(scoped.gateway()).await?;
    let revocation = wish.revocation(scoped.gateway().session_terms().lasts.lasts_ms);
    let by = scoped.operator().actor();
    let grounds = grounds(&scoped, &by, &wish.reason);
    let store = scoped.store_for_changes();
    let revoked = scoped.read(store.revoke(std::slice::from_ref(&revocation), grounds)).await;
    let (number, changed) = match revoked.map_err(|error| not_known(&error))? {
        Revoked::Done { number, changed } => (number, changed),
        Revoked::Full { .. } => return Err(writes::full()),
    };
    if let Some(login) = wish.login() {
        scoped.gateway().opened_sessions().forget(&login);
    }
    // Others hear of it; this gateway need not wait for the message.
    _ = scoped.scope().catch_up_with_revocations().await;
    tracing::info!(
        scope = %scoped.store().scope(), actor = by, request_id = id.as_str(), kind = wish.kind, number, changed,
        "something was revoked"
    );
    Ok(Json(json!({"number": number, "changed": changed, "kind": wish.kind, "id": wish.id})))
}

/// What is revoked.
#[utoipa::path(
    get, path = "/admin/revocations", operation_id = "list_revocations", tag = "revocations",
    summary = "What is revoked and has not expired",
    params(RevocationsQuery),
    responses(
        (status = 200, description = "Newest first", body = ref("#/components/schemas/Revocations")),
        Surveying
    )
)]
pub(crate) async fn list(State(admin): Shared, asked: Asked) -> Answer {
    let (scoped, limit) = admin.limited(&asked, REVOCATIONS).await?;
    let mut set = scoped.ask(scoped.store().revocations()).await?;
    let view = scoped.scope().catch_up_with_revocations().await;
    let total = set.members.len();
    set.members.sort_by_key(|member| Reverse(member.revoked_ms));
    Ok(Json(json!({
        "number": set.number,
        "lost": view.is_ok_and(|view| view.is_lost()),
        "total": total,
        "revocations": set.members.iter().take(limit as usize).map(shown).collect::<Value>(),
    })))
}

/// An operator has seen that Redis lost revocations, and has made those again that still matter: delegated callers are
/// served again. Harmless where none were lost.
#[utoipa::path(
    post, path = "/admin/revocations/acknowledge", operation_id = "acknowledge_loss", tag = "revocations",
    summary = "Goes on after revocations were lost",
    request_body(content = ref("#/components/schemas/Acknowledgement"), content_type = "application/json"),
    responses((status = 200, description = "Noted", body = ref("#/components/schemas/Acknowledged")), Revoking)
)]
pub(crate) async fn acknowledge(State(admin): Shared, asked: Asked, id: RequestId, body: Body) -> Answer {
    let mut submitted = Submitted::read(body).await?;
    submitted.faults.extend(asked.faults(&[], |_, _| Ok(())));
    let names = take_names(&mut submitted);
    let reason = wish::take_reason(&mut submitted);
    submitted.nothing_else("reason, tenant, project");
    let scoped = admin.address(&names, &asked, &submitted.faults).await?;
    submitted.sound()?;
    let reason = reason.ok_or_else(|| Refused::invalid(Vec::new()))?;
    scoped.operator().count_write(scoped.gateway()).await?;
    // A loss that this gateway has not noticed yet would not be ended by an acknowledgement that came before.
    scoped.scope().catch_up_with_revocations().await.map_err(|error| not_known(&error))?;
    let by = scoped.operator().actor();
    let store = scoped.store_for_changes();
    let acknowledged = scoped.read(store.acknowledge_loss(grounds(&scoped, &by, &reason))).await;
    let number = acknowledged.map_err(|error| not_known(&error))?;
    let view = scoped.scope().catch_up_with_revocations().await.map_err(|error| not_known(&error))?;
    tracing::warn!(
        scope = %scoped.store().scope(), actor = by, request_id = id.as_str(), number,
        "a loss of revocations was acknowledged"
    );
    Ok(Json(json!({"number": number, "lost": view.is_lost()})))
}

fn take_names(submitted: &mut Submitted) -> ScopeNames {
    ScopeNames { tenant: submitted.take_text("tenant"), project: submitted.take_text("project") }
}

fn grounds<'a>(scoped: &Scoped, by: &'a str, reason: &'a str) -> Grounds<'a> {
    Grounds { by, reason, max_audit_events: scoped.policy().policy().monitoring.max_audit_events }
}

/// A revocation as it is kept. Of a name that is long, only its digest is.
fn shown(revoked: &RevokedMember) -> Value {
    let (kind, id) = wish::named(Member::parse(&revoked.member))
        .unwrap_or_else(|| (CEILING, revoked.member.strip_prefix("u:").unwrap_or(&revoked.member)));
    json!({
        "kind": kind,
        "id": id,
        "user_type": revoked.ceiling,
        "revoked_at": rfc3339(revoked.revoked_ms),
        "until": rfc3339(revoked.expires_ms),
        "not_before": revoked.not_before_ms.map(rfc3339),
        "by": revoked.by,
        "reason": redact::text(&revoked.reason),
    })
}

/// Redis did not say what became of it.
fn not_known(error: &StoreError) -> Refused {
    tracing::warn!(%error, "it is not known whether a change of what is revoked was made");
    let detail = "Redis did not say whether this was done. It may be repeated.";
    Refused::new(Cause::StoreUnavailable, "Store unavailable", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_says_what_until_when_by_whom_and_why() {
        let revoked = RevokedMember {
            member: "p:ada".to_owned(),
            expires_ms: 2_000,
            revoked_ms: 1_000,
            not_before_ms: Some(1_000),
            ceiling: None,
            by: "user:root".to_owned(),
            reason: "leaked gs_canarycanarycanarycanary in a ticket".to_owned(),
        };
        let expected = json!({
            "kind": "principal", "id": "ada", "user_type": null, "revoked_at": "1970-01-01T00:00:01.000Z",
            "until": "1970-01-01T00:00:02.000Z", "not_before": "1970-01-01T00:00:01.000Z", "by": "user:root",
            "reason": "leaked *** in a ticket",
        });
        assert_eq!(shown(&revoked), expected);
        let ceiling = RevokedMember { member: "u:ada".to_owned(), not_before_ms: None, ..revoked };
        assert_eq!((&shown(&ceiling)["kind"], &shown(&ceiling)["id"]), (&json!("ceiling"), &json!("ada")));
    }
}
