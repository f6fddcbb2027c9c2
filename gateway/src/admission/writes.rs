//! What callers change, and how often they may change something or ask for credentials.
//!
//! Responsible for counting before anything is changed, and for who a caller is in records of changes. Must never count
//! by anything that a client chooses: an agent has the name that its delegation gives it.

use std::slice;

use portcullis_lua::{Grounds, Member, Revocation, Revoked, WriteLimit};

use super::session::Identity;
use crate::refusal::{Cause, Refused};
use crate::scope::ServedScope;
use crate::state::Gateway;

/// The name under which a refusal says which limit it is about.
const WRITES: &str = "writes";

/// Counts one write of this caller, or refuses it.
pub(crate) async fn count(gateway: &Gateway, identity: &Identity) -> Result<(), Refused> {
    count_by(gateway, identity.scope(), &actor(identity)).await
}

/// Counts one write of whoever is called so in records.
pub(crate) async fn count_by(gateway: &Gateway, scope: &ServedScope, actor: &str) -> Result<(), Refused> {
    let policy = scope.policy();
    let terms = &policy.policy().writes;
    let limit = WriteLimit { per_minute: terms.per_minute, per_hour: terms.per_hour };
    let counted = super::ask(gateway, Box::pin(scope.store().count_write(actor, limit))).await?;
    counted.map_err(|retry_after_ms| Refused {
        retry_after_ms: retry_after_ms.max(1),
        name: Some(WRITES.into()),
        ..Refused::new(
            Cause::TooManyWrites,
            "Too many changes",
            "This caller has made as many changes or asked for as many credentials as it may. Nothing was changed.",
        )
    })
}

/// Who this caller is in records of what was changed.
pub(crate) fn actor(identity: &Identity) -> String {
    match identity.actor() {
        Some(agent) => format!("agent:{agent}"),
        None => format!("user:{}", identity.principal()),
    }
}

/// Revokes a credential in this caller's name; this gateway knows of it afterwards, others hear of it.
pub(crate) async fn revoke(
    gateway: &Gateway,
    identity: &Identity,
    member: Member<'_>,
    lasts_ms: u64,
    reason: &str,
) -> Result<(), Refused> {
    let (scope, by) = (identity.scope(), actor(identity));
    let max_audit_events = scope.policy().policy().monitoring.max_audit_events;
    let revocation = Revocation { member: member.to_string(), lasts_ms, spares_later: false };
    let revoked = scope.store().give_up(slice::from_ref(&revocation), Grounds { by: &by, reason, max_audit_events });
    match super::ask(gateway, Box::pin(revoked)).await? {
        Revoked::Done { .. } => {
            _ = scope.catch_up_with_revocations().await;
            Ok(())
        }
        Revoked::Full { .. } => Err(full()),
    }
}

/// As much is revoked as can be.
pub(crate) fn full() -> Refused {
    let detail = "As many credentials are revoked as can be remembered. Nothing was revoked: wait until some expire.";
    Refused::new(Cause::IdentityUnavailable, "Too many revocations", detail)
}
