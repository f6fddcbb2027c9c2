//! Following the stream of decision events while it grows and is cut at its other end.
//!
//! Responsible for missing nothing, and for noticing what was missed: the server counts the batches it ever added, and
//! they must be as many as were read. Must never guess what a missing batch held.

use std::collections::HashSet;
use std::time::Duration;

use portcullis_lua::{DecisionEvent, ScopeStore, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Far shorter than it takes a busy scope to fill the stream to its shipped bound of ten thousand batches.
const PAUSE: Duration = Duration::from_millis(100);
/// Batches read at once, each of at most 32 decisions.
const PAGE: u32 = 200;
/// Attempts to read the rest when the run is over, a pause apart.
const LAST_ATTEMPTS: u32 = 50;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// Every decision, in the order in which it was read.
    pub(super) events: Vec<DecisionEvent>,
    /// Whether any may be missing.
    pub(super) incomplete: bool,
    /// Those that were there before anything was watched, in the same order.
    pub(super) earlier: Vec<DecisionEvent>,
    /// Whether any of these may be missing.
    pub(super) earlier_incomplete: bool,
    /// Batch read last.
    after: Option<String>,
    /// Batches read or known to be missing since the stream began.
    read: u64,
    /// Batches read before Redis lost something: what survived is not read twice.
    known: HashSet<String>,
}

/// Reads until told to stop, and then to the end.
pub(super) async fn follow(mut tail: Tail, store: ScopeStore, stop: CancellationToken) -> Tail {
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        // An outage ends; the stream is still there then, or has gone, which the next reading notices.
        drop(tail.read(&store).await);
    }
    for _ in 0..LAST_ATTEMPTS {
        if tail.read(&store).await.is_ok() {
            return tail;
        }
        ticks.tick().await;
    }
    tail.incomplete = true;
    tail
}

impl Tail {
    /// Nothing was read, whatever there was.
    pub(super) fn nothing() -> Self {
        Self { incomplete: true, ..Self::default() }
    }

    /// What there is now: from here on nothing is lost without notice. Nothing, where Redis is out of reach.
    pub(super) async fn begin(store: &ScopeStore) -> Self {
        let mut tail = Self::default();
        drop(tail.read(store).await);
        tail.earlier = std::mem::take(&mut tail.events);
        tail.earlier_incomplete = std::mem::take(&mut tail.incomplete);
        tail
    }

    async fn read(&mut self, store: &ScopeStore) -> Result<(), StoreError> {
        let Some(mark) = store.decision_mark().await? else {
            if self.after.is_some() {
                self.lost();
            }
            return Ok(());
        };
        let behind = self.after.as_deref().is_some_and(|after| order(after) > order(&mark.last_id));
        if behind || mark.batches_added.is_some_and(|added| added < self.read) {
            self.lost();
        }
        while self.after.as_deref() != Some(&mark.last_id) {
            let page = store.decisions_between(self.after.as_deref(), &mark.last_id, PAGE).await?;
            let Some(last_id) = page.last_id else { break };
            self.read += page.batches;
            self.after = Some(last_id);
            let known = &self.known;
            self.events.extend(page.events.into_iter().filter(|event| !known.contains(batch_of(event))));
        }
        self.after = Some(mark.last_id);
        // A server that does not count its batches cannot say that all were read.
        let added = mark.batches_added;
        if added != Some(self.read) {
            self.incomplete = true;
            self.read = added.unwrap_or(self.read);
        }
        Ok(())
    }

    /// Redis does not have what it had: everything it has now is read again.
    fn lost(&mut self) {
        self.known = self.earlier.iter().chain(&self.events).map(|event| batch_of(event).to_owned()).collect();
        (self.incomplete, self.after, self.read) = (true, None, 0);
    }
}

/// The stream id of an event's batch.
fn batch_of(event: &DecisionEvent) -> &str {
    event.id.rsplit_once('.').map_or(&event.id, |(batch, _)| batch)
}

/// Stream ids in their order: ms and number.
fn order(id: &str) -> (u64, u64) {
    let (ms, number) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), number.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_as_numbers() {
        assert!(order("9-1") < order("10-0"));
        assert!(order("10-9") < order("10-10"));
    }
}
