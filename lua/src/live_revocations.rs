//! What is revoked in one scope, as a process holds it, and how it keeps up.
//!
//! Whatever a process hears (a message, a refusal of `admit`, a poll) leads to the same question, "what is revoked
//! now?". A reader gets one whole view and never waits. Must never have a timer of its own: whoever holds it asks often
//! enough, or its views grow old and say so.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::revocation_view::RevocationView;
use crate::revoked::RevokedLook;
use crate::store::ScopeStore;

/// Handle on what is revoked in a scope. Cheap to clone; every clone sees the same.
#[derive(Clone)]
pub struct LiveRevocations {
    inner: Arc<Inner>,
}

struct Inner {
    store: ScopeStore,
    current: ArcSwap<RevocationView>,
    /// Held while asking Redis, so that many who heard the same news ask once.
    asking: tokio::sync::Mutex<()>,
}

impl LiveRevocations {
    /// Of the store's scope; nothing is known before the first [`catch_up`](Self::catch_up).
    #[must_use]
    pub fn new(store: ScopeStore) -> Self {
        let inner = Inner { store, current: ArcSwap::default(), asking: tokio::sync::Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// What is known now.
    #[must_use]
    pub fn load(&self) -> Arc<RevocationView> {
        self.inner.current.load_full()
    }

    /// Somebody says what the number is: catches up if another is held; what is known then.
    pub async fn hear(&self, number: u64) -> Result<Arc<RevocationView>, StoreError> {
        if number == self.inner.current.load().number() {
            return Ok(self.load());
        }
        let turn = self.inner.asking.lock().await;
        // Somebody else may have caught up while we waited for our turn.
        if number == self.inner.current.load().number() {
            return Ok(self.load());
        }
        let look = self.look().await;
        drop(turn);
        look
    }

    /// Asks Redis what is revoked; what is known then. The question costs one small call where nothing has changed.
    pub async fn catch_up(&self) -> Result<Arc<RevocationView>, StoreError> {
        let called = Instant::now();
        let turn = self.inner.asking.lock().await;
        // Asked for after we were called: good enough for us, too.
        if self.load().asked_since(called) {
            return Ok(self.load());
        }
        let look = self.look().await;
        drop(turn);
        look
    }

    /// The caller has its turn, so nobody else changes what is held.
    async fn look(&self) -> Result<Arc<RevocationView>, StoreError> {
        let (held, asked) = (self.load(), Instant::now());
        let next = match self.inner.store.revoked(held.number(), held.epoch()).await? {
            RevokedLook::Same(now_ms) => held.confirmed(asked, now_ms),
            RevokedLook::Other(set) => held.followed_by(set, asked),
        };
        if next.is_lost() != held.is_lost() {
            let scope = self.inner.store.scope();
            if next.is_lost() {
                tracing::error!(%scope, held = held.number(), stored = next.number(),
                    "redis has lost revocations: delegated callers are refused until an operator acknowledges it");
            } else {
                tracing::warn!(%scope, "the loss of revocations was acknowledged");
            }
        }
        let next = Arc::new(next);
        self.inner.current.store(Arc::clone(&next));
        Ok(next)
    }
}

impl fmt::Debug for LiveRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveRevocations").field("scope", self.inner.store.scope()).finish_non_exhaustive()
    }
}
