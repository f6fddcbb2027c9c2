//! Principals that have become less than they were when they logged in, or let agents act for them.
//!
//! Responsible for noticing it: an identity provider says what a principal is now, its sessions and delegations what it
//! was. Must never raise either above what it was made as, nor heed an older word after a newer one: a token that was
//! issued before a change goes on to say what was before it. Asked once a minute and principal, because what a provider
//! says changes when people change it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_lua::{Granted, Grounds, Revoked, StoreError};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::caller::{Caller, Source};
use crate::delegation_terms::LONGEST_MS;
use crate::identity::rank;
use crate::metric;
use crate::scope::ServedScope;
use crate::store_breaker::StoreBreaker;

/// How long what was seen of a principal is taken for what it is.
const BELIEVED: Duration = Duration::from_secs(60);

/// Principals remembered at once; more only means more questions.
const MAX_PRINCIPALS: usize = 10_000;

/// How much longer is remembered as what a session was opened, than it lasts: it is noted before it is opened.
const OPENING_MS: u64 = 60_000;

/// Compares what principals are with what they logged in or delegated as.
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

    /// Notes what a provider says this caller's principal is. What is not known of its sessions and delegations is
    /// looked up; where Redis does not answer, the next token of that principal asks again: who needs no Redis is
    /// served without one, and they are not.
    pub(super) async fn note(&self, scope: &ServedScope, caller: &Caller) {
        if !is_told_by_provider(caller) {
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
            Err(error) => tracing::debug!(%error, "what a principal granted as is not known"),
        }
    }

    /// Notes that this caller opens a session that lasts so long, as what a provider says it is.
    pub(crate) async fn note_login(
        &self,
        scope: &ServedScope,
        caller: &Caller,
        lasts_ms: u64,
    ) -> Result<(), StoreError> {
        if !is_told_by_provider(caller) {
            return Ok(());
        }
        let (granted, lasts_ms) = (granted_by(caller), lasts_ms.saturating_add(OPENING_MS));
        self.breaker.call(Box::pin(scope.store().note_grant(&caller.principal, &granted, lasts_ms))).await
    }
}

/// Keys and internal tokens have a type of their own, which says nothing about their owner's.
fn is_told_by_provider(caller: &Caller) -> bool {
    matches!(caller.source, Source::Jwt | Source::Balancer)
}

fn granted_by(caller: &Caller) -> Granted {
    let user_type = caller.user_type.clone();
    Granted { rank: rank(&user_type), user_type, as_of_ms: caller.issued_at_ms }
}

async fn compare(scope: &ServedScope, caller: &Caller) -> Result<(), StoreError> {
    let store = scope.store();
    let Some(granted) = store.granted_as(&caller.principal).await? else { return Ok(()) };
    // After an older token has granted something again, what is noted is more than what all of it is served as.
    let view = scope.revocations().load();
    let is_another = |user_type: &UserType| *user_type != caller.user_type;
    let changes = is_another(&granted.user_type) || view.ceiling(&caller.principal).is_some_and(is_another);
    if !changes || caller.issued_at_ms < granted.as_of_ms {
        return Ok(());
    }
    let max_audit_events = scope.policy().policy().monitoring.max_audit_events;
    let grounds = Grounds { by: "gateway", reason: "said by the provider", max_audit_events };
    // As long as anything is left that was granted so.
    let lasts_ms = store.granted_for_ms(&caller.principal).await?.max(LONGEST_MS);
    match store.set_ceiling(&caller.principal, Some(&caller.user_type), lasts_ms, grounds).await? {
        Revoked::Done { .. } => store.replace_grant(&caller.principal, &granted_by(caller)).await,
        Revoked::Full { revoked } => {
            metric::lowering_refused();
            let (scope, principal) = (store.scope(), &caller.principal);
            tracing::warn!(%scope, principal, revoked, "a principal is not lowered yet: too much is revoked");
            Ok(())
        }
    }
}
