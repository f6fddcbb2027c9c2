//! The end of a run: waiting for rest, then looking at every task, account and key.
//!
//! Responsible for asking after each task by its id and for saying plainly that one is unknown. Must never take "Redis
//! did not answer" for "there is no such task": then there is no ending at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use portcullis_config::Policy;
use portcullis_lua::{CompiledPolicy, QueueView, ScopeStore, StoreError, TaskId};
use tokio::time::Instant;

use crate::error::HarnessError;
use crate::probe::Probe;
use crate::record::{AccountEnd, Ending, TaskEnd};

const PAUSE: Duration = Duration::from_millis(20);
/// Questions under way at once.
const UNDER_WAY: usize = 64;
/// How often a question is repeated that Redis did not answer, a pause apart.
const ATTEMPTS: u32 = 100;

/// Waits until nothing is queued, running or delayed, at most `limit`; the last look, and whether it came to rest.
/// `None` where Redis did not answer in that time.
pub(super) async fn rest(store: &ScopeStore, policy: &CompiledPolicy, limit: Duration) -> Option<(QueueView, bool)> {
    let end = Instant::now() + limit;
    loop {
        let look = store.queues(policy).await.ok();
        let resting = look.as_ref().is_some_and(|queues| queues.queued + queues.running + queues.delayed == 0);
        if resting || Instant::now() >= end {
            return look.map(|queues| (queues, resting));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The ending of a scope whose queues look like this.
pub(super) async fn ending(
    store: &ScopeStore,
    probe: &Probe,
    policy: &Policy,
    queues: &QueueView,
    tasks: BTreeSet<String>,
) -> Result<Ending, HarnessError> {
    let scope = store.scope();
    let prefix = format!("{{{}:{}}}:", scope.tenant(), scope.project());
    let keys = probe.keys(&prefix).await?;
    Ok(Ending {
        tasks: ends_of(store, tasks).await?,
        queued: queues.queued,
        running: queues.running,
        delayed: queues.delayed,
        budgets: accounts(probe, policy, &prefix, &keys).await?,
        lasting_keys: lasting(probe, &prefix, &keys).await?,
        rested_us: None,
    })
}

async fn ends_of(store: &ScopeStore, tasks: BTreeSet<String>) -> Result<BTreeMap<String, TaskEnd>, StoreError> {
    let ends = stream::iter(tasks).map(|id| async move { Ok::<_, StoreError>((end_of(store, &id).await?, id)) });
    let ends = ends.buffer_unordered(UNDER_WAY).map_ok(|(end, id)| (id, end));
    ends.try_collect().await
}

async fn end_of(store: &ScopeStore, id: &str) -> Result<TaskEnd, StoreError> {
    let Some(id) = TaskId::parse(id) else { return Ok(TaskEnd::default()) };
    let mut attempt = 0;
    loop {
        attempt += 1;
        match store.task(&id).await {
            Ok(None) => return Ok(TaskEnd::default()),
            Ok(Some(record)) => {
                return Ok(TaskEnd {
                    status: Some(record.status.as_str().to_owned()),
                    attempts: record.attempts.len() as u32,
                    created_ms: Some(record.created_ms),
                    finished_ms: record.finished_ms,
                });
            }
            Err(StoreError::Unavailable(_)) if attempt < ATTEMPTS => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// Every account that stands in Redis, with the amount the policy allows it; 0 for a budget that is no more.
async fn accounts(
    probe: &Probe,
    policy: &Policy,
    prefix: &str,
    keys: &[String],
) -> Result<Vec<AccountEnd>, HarnessError> {
    let accounts = keys.iter().filter_map(|key| {
        let (name, subject) = key.strip_prefix(prefix)?.strip_prefix("budget:")?.split_once(':')?;
        Some((key, name.to_owned(), subject.to_owned()))
    });
    let read = stream::iter(accounts).map(|(key, name, subject)| async move {
        let packed: Option<Bytes> = probe.command("GET", [key]).await?.convert()?;
        let Some((spent, held)) = packed.as_deref().and_then(spent_and_held) else { return Ok(None) };
        let amount = policy.budgets.get(&name).map_or(0, |budget| budget.amount);
        Ok::<_, HarnessError>(Some(AccountEnd { name, subject, spent, held, amount }))
    });
    let read: Vec<Option<AccountEnd>> = read.buffered(UNDER_WAY).try_collect::<Vec<_>>().await?;
    Ok(read.into_iter().flatten().collect())
}

/// Three little-endian doubles: end of the period, spent, held.
fn spent_and_held(packed: &[u8]) -> Option<(u64, u64)> {
    let number = |at: usize| Some(f64::from_le_bytes(packed.get(at..at + 8)?.try_into().ok()?).ceil().max(0.0) as u64);
    Some((number(8)?, number(16)?))
}

/// Keys that have no expiry, without their prefix.
async fn lasting(probe: &Probe, prefix: &str, keys: &[String]) -> Result<Vec<String>, HarnessError> {
    let ages = stream::iter(keys).map(|key| async move {
        let expires_ms: i64 = probe.command("PTTL", [key]).await?.convert()?;
        Ok::<_, HarnessError>((expires_ms == -1).then(|| key.strip_prefix(prefix).unwrap_or(key).to_owned()))
    });
    let lasting: Vec<Option<String>> = ages.buffered(UNDER_WAY).try_collect::<Vec<_>>().await?;
    Ok(lasting.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_account_as_the_scripts_pack_it() {
        let packed: Vec<u8> = [1e12_f64, 7.0, 3.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        assert_eq!(spent_and_held(&packed), Some((7, 3)));
        assert_eq!(spent_and_held(&packed[..20]), None);
    }
}
