//! Breakers as they stand, for people. Their transitions happen in `admit.lua` and `settle.lua` only.

use bytes::Bytes;
use fred::interfaces::{KeysInterface, SortedSetsInterface};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::StoreError;
use crate::pack::Unpacker;
use crate::policy::CompiledPolicy;
use crate::store::ScopeStore;

/// The breaker of one task kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct BreakerView {
    /// The task kind.
    pub name: String,
    /// `closed`, `open` or `half_open`.
    pub state: String,
    /// Attempts in the window; 0 unless closed.
    pub calls: u64,
    /// Failed attempts in the window.
    pub failures: u64,
    /// Slow attempts in the window.
    pub slow: u64,
    /// Probes that may still be let through; only while half-open.
    pub probes_left: Option<u64>,
    /// Time until probes are let through, ms; only while open.
    pub retry_after_ms: u64,
}

impl ScopeStore {
    /// The breakers of the task kinds that have been settled lately, by name.
    pub async fn breakers(&self, policy: &CompiledPolicy) -> Result<Vec<BreakerView>, StoreError> {
        let now_ms = self.survey().await?.now_ms;
        let kinds: Vec<String> =
            self.store.client().zrange(self.keys.breaker_kind(), 0, -1, None, false, None, false).await?;
        let mut views = Vec::with_capacity(kinds.len());
        for kind in kinds {
            let packed: Option<Bytes> = self.store.client().get(self.keys.breaker(&kind)).await?;
            if let Some(packed) = packed {
                views.push(view(kind, packed, now_ms, policy)?);
            }
        }
        views.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(views)
    }
}

/// Reads `include/breaker.lua`'s format.
fn view(name: String, packed: Bytes, now_ms: u64, policy: &CompiledPolicy) -> Result<BreakerView, StoreError> {
    let rules = policy.breaker_of(&name);
    let mut breaker = Unpacker::new(packed);
    let (state, until_ms) = (breaker.u8()?, breaker.count()?);
    breaker.f64()?;
    let (out, passed) = (u64::from(breaker.u16()?), u64::from(breaker.u16()?));
    let (mut calls, mut failures, mut slow) = (0, 0, 0);
    let tenth_ms = rules.window_ms / 10;
    while !breaker.is_empty() {
        let started = breaker.count()? / tenth_ms;
        let counts = [breaker.u32()?, breaker.u32()?, breaker.u32()?].map(u64::from);
        if started + 10 > now_ms / tenth_ms {
            calls += counts[0];
            failures += counts[1];
            slow += counts[2];
        }
    }
    let probes = u64::from(rules.half_open_probes);
    // A half-open one that waits for probes which the policy no longer asks for is as good as closed.
    let half_open = (state == 2 && passed < probes) || (state == 1 && now_ms >= until_ms);
    let used = if state == 2 { out + passed } else { 0 };
    Ok(BreakerView {
        name,
        state: match (state, half_open) {
            (_, true) => "half_open",
            (1, false) => "open",
            _ => "closed",
        }
        .to_owned(),
        calls,
        failures,
        slow,
        probes_left: half_open.then(|| probes.saturating_sub(used)),
        retry_after_ms: if state == 1 { until_ms.saturating_sub(now_ms) } else { 0 },
    })
}
