//! Leaving: how a processor is told to, and how it went.
//!
//! Responsible for the two signals and nothing else; the order of leaving stands in `processor.rs`.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells a processor to leave. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Cancelled: take no more work, finish what runs within the drain time, leave.
    pub drain: CancellationToken,
    /// Cancelled: end at once; what runs is picked up by others when its leases lapse.
    pub abort: CancellationToken,
}

/// How a processor left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was settled or handed back.
    Drained,
    /// Something was left for others to reclaim.
    Aborted,
}

impl Shutdown {
    /// Nothing has been told yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows SIGTERM and SIGINT: the first one drains, the second aborts. Returns after the second.
    pub async fn follow_signals(&self) -> io::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        for told in [&self.drain, &self.abort] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            told.cancel();
        }
        Ok(())
    }
}
