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

/// How long Redis has to be away for what was known before to be the last word: connections that only broke are made
/// again within this. A gateway that was frozen finds them so.
const AWAY: Duration = Duration::from_secs(1);

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
/// that is certain.
async fn asked_now(scope: &ServedScope, source: Source) -> Result<Option<Arc<RevocationView>>, Unproven> {
    let began = Instant::now();
    loop {
        if let Ok(view) = scope.catch_up_with_revocations().await {
            return Ok(Some(view));
        }
        let away_for = scope.decider().breaker.open_for();
        if dies_by_revocation(source) || away_for.is_some_and(|away_for| away_for >= AWAY) {
            return Ok(None);
        }
        if began.elapsed() >= 2 * AWAY {
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
    use portcullis_config::UserType;
    use portcullis_lua::Member;

    use super::*;
    use crate::state::Gateway;
    use crate::state::tests::options_without_redis;

    /// What becomes of a caller at a gateway that was started while Redis was away.
    async fn standing(source: Source, members: &[Member<'_>]) -> Result<(), Unproven> {
        let gateway = Gateway::new(options_without_redis());
        let mut caller = Caller {
            members: members.iter().map(Member::to_string).collect(),
            ..Caller::new("ada".to_owned(), UserType::anonymous(), "user-ada".to_owned(), source)
        };
        check(gateway.scopes().default_scope(), &mut caller).await
    }

    #[tokio::test]
    async fn what_dies_by_nothing_but_revocation_is_not_alive_because_nobody_knows_better() {
        for source in [Source::Session, Source::Delegation, Source::ApiKey, Source::InternalToken] {
            let standing = standing(source, &[Member::Principal("ada")]).await;
            assert!(matches!(standing, Err(Unproven::Unknown)), "{source:?}: {standing:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_its_issuer_lets_expire_is_alive_as_long_as_redis_is_away_for_certain() {
        for source in [Source::Jwt, Source::Balancer] {
            let began = Instant::now();
            let standing = standing(source, &[Member::Principal("ada")]).await;
            assert!(standing.is_ok(), "{source:?}: {standing:?}");
            assert!(began.elapsed() >= AWAY, "{source:?}: a connection that only broke may be made again");
        }
    }
}
