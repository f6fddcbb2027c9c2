//! Fetches of keys that the rules forbid, in the audit.
//!
//! Responsible for an audit event of each issuer's in the default scope, at most one an hour: a URL or a name that has
//! come to lead into the operator's own network is an attack or a fault of somebody's DNS. Must never keep a fetch
//! waiting, nor fail it, where Redis is away: what was refused then is in the log, and is told with the next fetch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use portcullis_lua::{Grounds, Provenance, ScopeStore};
use serde_json::json;
use tokio::time::Instant;

use crate::background::Background;
use crate::identity::{FetchWitness, Forbidden};
use crate::refusal::Refused;
use crate::scope::ServedScope;

/// The event.
const EVENT: &str = "identity.fetch_refused";

/// Least time between two events of one issuer.
const EVERY: Duration = Duration::from_secs(3600);

/// Writes the events of one gateway.
#[derive(Debug)]
pub(crate) struct RefusedFetches {
    scope: Arc<ServedScope>,
    by: String,
    background: Background,
    told: Arc<Told>,
}

/// When an event of an issuer was last written, or began to be. As many as the identity document has issuers.
#[derive(Debug, Default)]
struct Told(Mutex<HashMap<String, Instant>>);

impl Told {
    /// Whether this issuer's turn has come; if so, it has been taken.
    fn take_turn(&self, issuer: &str) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(issuer).is_some_and(|at| at.elapsed() < EVERY) {
            return false;
        }
        told.insert(issuer.to_owned(), Instant::now());
        true
    }

    /// Nothing is known to have been written.
    fn give_back(&self, issuer: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(issuer);
    }
}

impl RefusedFetches {
    /// Of the gateway of this name, into this scope.
    pub(crate) fn new(scope: Arc<ServedScope>, instance: &str, background: Background) -> Self {
        Self { scope, by: format!("gateway:{instance}"), background, told: Arc::default() }
    }
}

impl FetchWitness for RefusedFetches {
    fn refused(&self, issuer: &str, forbidden: &Forbidden) {
        if !self.told.take_turn(issuer) {
            return;
        }
        let (scope, by, told) = (self.scope.clone(), self.by.clone(), self.told.clone());
        let (issuer, forbidden) = (issuer.to_owned(), forbidden.clone());
        self.background.spawn_until_stopped(async move {
            if let Err(refused) = witness(&scope, &by, &issuer, &forbidden).await {
                // An answer that was lost may make two events of one; none would be worse.
                told.give_back(&issuer);
                let code = refused.cause.code();
                tracing::warn!(issuer, %forbidden, code, "a refused fetch of keys could not be written to the audit");
            }
        });
    }
}

/// The gateway witnesses it itself, and nobody can revoke a gateway: whatever is revoked, it counts.
async fn witness(scope: &ServedScope, by: &str, issuer: &str, forbidden: &Forbidden) -> Result<(), Refused> {
    let max_audit_events = scope.policy().policy().monitoring.max_audit_events;
    let Forbidden { host, address, reason } = forbidden;
    let about = &json!({"issuer": issuer, "host": host, "address": address, "reason": reason});
    let grounds = Grounds { by, reason, max_audit_events };
    let noted = move |store: ScopeStore| async move { store.witness(EVENT, grounds, about).await };
    scope.decider().vouch(&Provenance::default(), noted).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Gateway;
    use crate::state::tests::options_without_redis;

    #[tokio::test(start_paused = true)]
    async fn an_issuer_has_one_turn_an_hour_unless_it_was_for_nothing() {
        let told = Told::default();
        assert!(told.take_turn("one") && !told.take_turn("one") && told.take_turn("two"));
        tokio::time::advance(EVERY.saturating_sub(Duration::from_millis(1))).await;
        assert!(!told.take_turn("one"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(told.take_turn("one"));
        told.give_back("one");
        assert!(told.take_turn("one") && !told.take_turn("one"));
    }

    #[tokio::test]
    async fn without_redis_nobody_waits_and_the_turn_is_not_lost() {
        let gateway = Gateway::new(options_without_redis());
        let scope = gateway.scopes().default_scope().clone();
        let refused = RefusedFetches::new(scope, gateway.instance(), Background::default());
        let forbidden = Forbidden { host: "keys.example".to_owned(), address: None, reason: "is inside" };
        refused.refused("one", &forbidden);
        assert!(!refused.told.take_turn("one"), "it is being written");
        let given_back = async {
            while !refused.told.take_turn("one") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), given_back).await.expect("whoever fails to write says so");
    }
}
