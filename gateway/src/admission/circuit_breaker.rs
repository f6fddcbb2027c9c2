//! Step 4, circuit breaker: what has been failing is left alone.
//!
//! Feeds the script the task's kind, whose breaker lives in Redis and is fed by settled attempts only: `circuit_open`.
//! Beside it stands the local breaker for Redis itself: while Redis does not answer, requests are refused with
//! `store_unavailable` in microseconds and Redis is left to the breaker's own probe.

use portcullis_lua::StoreError;

use crate::refusal::{Cause, Refused};
use crate::state::Gateway;

/// Title and detail of `circuit_open`.
pub(super) const WORDS: (&str, &str) =
    ("Circuit open", "Tasks of this kind have been failing. A few are let through as probes after Retry-After.");

/// Refuses while the breaker for Redis is open.
pub(super) fn consult(gateway: &Gateway) -> Result<(), Refused> {
    if gateway.store_breaker().is_open() { Err(store_unavailable()) } else { Ok(()) }
}

/// What a failed command means for the caller. It never learns more than that nothing could be decided.
pub(crate) fn unavailable(error: &StoreError) -> Refused {
    tracing::debug!(%error, "refused: nothing could be decided");
    store_unavailable()
}

fn store_unavailable() -> Refused {
    let detail = "The state that decisions are made on cannot be reached right now. Nothing is known to be admitted.";
    Refused::new(Cause::StoreUnavailable, "Store unavailable", detail)
}
