//! Step 3, backpressure: how much is waiting against what the live processors can work off.
//!
//! Feeds the script nothing but the user type, whose threshold applies, and the deadline: depth and capacity are read
//! where they are, inside the script. Refuses with `pressure_threshold`, `hard_limit`, `queue_full`,
//! `no_live_processors` or `deadline_unreachable`. Pressure on a user type is repeated from memory for at most 100 ms,
//! and for no longer than the queue can bear.

use portcullis_lua::{PolicyStamp, Reason};

use super::session::Identity;
use crate::refusal_memory::{Recalled, RefusalMemory};

/// The refusal of a user type that was over its threshold a moment ago, in tasks or in this route class.
pub(super) fn recall(memory: &RefusalMemory, identity: &Identity, class: &str, stamp: PolicyStamp) -> Option<Recalled> {
    memory.pressure(super::subject(identity, class), stamp)
}

/// Title and detail of this step's refusals.
pub(super) fn words(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::NoLiveProcessors => ("No live processors", "No processor accepts work at the moment."),
        Reason::QueueFull => ("Queue full", "The queue holds as many tasks as it may, whatever the capacity."),
        Reason::HardLimit => ("At the hard limit", "The waiting and running work is at the limit for every caller."),
        Reason::DeadlineUnreachable => (
            "Deadline unreachable",
            "The task would still be waiting at its deadline, so it is refused now instead of dropped then.",
        ),
        _ => (
            "Under pressure",
            "The waiting and running work is at the share of the capacity that this user type may use.",
        ),
    }
}
