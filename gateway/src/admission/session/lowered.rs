//! Principals that have become less than they were when they let agents act for them.
//!
//! Responsible for noticing it: an identity provider says what a principal is now, its delegations what it was. Must
//! never raise a delegation above what it was minted as, nor heed an older word after a newer one: a token that was
//! issued before a change goes on to say what was before it. Asked once a minute and principal, because what a provider
//! says changes when people change it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_lua::{Granted, Grounds};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::caller::{Caller, Source};
use crate::delegation_terms::LONGEST_MS;
use crate::identity::rank;
use crate::scope::ServedScope;
use crate::store_breaker::StoreBreaker;

/// How long what was seen of a principal is taken for what it is.
const BELIEVED: Duration = Duration::from_secs(60);

/// Principals remembered at once; more only means more questions.
const MAX_PRINCIPALS: usize = 10_000;

/// Compares what principals are with what they delegated as.
#[derive(Debug)]
pub(crate) struct Lowered {
    breaker: Arc<StoreBreaker>,
    seen: Cache<(u64, String), Arc<Seen>>,
}

/// What a provider said last, and when that was compared.
#[derive(Debug)]
struct Seen {
    user_type: UserType,
    issued_at_ms: u64,
    at: Instant,
}

impl Lowered {
    pub(crate) fn new(breaker: Arc<StoreBreaker>) -> Self {
        Self { breaker, seen: Cache::new(MAX_PRINCIPALS) }
    }

    /// Notes what a provider says this caller's principal is. What is not known of its delegations is looked up; where
    /// Redis does not answer, the next token of that principal asks again: who needs no Redis is served without one,
    /// and delegations are not.
    pub(super) async fn note(&self, scope: &ServedScope, caller: &Caller) {
        // Keys and internal tokens have a type of their own, which says nothing about their owner's.
        if !matches!(caller.source, Source::Jwt | Source::Balancer) {
            return;
        }
        let key = (scope.number(), caller.principal.clone());
        if let Some(seen) = self.seen.get(&key) {
            let same = seen.user_type == caller.user_type && seen.at.elapsed() < BELIEVED;
            if same || caller.issued_at_ms < seen.issued_at_ms {
                return;
            }
        }
        match self.breaker.call(Box::pin(compare(scope, caller))).await {
            Ok(()) => {
                let (user_type, issued_at_ms) = (caller.user_type.clone(), caller.issued_at_ms);
                self.seen.insert(key, Arc::new(Seen { user_type, issued_at_ms, at: Instant::now() }));
            }
            Err(error) => tracing::debug!(%error, "what a principal delegated as is not known"),
        }
    }
}

async fn compare(scope: &ServedScope, caller: &Caller) -> Result<(), portcullis_lua::StoreError> {
    let store = scope.store();
    let Some(granted) = store.granted_as(&caller.principal).await? else { return Ok(()) };
    if granted.user_type == caller.user_type || caller.issued_at_ms < granted.as_of_ms {
        return Ok(());
    }
    let max_audit_events = scope.policy().policy().monitoring.max_audit_events;
    let grounds = Grounds { by: "gateway", reason: "said by the provider", max_audit_events };
    store.set_ceiling(&caller.principal, Some(&caller.user_type), LONGEST_MS, grounds).await?;
    let (user_type, as_of_ms) = (caller.user_type.clone(), caller.issued_at_ms);
    let granted = Granted { rank: rank(&user_type), user_type, as_of_ms };
    store.replace_grant(&caller.principal, &granted, LONGEST_MS).await
}
