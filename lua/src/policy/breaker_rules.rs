//! What a breaker goes by, as the scripts take it.
//!
//! Responsible for the settings of one kind's breaker. Must never hold its state, which lives in Redis alone.

use bytes::Bytes;
use portcullis_config::policy::TaskBreaker;

use crate::pack::Packer;

/// The settings of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BreakerRules {
    /// As `settle.lua` takes them.
    pub(crate) packed: Bytes,
    pub(crate) half_open_probes: u16,
    pub(crate) window_ms: u64,
}

impl BreakerRules {
    pub(super) fn new(breaker: &TaskBreaker) -> Self {
        let window_ms = breaker.window_seconds * 1000;
        let mut packer = Packer::with_capacity(56);
        packer
            .f64(window_ms as f64)
            .f64(breaker.open_seconds as f64 * 1000.0)
            .f64(breaker.slow_call_ms as f64)
            .f64(breaker.minimum_calls as f64)
            .f64(breaker.half_open_probes as f64)
            .f64(breaker.failure_rate)
            .f64(breaker.slow_call_rate);
        let half_open_probes = u16::try_from(breaker.half_open_probes).unwrap_or(u16::MAX);
        Self { packed: packer.finish(), half_open_probes, window_ms }
    }
}
