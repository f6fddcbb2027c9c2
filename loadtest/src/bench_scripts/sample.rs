//! One round of a measurement and what several rounds come to.
//!
//! Responsible for reading the server's account before and after, and for medians. Must never average: one disturbed
//! round would move the figure.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::error::HarnessError;
use crate::probe::Probe;

/// Calls under way at once.
const UNDER_WAY: usize = 64;

/// What the server counted during one round.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Script calls.
    pub calls: u64,
    /// Requests those calls carried.
    pub requests: u64,
    /// Server time of the scripts, µs.
    pub usec: u64,
    /// Commands called from inside the scripts.
    pub inner: BTreeMap<String, u64>,
    /// Bytes the server read.
    pub bytes: u64,
}

/// The median of several rounds.
#[derive(Clone, Debug)]
pub struct Figure {
    /// µs of one call.
    pub usec_per_call: f64,
    /// µs of one request in it.
    pub usec_per_request: f64,
    /// Difference of the slowest and the fastest round, as a share of the median.
    pub spread: f64,
    /// Bytes sent per call.
    pub bytes_per_call: f64,
    /// Commands inside one call, by name.
    pub inner: BTreeMap<String, f64>,
}

/// Runs `work`, which makes script calls that together carry `requests` requests, and reads what it cost.
pub async fn measure<F>(probe: &Probe, requests: u64, work: F) -> Result<Sample, HarnessError>
where
    F: AsyncFnOnce() -> Result<(), HarnessError>,
{
    probe.reset_statistics().await?;
    work().await?;
    let bytes = probe.info_number("stats", "total_net_input_bytes").await?;
    let mut sample = Sample { requests, bytes, ..Sample::default() };
    for (command, cost) in probe.command_costs().await? {
        match command.as_str() {
            "evalsha" | "eval" | "fcall" => {
                sample.calls += cost.calls;
                sample.usec += cost.usec;
            }
            // The harness's own, and what a client says when it connects or finds a script missing.
            "info" | "hello" | "ping" | "auth" | "select" | "quit" | "subscribe" => {}
            name if ["config", "client", "script"].iter().any(|own| name.starts_with(own)) => {}
            _ => drop(sample.inner.insert(command, cost.calls)),
        }
    }
    Ok(sample)
}

/// Makes the calls, several of them under way at any time: a server that sleeps between two calls measures how fast it
/// wakes up.
pub async fn pipelined<F>(calls: impl Iterator<Item = F>) -> Result<(), HarnessError>
where
    F: Future<Output = Result<(), HarnessError>>,
{
    stream::iter(calls).buffer_unordered(UNDER_WAY).try_for_each(|()| async { Ok(()) }).await
}

impl Figure {
    /// The median over the rounds; all figures are zero when nothing was called.
    #[must_use]
    pub fn of(samples: &[Sample]) -> Self {
        let mut per_call: Vec<f64> = samples.iter().map(|sample| ratio(sample.usec, sample.calls)).collect();
        per_call.sort_by(f64::total_cmp);
        let (calls, requests) = samples.iter().fold((0, 0), |sum, round| (sum.0 + round.calls, sum.1 + round.requests));
        let usec_per_call = per_call.get(per_call.len() / 2).copied().unwrap_or_default();
        let range = per_call.last().copied().unwrap_or_default() - per_call.first().copied().unwrap_or_default();
        let mut inner = BTreeMap::new();
        for (command, count) in samples.iter().flat_map(|sample| &sample.inner) {
            *inner.entry(command.clone()).or_default() += ratio(*count, calls);
        }
        Self {
            usec_per_call,
            usec_per_request: usec_per_call * ratio(calls, requests),
            spread: if usec_per_call > 0.0 { range / usec_per_call } else { 0.0 },
            bytes_per_call: ratio(samples.iter().map(|sample| sample.bytes).sum(), calls),
            inner,
        }
    }
}

fn ratio(amount: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { amount as f64 / of as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_median_round() {
        let round = |usec| Sample { calls: 10, requests: 160, usec, bytes: 1000, ..Sample::default() };
        let figure = Figure::of(&[round(50), round(900), round(60)]);
        assert!((figure.usec_per_call - 6.0).abs() < 1e-9);
        assert!((figure.usec_per_request - 6.0 / 16.0).abs() < 1e-9);
        assert!((figure.bytes_per_call - 100.0).abs() < 1e-9);
    }

    #[test]
    fn no_calls_give_no_figures_instead_of_none() {
        assert!(Figure::of(&[]).usec_per_call.abs() < f64::EPSILON);
    }
}
