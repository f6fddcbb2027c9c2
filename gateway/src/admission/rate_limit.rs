//! Step 2, rate limit: how fast a session comes.
//!
//! Feeds the script the session and its user type (which windows, how large) and a cost of one request. Refuses with
//! `burst_limit`, `hourly_limit` or, for any other named limit, `rate_limit`. A session whose window was full is
//! refused from memory for up to a second, so that a flood of one session costs Redis one command a second.

use portcullis_lua::Reason;

use super::session::Identity;
use crate::refusal::Refused;
use crate::state::Gateway;

/// Repeats the refusal of a session whose window was full a moment ago and still is.
pub(super) fn recall(gateway: &Gateway, identity: &Identity, revision: u64) -> Result<(), Refused> {
    match gateway.refusal_memory().session(identity.session_id(), revision) {
        Some(recalled) => Err(super::recalled(identity, recalled)),
        None => Ok(()),
    }
}

/// Title and detail of this step's refusals.
pub(super) fn words(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::BurstLimit => (
            "Burst limit reached",
            "This session has used up its burst window. Refused requests do not count: wait for Retry-After.",
        ),
        Reason::HourlyLimit => (
            "Hourly limit reached",
            "This session has used up its hourly window. Refused requests do not count: wait for Retry-After.",
        ),
        _ => ("Rate limit reached", "The limit named in `limit` is used up: wait for Retry-After."),
    }
}
