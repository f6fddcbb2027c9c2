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

/// The rules that a batch goes by, each once.
#[derive(Debug)]
pub(crate) struct ListedRules {
    /// One after another.
    pub(crate) packed: Bytes,
    /// For each of the batch, the number of its own, from 1.
    pub(crate) numbers: Vec<u8>,
}

impl ListedRules {
    /// Of a batch of at most 255.
    pub(crate) fn new<'a>(batch: impl Iterator<Item = &'a BreakerRules>) -> Self {
        let mut listed: Vec<&BreakerRules> = Vec::new();
        let number_of = |rules: &'a BreakerRules| {
            let place = listed.iter().position(|known| *known == rules);
            place.unwrap_or_else(|| {
                listed.push(rules);
                listed.len() - 1
            }) as u8
                + 1
        };
        let numbers = batch.map(number_of).collect();
        let mut packer = Packer::with_capacity(56 * listed.len());
        for rules in listed {
            packer.bytes(&rules.packed);
        }
        Self { packed: packer.finish(), numbers }
    }
}
