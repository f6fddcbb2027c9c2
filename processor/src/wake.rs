//! Waiting for new work on a blocking connection of its own.
//!
//! The wait is a task of its own because it must not be dropped half-way: the wake-up that arrives then would be lost
//! to everyone. Responsible for listening only while the worker has room: a wake-up taken by a full processor is one an
//! idle processor does not get. Must never claim.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::backoff;
use crate::store::TaskStore;

/// Longest single wait.
const WAIT: Duration = Duration::from_secs(5);

/// A wait that has not returned this long after it should have hangs on a dead connection.
const OVERDUE: Duration = Duration::from_secs(2);

/// The worker's end: says when it has room, hears when there may be work. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    wanted: watch::Sender<bool>,
    woken: Arc<Notify>,
}

impl Listener {
    pub(crate) fn new() -> Self {
        Self { wanted: watch::Sender::new(false), woken: Arc::new(Notify::new()) }
    }

    /// There is room: listen. Costs nothing while a wait is under way.
    pub(crate) fn listen(&self) {
        self.wanted.send_replace(true);
    }

    /// There is no room: do not begin another wait.
    pub(crate) fn rest(&self) {
        self.wanted.send_replace(false);
    }

    /// Resolves when there may be work, or when that cannot be told. What happened while nobody was waiting here
    /// counts.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Makes [`Listener::woken`] resolve.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Waits on Redis whenever it is wanted; runs until it is dropped.
    pub(crate) async fn run(&self, store: &dyn TaskStore) {
        let mut wanted = self.wanted.subscribe();
        let mut waker = store.waker();
        // The sender lives in `self`.
        while wanted.wait_for(|wanted| *wanted).await.is_ok() {
            match timeout(WAIT + OVERDUE, waker.wait(WAIT)).await {
                Ok(Ok(_)) => {}
                Ok(Err(fault)) => {
                    tracing::debug!(%fault, "waiting for work failed");
                    sleep(backoff::reconnect()).await;
                }
                Err(_) => {
                    tracing::warn!("waiting for work hung; connecting anew");
                    waker = store.waker();
                }
            }
            self.wanted.send_replace(false);
            self.wake();
        }
    }
}
