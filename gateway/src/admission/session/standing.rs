//! Whether a caller whose credential is genuine still counts, and as what.
//!
//! Responsible for the revocations that this gateway knows of: a revoked caller is refused, a lowered one is served as
//! less. Must never take "not known" for "not revoked" where a credential can only die by revocation. What admissions
//! rest on is the script, which knows the number of revocations; this is for everything that does not ask it.

use std::time::Duration;

use crate::caller::{Caller, Source};
use crate::credential::Unproven;
use crate::identity::rank;
use crate::scope::ServedScope;

const REVOKED: &str = "revoked";

/// Why credentials are refused that were good until then.
pub(super) const ONCE_GOOD: [&str; 2] = [REVOKED, "expired"];

/// How old what is known of a scope's revocations may be.
pub(super) const STALENESS: Duration = Duration::from_secs(5);

/// Refuses a caller who has been revoked; lowers one whose principal has been.
pub(super) async fn check(scope: &ServedScope, caller: &mut Caller) -> Result<(), Unproven> {
    if caller.members.is_empty() {
        return Ok(());
    }
    let mut view = scope.revocations().load();
    if !view.is_fresh(STALENESS) {
        // A scope that nobody has used for a while is not followed closely.
        if let Ok(newer) = Box::pin(scope.catch_up_with_revocations()).await {
            view = newer;
        }
    }
    if view.covers(&caller.members, caller.issued_at_ms).is_some() {
        return Err(Unproven::Failed(REVOKED));
    }
    let dies_by_revocation = matches!(caller.source, Source::Session | Source::Delegation);
    if dies_by_revocation && !view.is_fresh(STALENESS) {
        return Err(Unproven::Unknown);
    }
    if caller.source == Source::Delegation && view.is_lost() {
        return Err(Unproven::Unknown);
    }
    if dies_by_revocation
        && let Some(ceiling) = view.ceiling(&caller.principal)
        && rank(ceiling) < rank(&caller.user_type)
    {
        caller.user_type = ceiling.clone();
    }
    Ok(())
}
