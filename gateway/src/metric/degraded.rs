//! The gauge of fallbacks in use.
//!
//! Responsible for one series for each of them, at 0 while it is not in use: an alert needs something to look at. Must
//! never find out which are: `degraded.rs` does.

use std::sync::LazyLock;

use metrics::{Unit, describe_gauge, gauge};

use super::PROMETHEUS;
use crate::degraded::{Degraded, Fallback};

const DEGRADED: &str = "portcullis_degraded";

/// Which of these fallbacks are in use.
pub(crate) fn degraded(looked_for: &[Fallback], in_use: &Degraded) {
    LazyLock::force(&PROMETHEUS);
    for fallback in looked_for {
        gauge!(DEGRADED, "reason" => fallback.as_str()).set(if in_use.contains(fallback) { 1.0 } else { 0.0 });
    }
}

pub(super) fn describe() {
    describe_gauge!(
        DEGRADED,
        Unit::Count,
        "1 while this fallback is known to be in use, in the process or its default scope."
    );
}
