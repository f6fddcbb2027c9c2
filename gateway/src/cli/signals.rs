//! SIGTERM and SIGINT: the first one drains, the second one, of either kind, ends at once.
//!
//! Must never be set up later than the first socket: until then the default action would kill a gateway that has been
//! announced.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Shutdown;

/// The signals that end a gateway.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over both signals from their default action.
    pub(crate) fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Passes the signals on. Never ends: `run` does, once told to.
    pub(crate) async fn relay(mut self, shutdown: &Shutdown) {
        self.next().await;
        shutdown.drain();
        self.next().await;
        tracing::warn!("second signal: ending at once");
        shutdown.abort();
        pending::<()>().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
