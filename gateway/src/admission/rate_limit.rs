//! Step 2, rate limit: how fast a session comes.
//!
//! Feeds the script the session and its user type (which windows, how large), whom else named limits count (principal,
//! client address, agent), and as how many requests the task's kind counts. Refuses with `burst_limit`, `hourly_limit`
//! or, for any other named limit, `rate_limit`. A session whose window was full is
//! refused from memory for up to a second, so that a flood of one session costs Redis one command a second.

use portcullis_lua::{PolicyStamp, Reason};

use super::session::Identity;
use crate::refusal_memory::{Recalled, RefusalMemory};

/// The refusal of a session whose window was full a moment ago and still is.
pub(super) fn recall(memory: &RefusalMemory, identity: &Identity, stamp: PolicyStamp) -> Option<Recalled> {
    memory.session(super::subject(identity, ""), stamp)
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
