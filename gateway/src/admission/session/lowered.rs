//! Principals that have become less than they were when they let agents act for them.
//!
//! Responsible for noticing it: an identity provider says what a principal is now, its delegations what it was. Must
//! never raise a delegation above what it was minted as. Asked once a minute and principal, because a provider's word
//! changes when people change it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::{Scope, UserType};
use portcullis_lua::{Grounds, Store, StoreError};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::delegation_terms::LONGEST_MS;
use crate::store_breaker::StoreBreaker;

/// How long what was seen of a principal is taken for what it is.
const BELIEVED: Duration = Duration::from_secs(60);

/// Principals remembered at once; more only means more questions.
const MAX_PRINCIPALS: usize = 10_000;

/// Audit events kept by a scope whose policy is not at hand: the shipped number.
const MAX_AUDIT_EVENTS: u64 = 10_000;

/// Compares what principals are with what they delegated as.
#[derive(Debug)]
pub(crate) struct Lowered {
    store: Store,
    breaker: Arc<StoreBreaker>,
    default_scope: Scope,
    seen: Cache<(Option<Scope>, String), (UserType, Instant)>,
}

impl Lowered {
    pub(crate) fn new(store: Store, breaker: Arc<StoreBreaker>, default_scope: Scope) -> Self {
        Self { store, breaker, default_scope, seen: Cache::new(MAX_PRINCIPALS) }
    }

    /// Notes what a provider says this caller's principal is. What is not known of its delegations is looked up; where
    /// Redis does not answer, the next credential of that principal asks again.
    pub(crate) async fn note(&self, caller: &Caller) -> Result<(), StoreError> {
        let key = (caller.scope.clone(), caller.principal.clone());
        if let Some((user_type, at)) = self.seen.get(&key)
            && user_type == caller.user_type
            && at.elapsed() < BELIEVED
        {
            return Ok(());
        }
        let store = self.store.scope(caller.scope.as_ref().unwrap_or(&self.default_scope));
        let compared = Box::pin(async {
            let Some(granted) = store.granted_as(&caller.principal).await? else { return Ok(()) };
            if granted == caller.user_type.as_str() {
                return Ok(());
            }
            let grounds = Grounds { by: "gateway", reason: "said by the provider", max_audit_events: MAX_AUDIT_EVENTS };
            store.set_ceiling(&caller.principal, Some(&caller.user_type), LONGEST_MS, grounds).await?;
            store.note_grant(&caller.principal, &caller.user_type, LONGEST_MS).await
        });
        match self.breaker.call(compared).await {
            Ok(()) => self.seen.insert(key, (caller.user_type.clone(), Instant::now())),
            // Whoever needs no Redis is served without one, and delegations are not, without one.
            Err(error) => tracing::debug!(%error, "what a principal delegated as is not known"),
        }
        Ok(())
    }
}
