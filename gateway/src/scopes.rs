//! Every scope a gateway serves.
//!
//! Responsible for making a scope on first use and for dropping one that nobody uses, each of them once at a time: of
//! two who come for a new scope one makes it and the other gets it, and a scope that comes back while it is being
//! dropped waits until that is over, because the two undo each other's subscriptions. Must never keep a scope that was
//! only half made, nor grow without a bound: callers name scopes.

mod slot;
mod duty;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use portcullis_config::{Loaded, Scope};
use portcullis_lua::{Store, StoreError};
use tokio::time::timeout;

use crate::metric;
use crate::scope::{ServedScope, Shared};

use slot::Slot;

/// Scopes served at once. At some tens of kilobytes each they fit a gateway of half a gigabyte, and one report of each
/// every few seconds is still a small part of what a Redis does.
const MAX_SCOPES: usize = 16_384;

/// Longest time for Redis to confirm that a scope is no longer followed.
const UNSUBSCRIBE: Duration = Duration::from_secs(1);

/// The scopes of one gateway.
#[derive(Debug)]
pub struct Scopes {
    store: Store,
    boot: Loaded,
    shared: Shared,
    default: Arc<ServedScope>,
    /// All others.
    table: RwLock<HashMap<Scope, Arc<Slot>>>,
    next_number: AtomicU64,
    most: usize,
}

impl Scopes {
    /// The scopes of this Redis, `default` to begin with; `boot` is the policy of every scope that has none of its own.
    pub(crate) fn new(store: Store, default: &Scope, boot: Loaded, shared: Shared) -> Arc<Self> {
        // The same as in every other scope: without what belongs to one process, as it is stored.
        let policy = portcullis_config::for_scope(&boot, default, shared.component).unwrap_or_else(|_| boot.clone());
        let default = ServedScope::new(0, store.scope(default), policy, &shared);
        // Redis may have a policy for it: that is the first thing to find out.
        default.note_news();
        Arc::new(Self {
            default: Arc::new(default),
            store,
            boot,
            shared,
            table: RwLock::default(),
            next_number: AtomicU64::new(1),
            most: MAX_SCOPES,
        })
    }

    /// The scope of callers whose credential names none. Always there.
    #[must_use]
    pub fn default_scope(&self) -> &Arc<ServedScope> {
        &self.default
    }

    /// This scope. On first use it is made and has caught up with Redis when it is returned.
    ///
    /// # Errors
    ///
    /// When a scope that is not served yet cannot be caught up with, or there are too many of them.
    pub async fn serve(self: &Arc<Self>, scope: &Scope) -> Result<Arc<ServedScope>, StoreError> {
        if let Some(served) = self.find(scope) {
            return Ok(served);
        }
        // The rare way has large futures, which the frequent one should not carry.
        Box::pin(self.enter(scope)).await
    }

    /// Every scope that is served now.
    #[must_use]
    pub fn served(&self) -> Vec<Arc<ServedScope>> {
        let table = self.read();
        std::iter::once(self.default.clone()).chain(table.values().filter_map(|slot| slot.served())).collect()
    }

    fn find(&self, scope: &Scope) -> Option<Arc<ServedScope>> {
        if scope == self.default.store().scope() {
            return Some(self.default.clone());
        }
        self.read().get(scope).and_then(|slot| slot.served())
    }

    async fn enter(self: &Arc<Self>, scope: &Scope) -> Result<Arc<ServedScope>, StoreError> {
        let slot = self.slot(scope).await?;
        let opened = {
            let _turn = slot.turn().await;
            match slot.served() {
                // Somebody else was first.
                Some(served) => return Ok(served),
                None => self.open(scope).await.inspect(|served| slot.fill(served.clone())),
            }
        };
        match &opened {
            Ok(_) => {
                // It has not been subscribed to or reported yet.
                self.shared.wake.notify_one();
                metric::scopes(self.read().len() + 1);
            }
            Err(_) => self.forget(scope, &slot),
        }
        opened
    }

    /// Makes a scope and catches up with Redis. Until it is served it leaves no trace, wherever this ends.
    async fn open(&self, scope: &Scope) -> Result<Arc<ServedScope>, StoreError> {
        if self.shared.breaker.is_open() {
            return Err(StoreError::Unavailable("not asked: the last commands failed".to_owned()));
        }
        let boot = portcullis_config::for_scope(&self.boot, scope, self.shared.component);
        let boot = boot.map_err(|error| StoreError::Protocol(error.to_string()))?;
        // What is only for showing is not kept a thousand times.
        let boot = Loaded { document: serde_json::Value::Null, warnings: Vec::new(), ..boot };
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let served = ServedScope::new(number, self.store.scope(scope), boot, &self.shared);
        served.catch_up().await?;
        Ok(Arc::new(served))
    }

    /// The scope's place, in which nobody may be served yet.
    async fn slot(self: &Arc<Self>, scope: &Scope) -> Result<Arc<Slot>, StoreError> {
        for _ in 0..3 {
            {
                let mut table = self.write();
                if let Some(slot) = table.get(scope) {
                    return Ok(slot.clone());
                }
                if table.len() < self.most {
                    return Ok(table.entry(scope.clone()).or_default().clone());
                }
            }
            let Some((longest, slot)) = self.longest_unused() else { break };
            let this = self.clone();
            // Among the gateway's own tasks, because it must come to its end even if the caller goes away.
            let closed = self.shared.background.spawn(async move { this.close(&longest, slot).await });
            _ = closed.await;
        }
        Err(StoreError::Unavailable("this gateway serves as many scopes as it can".to_owned()))
    }

    fn longest_unused(&self) -> Option<(Scope, Arc<Slot>)> {
        let table = self.read();
        let unused = table.iter().filter_map(|(scope, slot)| Some((slot.unused_for()?, scope, slot)));
        unused.max_by_key(|(time, ..)| *time).map(|(_, scope, slot)| (scope.clone(), slot.clone()))
    }

    /// Drops a scope, unless it is in use.
    async fn close(&self, scope: &Scope, slot: Arc<Slot>) {
        let Some(turn) = slot.try_turn() else { return };
        if let Some(served) = slot.take_unused() {
            // Whoever wants the scope again waits for our turn to end.
            if !served.flush_tally().await {
                slot.fill(served);
                return;
            }
            let unsubscribed = timeout(UNSUBSCRIBE, served.store().unsubscribe()).await;
            if !matches!(unsubscribed, Ok(Ok(()))) {
                tracing::debug!(%scope, "the subscription ends with the connection");
            }
            served.unfollow().await;
        }
        drop(turn);
        self.forget(scope, &slot);
    }

    /// Takes an empty place out of the table, unless somebody else waits for it.
    fn forget(&self, scope: &Scope, slot: &Arc<Slot>) {
        let mut table = self.write();
        // One in the table and one here.
        if slot.served().is_none() && Arc::strong_count(slot) <= 2 {
            table.remove(scope);
        }
        metric::scopes(table.len() + 1);
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Scope, Arc<Slot>>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Scope, Arc<Slot>>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
