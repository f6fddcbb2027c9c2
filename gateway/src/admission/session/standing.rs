//! Whether a caller whose credential is genuine still counts, and as what.
//!
//! Responsible for the revocations that this gateway knows of: a revoked caller is refused, a lowered one is served as
//! less. Must never take "not known" for "not revoked" where a credential does not expire by itself, or is handed on.
//! What admissions rest on is the script, which knows the number of revocations; this is for everything that does not
//! ask it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::RevocationView;
use tokio::time::{Instant, sleep};

use crate::caller::{Caller, Source};
use crate::credential::Unproven;
use crate::identity::rank;
use crate::scope::ServedScope;

const REVOKED: &str = "revoked";

/// Why credentials are refused that were good until then.
pub(super) const ONCE_GOOD: [&str; 2] = [REVOKED, "expired"];

/// How old what is known of a scope's revocations may be.
pub(super) const STALENESS: Duration = Duration::from_secs(5);

/// Longest time that somebody waits for it to be known or certain: Redis answers, or is away.
const LONGEST: Duration = Duration::from_secs(2);

/// For how long nobody waits again after that was in vain: Redis answers some, but not this.
const IN_VAIN: Duration = Duration::from_secs(1);

/// Pause until Redis is asked again.
const AGAIN: Duration = Duration::from_millis(25);

/// Refuses a caller who has been revoked; lowers one whose principal has been.
pub(super) async fn check(scope: &ServedScope, caller: &mut Caller) -> Result<(), Unproven> {
    if caller.members.is_empty() {
        return Ok(());
    }
    let mut view = scope.revocations().load();
    if !view.is_fresh(STALENESS) {
        // A scope that nobody has used for a while is not followed closely.
        if let Some(newer) = Box::pin(asked_now(scope, caller.source)).await? {
            view = newer;
        }
    }
    if view.covers(&caller.members, caller.issued_at_ms).is_some() {
        return Err(Unproven::Failed(REVOKED));
    }
    if dies_by_revocation(caller.source) && !view.is_fresh(STALENESS) {
        return Err(Unproven::Unknown);
    }
    if caller.source == Source::Delegation && view.is_lost() {
        return Err(Unproven::Unknown);
    }
    if matches!(caller.source, Source::Session | Source::Delegation)
        && let Some(ceiling) = view.ceiling(&caller.principal)
        && rank(ceiling) < rank(&caller.user_type)
    {
        caller.user_type = ceiling.clone();
    }
    Ok(())
}

/// What is revoked now; `None` where Redis does not say. Who counts all the same while Redis is away has to wait until
/// that is certain: one of them asks, all others wait for what comes of it.
async fn asked_now(scope: &ServedScope, source: Source) -> Result<Option<Arc<RevocationView>>, Unproven> {
    if dies_by_revocation(source) {
        return Ok(scope.catch_up_with_revocations().await.ok());
    }
    let (came, breaker) = (Instant::now(), &scope.decider().breaker);
    if breaker.is_away() {
        return Ok(None);
    }
    let mut in_vain = scope.asked_in_vain().lock().await;
    if in_vain.is_some_and(|ended| ended >= came) {
        return Err(Unproven::Unknown);
    }
    let held = scope.revocations().load();
    if held.is_fresh(STALENESS) {
        return Ok(Some(held));
    }
    let just_asked = in_vain.is_some_and(|ended| ended.elapsed() < IN_VAIN);
    loop {
        if let Ok(view) = scope.catch_up_with_revocations().await {
            *in_vain = None;
            return Ok(Some(view));
        }
        if breaker.is_away() {
            return Ok(None);
        }
        if just_asked || came.elapsed() >= LONGEST {
            *in_vain = Some(Instant::now());
            return Err(Unproven::Unknown);
        }
        sleep(AGAIN).await;
    }
}

/// Whether nothing but a revocation ends such a credential in time. Tokens of issuers and balancers expire: until then
/// their issuer's word holds where no revocation is known.
fn dies_by_revocation(source: Source) -> bool {
    match source {
        Source::Session | Source::Delegation | Source::ApiKey | Source::InternalToken => true,
        Source::Address | Source::DevToken | Source::Vouched | Source::Jwt | Source::Balancer => false,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use futures_util::future::join_all;
    use portcullis_config::UserType;
    use portcullis_lua::{Member, StoreError};

    use super::*;
    use crate::state::Gateway;
    use crate::state::tests::options_without_redis;

    /// What [`options_without_redis`] say.
    const AWAY: Duration = Duration::from_secs(1);

    /// What becomes of somebody's credential.
    async fn standing_at(gateway: &Gateway, source: Source) -> Result<(), Unproven> {
        let mut caller = Caller {
            members: [Member::Principal("ada").to_string()].into(),
            ..Caller::new("ada".to_owned(), UserType::anonymous(), "user-ada".to_owned(), source)
        };
        check(gateway.scopes().default_scope(), &mut caller).await
    }

    /// What becomes of it at a gateway that was started while Redis was away, and probes in this way.
    async fn standing<F>(source: Source, ping: impl Fn() -> F) -> Result<(), Unproven>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let gateway = Gateway::new(options_without_redis());
        tokio::select! {
            () = gateway.store_breaker().tend(ping) => unreachable!("tending has no end"),
            standing = standing_at(&gateway, source) => standing,
        }
    }

    fn refused() -> Ready<Result<(), StoreError>> {
        ready(Err(StoreError::Unavailable("connection refused".to_owned())))
    }

    #[tokio::test]
    async fn what_dies_by_nothing_but_revocation_is_not_alive_because_nobody_knows_better() {
        for source in [Source::Session, Source::Delegation, Source::ApiKey, Source::InternalToken] {
            let standing = standing(source, refused).await;
            assert!(matches!(standing, Err(Unproven::Unknown)), "{source:?}: {standing:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_its_issuer_lets_expire_is_alive_as_long_as_redis_is_away_for_certain() {
        for source in [Source::Jwt, Source::Balancer] {
            let began = Instant::now();
            let standing = standing(source, refused).await;
            assert!(standing.is_ok(), "{source:?}: {standing:?}");
            assert!(began.elapsed() >= AWAY, "{source:?}: a connection that only broke may be made again");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_alive_because_redis_answers_some_questions_but_not_this_one() {
        let (gateway, began) = (Gateway::new(options_without_redis()), Instant::now());
        let crowd = async {
            let standings = join_all((0..100).map(|_| standing_at(&gateway, Source::Jwt))).await;
            assert!(standings.iter().all(|standing| matches!(standing, Err(Unproven::Unknown))), "{standings:?}");
            let longest = LONGEST + AWAY / 2;
            assert!((LONGEST..longest).contains(&began.elapsed()), "they wait together: {:?}", began.elapsed());
            let again = Instant::now();
            let standing = standing_at(&gateway, Source::Jwt).await;
            assert!(matches!(standing, Err(Unproven::Unknown)), "{standing:?}");
            assert!(again.elapsed() < AWAY / 2, "nobody waits again so soon: {:?}", again.elapsed());
        };
        tokio::select! {
            () = gateway.store_breaker().tend(|| ready(Ok(()))) => unreachable!("tending has no end"),
            () = crowd => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_while_another_asked_in_vain_does_not_ask_again() {
        let gateway = Gateway::new(options_without_redis());
        let mut in_vain = gateway.scopes().default_scope().asked_in_vain().lock().await;
        let crowd = join_all((0..9).map(|_| standing_at(&gateway, Source::Jwt)));
        let asking = async {
            sleep(LONGEST).await;
            *in_vain = Some(Instant::now());
            drop(in_vain);
        };
        let (standings, ()) = tokio::join!(crowd, asking);
        assert!(standings.iter().all(|standing| matches!(standing, Err(Unproven::Unknown))), "{standings:?}");
        assert!(!gateway.store_breaker().is_open(), "nobody has missed an answer");
    }
}
