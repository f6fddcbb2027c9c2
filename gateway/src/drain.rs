//! Leaving: how a gateway is told to go, and what it still does on its way out.
//!
//! Responsible for the order of a drain and for saying where in it the gateway stands. Must never read a signal: the
//! signals are `main`'s, so that tests drain a gateway by calling a function. The order is the one load balancers need:
//! readiness fails first, listeners close later, because a balancer goes on sending until it has noticed.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio_util::sync::CancellationToken;

/// How `run` is told to stop. Clones tell the same gateway.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Shutdown {
    /// A handle nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leave in order: fail readiness, keep serving for the drain time, then finish what is running.
    pub fn drain(&self) {
        self.drain.cancel();
    }

    /// Leave at once, whatever is running.
    pub fn abort(&self) {
        self.abort.cancel();
    }

    pub(crate) async fn drain_requested(&self) {
        self.drain.cancelled().await;
    }

    pub(crate) async fn abort_requested(&self) {
        self.abort.cancelled().await;
    }
}

const SERVING: u8 = 0;
const LEAVING: u8 = 1;
const CLOSING: u8 = 2;

/// Where a gateway stands between serving and gone.
#[derive(Debug, Default)]
pub struct DrainState {
    phase: AtomicU8,
    closing: CancellationToken,
}

impl DrainState {
    /// Whether readiness fails: from the moment the drain began.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.phase.load(Ordering::Relaxed) != SERVING
    }

    /// Whether new work is refused: from the moment the listeners close.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == CLOSING
    }

    /// Ends when the listeners close: event streams and held requests end with it.
    pub(crate) fn closed(&self) -> CancellationToken {
        self.closing.clone()
    }

    pub(crate) fn leave(&self) {
        self.phase.store(LEAVING, Ordering::Relaxed);
    }

    pub(crate) fn close(&self) {
        self.phase.store(CLOSING, Ordering::Relaxed);
        self.closing.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_fails_before_work_is_refused() {
        let state = DrainState::default();
        assert!(!state.draining() && !state.closing());
        state.leave();
        assert!(state.draining() && !state.closing() && !state.closed().is_cancelled());
        state.close();
        assert!(state.draining() && state.closing() && state.closed().is_cancelled());
    }

    #[tokio::test]
    async fn clones_of_a_shutdown_tell_the_same_gateway() {
        let shutdown = Shutdown::new();
        shutdown.clone().drain();
        shutdown.drain_requested().await;
        shutdown.clone().abort();
        shutdown.abort_requested().await;
    }
}
