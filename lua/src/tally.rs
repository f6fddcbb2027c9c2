//! `tally.lua`: counts of decisions by hour, flushed in aggregate by the gateways.
//!
//! The hour is the gateway's: statistics are for people, and nothing is decided by them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fred::interfaces::HashesInterface;
use fred::types::Value;
use serde::Serialize;

use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::script::TALLY;
use crate::store::ScopeStore;

const HOUR_MS: u64 = 3_600_000;
/// Most counts in one call of the script.
const TALLY_BATCH: usize = 64;

/// How often something was decided for a user type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TallyEntry {
    /// `admitted`, or the refusal's code.
    pub code: String,
    /// The callers' user type.
    pub user_type: String,
    /// How often.
    pub count: u64,
}

/// The counts of one hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HourStatistics {
    /// Start of the hour, ms since the epoch.
    pub hour_ms: u64,
    /// `CODE:USER_TYPE` → how often.
    pub counts: BTreeMap<String, u64>,
}

impl ScopeStore {
    /// Adds counts to the current hour.
    pub async fn tally(&self, policy: &CompiledPolicy, entries: &[TallyEntry]) -> Result<(), StoreError> {
        for batch in entries.chunks(TALLY_BATCH) {
            let mut args: Vec<Value> = vec![policy.statistics_ttl_ms.to_string().into()];
            for entry in batch {
                args.push(format!("{}:{}", entry.code, entry.user_type).into());
                args.push(entry.count.to_string().into());
            }
            TALLY.call(&self.store, vec![self.keys.statistics(this_hour_ms())], args).await?;
        }
        Ok(())
    }

    /// The last `hours` hours that counted anything, newest first.
    pub async fn statistics(&self, hours: u32) -> Result<Vec<HourStatistics>, StoreError> {
        let mut statistics = Vec::new();
        for back in 0..u64::from(hours) {
            let hour_ms = this_hour_ms().saturating_sub(back * HOUR_MS);
            let counts: BTreeMap<String, u64> = self.store.client().hgetall(self.keys.statistics(hour_ms)).await?;
            if !counts.is_empty() {
                statistics.push(HourStatistics { hour_ms, counts });
            }
        }
        Ok(statistics)
    }
}

fn this_hour_ms() -> u64 {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    now_ms - now_ms % HOUR_MS
}
