//! What callers change, and how often they may change something or ask for credentials.
//!
//! Responsible for counting before anything is changed, and for who a caller is in records of changes. Must never count
//! by anything that a client chooses. That goes for the name of an agent, too: whoever holds a chain hands it on under
//! any name, and its principal lets in as many as it likes. So all agents of a principal count as one, and apart from
//! the principal, or one that runs wild could keep it from taking back what it was given.

use std::slice;

use portcullis_lua::{Grounds, Member, Revocation, Revoked, ScopeStore, WriteLimit};

use super::session::Identity;
use crate::refusal::{Cause, Refused};
use crate::state::Gateway;

/// The name under which a refusal says which limit it is about.
const WRITES: &str = "writes";

/// Counts one write of this caller, or refuses it.
pub(crate) async fn count(gateway: &Gateway, identity: &Identity) -> Result<(), Refused> {
    let (scope, subject) = (identity.scope(), subject(identity));
    let policy = scope.policy();
    let terms = &policy.policy().writes;
    let limit = WriteLimit { per_minute: terms.per_minute, per_hour: terms.per_hour };
    let counted = super::ask(gateway, Box::pin(scope.store().count_write(&subject, limit))).await?;
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

/// Whose writes this caller's are counted with.
fn subject(identity: &Identity) -> String {
    let whose = if identity.actor().is_some() { "agents" } else { "user" };
    format!("{whose}:{}", identity.principal())
}

/// Who this caller is in records of what was changed.
pub(crate) fn actor(identity: &Identity) -> String {
    match identity.actor() {
        Some(agent) => format!("agent:{agent}"),
        None => format!("user:{}", identity.principal()),
    }
}

/// The store, for what this caller changes: of an agent, events also say whom it acts for, and by which delegations.
/// Its own name is whatever the holder of the chain above it chose.
pub(crate) fn store_for(store: &ScopeStore, identity: &Identity) -> ScopeStore {
    store.acting_for(identity.principal(), &identity.caller().hops)
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
    let (store, grounds) = (store_for(scope.store(), identity), Grounds { by: &by, reason, max_audit_events });
    let revoked = store.give_up(slice::from_ref(&revocation), grounds);
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

#[cfg(test)]
mod tests {
    use portcullis_config::UserType;

    use super::*;
    use crate::admission::session::known_for_tests;
    use crate::caller::{Caller, Source};
    use crate::state::tests::options_without_redis;

    #[tokio::test]
    async fn agents_of_a_principal_count_as_one_whatever_they_are_called_and_apart_from_it() {
        let gateway = Gateway::new(options_without_redis());
        let subject_of = |principal: &str, agent: Option<&str>| {
            let caller = Caller::new(principal.to_owned(), UserType::anonymous(), "s".to_owned(), Source::Delegation);
            subject(&known_for_tests(&gateway, Caller { actor: agent.map(str::to_owned), ..caller }))
        };
        assert_eq!(subject_of("ada", Some("indexer")), subject_of("ada", Some("indexer-2")));
        assert_ne!(subject_of("ada", Some("indexer")), subject_of("bob", Some("indexer")));
        assert_ne!(subject_of("ada", Some("ada")), subject_of("ada", None));
    }
}
