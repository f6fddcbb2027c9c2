//! What is revoked in one scope, as a process holds it, and how it keeps up.
//!
//! Whatever a process hears (a message, a refusal of `admit`, a poll) leads to the same question, "what is revoked
//! now?". A reader gets one whole view and never waits. Must never have a timer of its own: whoever holds it asks often
//! enough, or its views grow old and say so.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::error::StoreError;
use crate::revocation_view::{Draft, RevocationView};
use crate::revoked::RevokedPage;
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
    asking: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    /// What has been read of a set that is longer than an answer: whoever asks next goes on with it.
    reading: Option<Reading>,
    /// When the last question was asked that was not answered.
    in_vain: Option<Instant>,
}

/// What there is to do about news.
#[derive(Debug)]
pub enum CatchUp<'a> {
    /// Nothing: this is what is revoked.
    Known(Arc<RevocationView>),
    /// To ask, on behalf of all who wait.
    Ask(Turn<'a>),
}

/// The turn to ask what is revoked. Others wait until it is dropped.
pub struct Turn<'a> {
    of: &'a Inner,
    asking: MutexGuard<'a, Asking>,
    began: Instant,
}

struct Reading {
    draft: Draft,
    /// The set that is known with it.
    number: u64,
    epoch: Option<String>,
}

/// A reason to ask what is revoked.
#[derive(Clone, Copy, Debug)]
pub struct News {
    /// Somebody says that this is the number; `None`: nobody says anything.
    number: Option<u64>,
    heard: Instant,
}

impl News {
    /// The scope has this number of revocations now.
    #[must_use]
    pub fn of(number: u64) -> Self {
        Self { number: Some(number), heard: Instant::now() }
    }

    /// There may be others.
    #[must_use]
    pub fn unknown() -> Self {
        Self { number: None, heard: Instant::now() }
    }

    fn is_known_to(&self, view: &RevocationView) -> bool {
        (self.number == Some(view.number()) && view.is_known()) || view.asked_since(self.heard)
    }
}

impl LiveRevocations {
    /// Of the store's scope; nothing is known before the first [`catch_up`](Self::catch_up).
    #[must_use]
    pub fn new(store: ScopeStore) -> Self {
        let inner = Inner { store, current: ArcSwap::default(), asking: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// What is known now.
    #[must_use]
    pub fn load(&self) -> Arc<RevocationView> {
        self.inner.current.load_full()
    }

    /// Takes this for what Redis says at this moment. For tests of what rests on it, where there is no Redis.
    pub fn assume(&self, view: RevocationView) {
        self.inner.current.store(Arc::new(view));
    }

    /// Somebody says what the number is: catches up if another is held; what is known then.
    pub async fn hear(&self, number: u64) -> Result<Arc<RevocationView>, StoreError> {
        self.follow(News::of(number)).await
    }

    /// Asks Redis what is revoked; what is known then. The question costs one small call where nothing has changed.
    pub async fn catch_up(&self) -> Result<Arc<RevocationView>, StoreError> {
        self.follow(News::unknown()).await
    }

    async fn follow(&self, news: News) -> Result<Arc<RevocationView>, StoreError> {
        loop {
            if let Some(view) = self.step(news).await? {
                return Ok(view);
            }
        }
    }

    /// Asks Redis at most once; what is known then, or `None` where there is more to read. Nothing that was read is
    /// lost when its caller gives up: the next one goes on.
    pub async fn step(&self, news: News) -> Result<Option<Arc<RevocationView>>, StoreError> {
        match self.begin(news).await? {
            CatchUp::Known(view) => Ok(Some(view)),
            CatchUp::Ask(mut turn) => {
                let answer = turn.ask().await;
                answer.inspect_err(|_| turn.was_in_vain())
            }
        }
    }

    /// What there is to do about this news, once nobody else is asking: for who gives an answer some time, which what
    /// it takes the others is no part of.
    ///
    /// # Errors
    ///
    /// When somebody has asked in vain since the news was heard: that was for all who had heard it.
    pub async fn begin(&self, news: News) -> Result<CatchUp<'_>, StoreError> {
        if news.is_known_to(&self.load()) {
            return Ok(CatchUp::Known(self.load()));
        }
        let asking = self.inner.asking.lock().await;
        // Somebody else may have caught up while we waited for our turn.
        if news.is_known_to(&self.load()) {
            return Ok(CatchUp::Known(self.load()));
        }
        if asking.in_vain.is_some_and(|began| began >= news.heard) {
            return Err(StoreError::Unavailable("what is revoked was asked in vain".to_owned()));
        }
        Ok(CatchUp::Ask(Turn { of: &self.inner, asking, began: Instant::now() }))
    }
}

impl Turn<'_> {
    /// Asks Redis once; what is known then, or `None` where there is more to read.
    ///
    /// # Errors
    ///
    /// When Redis does not answer.
    pub async fn ask(&mut self) -> Result<Option<Arc<RevocationView>>, StoreError> {
        let (held, asked) = (self.of.current.load_full(), Instant::now());
        let reading = &mut self.asking.reading;
        let (number, epoch) = match &*reading {
            Some(reading) => (reading.number, reading.epoch.as_deref()),
            None => (held.number(), held.epoch()),
        };
        let RevokedPage { mut set, goes_on, told } = self.of.store.revoked_page(number, epoch).await?;
        let begun = reading.take();
        if begun.is_none() && goes_on && set.number == held.number() {
            return Ok(Some(self.hold(&held, held.confirmed(asked, set.now_ms))));
        }
        let mut draft = match begun {
            _ if !goes_on => Draft::of_all(),
            Some(begun) => begun.draft,
            // What is held while something is lost is more than what is stored.
            None if held.is_lost() => {
                *reading = Some(Reading { draft: Draft::of_all(), number: 0, epoch: None });
                return Ok(None);
            }
            None => held.draft(),
        };
        draft.add(std::mem::take(&mut set.members), set.now_ms);
        if told != set.number {
            *reading = Some(Reading { draft, number: told, epoch: set.epoch });
            return Ok(None);
        }
        Ok(Some(self.hold(&held, held.followed_by(draft, &set, asked))))
    }

    /// Redis did not answer: nor did it those who were waiting when it was asked.
    pub fn was_in_vain(mut self) {
        self.asking.in_vain = Some(self.began);
    }

    /// Nobody else changes what is held during a turn.
    fn hold(&self, held: &RevocationView, next: RevocationView) -> Arc<RevocationView> {
        if next.is_lost() != held.is_lost() {
            let scope = self.of.store.scope();
            if next.is_lost() {
                tracing::error!(%scope, held = held.number(), stored = next.number(),
                    "redis has lost revocations: delegated callers are refused until an operator acknowledges it");
            } else {
                tracing::warn!(%scope, "the loss of revocations was acknowledged");
            }
        }
        let next = Arc::new(next);
        self.of.current.store(Arc::clone(&next));
        next
    }
}

impl fmt::Debug for LiveRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveRevocations").field("scope", self.inner.store.scope()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("scope", self.of.store.scope()).finish_non_exhaustive()
    }
}
