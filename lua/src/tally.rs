//! `tally.lua`: counts of decisions by hour, flushed in aggregate by the gateways.
//!
//! Responsible for counting a flush once, however often it is sent. The hour is the gateway's: statistics are for
//! people, and nothing is decided by them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fred::interfaces::HashesInterface;
use fred::types::Value;
use serde::Serialize;
use serde_json::json;

use crate::error::StoreError;
use crate::policy::CompiledPolicy;
use crate::script::TALLY;
use crate::store::ScopeStore;

const HOUR_MS: u64 = 3_600_000;
/// Most counts in one flush.
pub const TALLY_BATCH: usize = 64;
/// How long the number of a gateway's last flush is remembered, ms: one that comes again after this counts again.
const REMEMBERED_MS: u64 = 86_400_000;

/// How often something was decided for a user type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TallyEntry {
    /// `admitted`, or the refusal's code.
    pub code: String,
    /// The callers' user type.
    pub user_type: String,
    /// How often.
    pub count: u64,
    /// How many of them no decision event tells of, because the script was not asked.
    pub unrecorded: u64,
}

/// Counts on their way into the statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TallyFlush {
    /// Names the counter they come from; unique.
    pub counter: String,
    /// Its number among those of this counter, from 1, rising. The same counts keep it until they are written.
    pub number: u64,
    /// The counts, at most [`TALLY_BATCH`].
    pub entries: Vec<TallyEntry>,
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
    /// Adds counts to the current hour, unless that was done before; `gateway` is who says so.
    pub async fn tally(&self, policy: &CompiledPolicy, gateway: &str, flush: &TallyFlush) -> Result<(), StoreError> {
        if flush.entries.len() > TALLY_BATCH {
            return Err(StoreError::Protocol(format!("{} counts in one flush", flush.entries.len())));
        }
        let field = |entry: &TallyEntry| format!("{}:{}", entry.code, entry.user_type);
        let unrecorded = flush.entries.iter().filter(|entry| entry.unrecorded > 0);
        let unrecorded: BTreeMap<String, u64> = unrecorded.map(|entry| (field(entry), entry.unrecorded)).collect();
        let about = if unrecorded.is_empty() {
            String::new()
        } else {
            json!({"counter": flush.counter, "flush": flush.number, "counts": unrecorded}).to_string()
        };
        let mut args: Vec<Value> = vec![
            self.now_arg(),
            policy.statistics_ttl_ms.to_string().into(),
            flush.number.to_string().into(),
            REMEMBERED_MS.to_string().into(),
            gateway.into(),
            about.into(),
            policy.max_audit_events.to_string().into(),
        ];
        for entry in &flush.entries {
            args.push(field(entry).into());
            args.push(entry.count.to_string().into());
        }
        let k = &self.keys;
        let keys = vec![k.statistics(this_hour_ms()), k.flush(&flush.counter), k.counted(), k.counted_head()];
        TALLY.call(&self.store, keys, args).await.map(drop)
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
