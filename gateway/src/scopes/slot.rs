//! The place of one scope in the table of a gateway: empty, or with the scope in it.
//!
//! Responsible for turns, so that a scope is made or dropped by one at a time, and for telling whether it is in use.
//! Must never take a scope out that somebody holds.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};

use crate::scope::ServedScope;

/// A scope's place.
#[derive(Debug, Default)]
pub(super) struct Slot {
    served: RwLock<Option<Arc<ServedScope>>>,
    /// Held while the scope is made or dropped.
    turn: Mutex<()>,
}

impl Slot {
    /// The scope, if it is served.
    pub(super) fn served(&self) -> Option<Arc<ServedScope>> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The right to make the scope or to drop it.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The same, unless somebody else has it.
    pub(super) fn try_turn(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// Puts the scope in.
    pub(super) fn fill(&self, served: Arc<ServedScope>) {
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = Some(served);
    }

    /// How long nobody has been served; `None` while it is in use: every request and every stream holds its scope.
    pub(super) fn unused_for(self: &Arc<Self>) -> Option<Duration> {
        match self.served.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(served) => (Arc::strong_count(served) == 1).then(|| served.unused_for()),
            // Only the table has it: whoever was to fill it went away.
            None => (Arc::strong_count(self) == 1).then_some(Duration::MAX),
        }
    }

    /// Takes the scope out, unless it is in use.
    pub(super) fn take_unused(&self) -> Option<Arc<ServedScope>> {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody can come to hold it meanwhile: that takes the lock.
        if served.as_ref().is_some_and(|served| Arc::strong_count(served) == 1) { served.take() } else { None }
    }
}
