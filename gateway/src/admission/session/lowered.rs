//! Principals that have become less than they were when they logged in, or let agents act for them.
//!
//! Responsible for who speaks for a provider, how new its word is, and for asking Redis about it once a minute and
//! principal, because what a provider says changes when people change it. What follows from the newest word is settled
//! in Redis, in one step. Must never take this gateway's view of what is revoked for what is stored.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::UserType;
use portcullis_lua::{AsOf, Grounds, Noted, Stated, StoreError};
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::caller::{Caller, Source};
use crate::identity::{LEEWAY_SECONDS, rank};
use crate::metric;
use crate::scope::ServedScope;
use crate::store_breaker::StoreBreaker;

/// How long what was seen of a principal is taken for what it is.
const BELIEVED: Duration = Duration::from_secs(60);

/// Principals remembered at once; more only means more questions.
const MAX_PRINCIPALS: usize = 10_000;

/// How much longer is remembered as what something was given out, than it lasts: it is noted before it is made.
const MAKING_MS: u64 = 60_000;

/// Compares what principals are with what they logged in or delegated as.
#[derive(Debug)]
pub(crate) struct Lowered {
    breaker: Arc<StoreBreaker>,
    seen: Cache<(u64, String), Arc<Seen>>,
}

/// What was said last of a principal, and when that was compared.
#[derive(Debug)]
struct Seen {
    user_type: UserType,
    /// How new the newest word was then; `None`: it has given nothing out.
    as_of_ms: Option<u64>,
    at: Instant,
}

impl Seen {
    /// Whether nothing follows from what this caller's provider says.
    fn settles(&self, caller: &Caller, word: AsOf) -> bool {
        let is_believed = self.at.elapsed() < BELIEVED;
        let is_same = caller.user_type == self.user_type;
        match word {
            AsOf::Time(as_of_ms) if self.as_of_ms.is_some_and(|newest_ms| as_of_ms < newest_ms) => true,
            AsOf::Time(_) => is_believed && is_same,
            // Of two logins through a balancer either may say more: their sessions do not follow every turn of theirs.
            AsOf::Now => is_believed && (is_same || rank(&caller.user_type) > rank(&self.user_type)),
        }
    }
}

impl Lowered {
    pub(crate) fn new(breaker: Arc<StoreBreaker>) -> Self {
        Self { breaker, seen: Cache::new(MAX_PRINCIPALS) }
    }

    /// Notes what a provider says this caller's principal is. What it gave out before is served as no more from then
    /// on; where Redis does not answer, the next token of that principal asks again: who needs no Redis is served
    /// without one, and they are not.
    pub(super) async fn note(&self, scope: &ServedScope, caller: &Caller) {
        let Some(word) = word_of(caller) else { return };
        let key = (scope.number(), caller.principal.clone());
        if self.seen.get(&key).is_some_and(|seen| seen.settles(caller, word)) {
            return;
        }
        let (stated, grounds) = (stated_by(caller), grounds(scope));
        match self.breaker.call(Box::pin(scope.store().note_word(stated, grounds))).await {
            Ok(noted) => {
                let as_of_ms = noted.and_then(|noted| told(scope, caller, noted).as_of_ms);
                let user_type = caller.user_type.clone();
                self.seen.insert(key, Arc::new(Seen { user_type, as_of_ms, at: Instant::now() }));
            }
            Err(error) => tracing::debug!(%error, "what a principal granted as is not known"),
        }
    }

    /// Notes that this caller is about to be given something that outlives its credential and lasts so long; as what it
    /// may be given that.
    pub(crate) async fn note_grant(
        &self,
        scope: &ServedScope,
        caller: &Caller,
        lasts_ms: u64,
    ) -> Result<UserType, StoreError> {
        let (stated, lasts_ms) = (stated_by(caller), lasts_ms.saturating_add(MAKING_MS));
        let noted = self.breaker.call(Box::pin(scope.store().note_grant(stated, lasts_ms, grounds(scope)))).await?;
        Ok(told(scope, caller, noted).at_most)
    }
}

/// How new a word of a provider's this caller brings, if it does. Nobody else speaks for one: what a session or a
/// delegation says was said when it was made, and keys and internal tokens have a type of their own.
fn word_of(caller: &Caller) -> Option<AsOf> {
    match caller.source {
        // As its issuer wrote it; a caller counts as that much older than its token.
        Source::Jwt => Some(AsOf::Time(caller.issued_at_ms.saturating_add(LEEWAY_SECONDS * 1000))),
        // Asserted with every request; when the balancer was told it does not say.
        Source::Balancer => Some(AsOf::Now),
        Source::Address
        | Source::DevToken
        | Source::Vouched
        | Source::Session
        | Source::InternalToken
        | Source::ApiKey
        | Source::Delegation => None,
    }
}

fn stated_by(caller: &Caller) -> Stated<'_> {
    let (principal, user_type) = (&caller.principal, &caller.user_type);
    Stated { principal, user_type, rank: rank(user_type), word: word_of(caller) }
}

fn grounds(scope: &ServedScope) -> Grounds<'static> {
    let max_audit_events = scope.policy().policy().monitoring.max_audit_events;
    Grounds { by: "gateway", reason: "said by the provider", max_audit_events }
}

fn told(scope: &ServedScope, caller: &Caller, noted: Noted) -> Noted {
    if let Some(revoked) = noted.full {
        metric::lowering_refused();
        let (scope, principal) = (scope.store().scope(), &caller.principal);
        tracing::warn!(%scope, principal, revoked, "a principal is not lowered yet: too much is revoked");
    }
    noted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(source: Source, name: &str, issued_at_ms: u64) -> Caller {
        let user_type = UserType::new(name).unwrap();
        Caller { issued_at_ms, ..Caller::new("ada".to_owned(), user_type, "user-ada".to_owned(), source) }
    }

    #[test]
    fn only_a_provider_has_a_word_and_only_its_own_time_dates_it() {
        let word = |source| word_of(&caller(source, "paid", 70_000));
        assert_eq!(word(Source::Jwt), Some(AsOf::Time(100_000)));
        assert_eq!(word(Source::Balancer), Some(AsOf::Now));
        for source in [Source::DevToken, Source::Session, Source::InternalToken, Source::ApiKey, Source::Delegation] {
            assert_eq!(word(source), None, "{source:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_word_is_compared_unless_it_says_the_same_within_a_minute_or_is_older() {
        let seen = Seen { user_type: UserType::new("paid").unwrap(), as_of_ms: Some(100_000), at: Instant::now() };
        let settled = |source, name: &str, said_ms: u64| {
            let caller = caller(source, name, said_ms - LEEWAY_SECONDS * 1000);
            seen.settles(&caller, word_of(&caller).expect("a word"))
        };
        for later in [false, true] {
            if later {
                tokio::time::advance(BELIEVED).await;
            }
            for (name, same_or_more) in [("registered", false), ("paid", true), ("privileged", true)] {
                let told = |source, said_ms| settled(source, name, said_ms);
                assert!(told(Source::Jwt, 99_000), "older, {name}");
                assert_eq!(told(Source::Jwt, 100_000), name == "paid" && !later, "{name}");
                assert_eq!(told(Source::Balancer, 30_000), same_or_more && !later, "{name}");
            }
        }
    }
}
