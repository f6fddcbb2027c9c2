//! Streamed output: from the handler's sink to the events of the task.
//!
//! Responsible for order, for bounded memory (a handler that streams faster than Redis takes it is slowed down) and for
//! appending only under the lease. Must never drop a piece while the lease is held: readers resume by piece number.

use bytes::Bytes;
use portcullis_lua::{Lease, OUTPUT_BATCH};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::store::{self, TaskStore};
use crate::{backoff, metric};

/// Pieces waiting between handler and Redis before the handler has to wait.
const WAITING_PIECES: usize = 64;

/// Where a handler streams output to. Cheap to clone; what is sent after the handler has answered is refused.
#[derive(Clone, Debug)]
pub struct OutputSink {
    pieces: mpsc::Sender<Bytes>,
}

/// The attempt is over; nothing more will be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attempt is over")]
pub struct AttemptOver;

impl OutputSink {
    /// Sends one piece, waiting while too many are under way. Readers of the task's events see it as it is.
    pub async fn send(&self, piece: impl Into<Bytes> + Send) -> Result<(), AttemptOver> {
        self.pieces.send(piece.into()).await.map_err(|_| AttemptOver)
    }
}

/// The other end of an [`OutputSink`].
#[derive(Debug)]
pub(crate) struct OutputWriter {
    pieces: mpsc::Receiver<Bytes>,
}

/// The store no longer takes output under this lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StaleOutput;

/// A sink for one attempt and what writes it to the store.
pub(crate) fn channel() -> (OutputSink, OutputWriter) {
    let (sender, receiver) = mpsc::channel(WAITING_PIECES);
    (OutputSink { pieces: sender }, OutputWriter { pieces: receiver })
}

impl OutputWriter {
    /// Appends pieces as they come. Returns when all that was sent before `answered` is appended, or when the token
    /// turns out stale. A failed call is repeated for as long as the caller lets it.
    pub(crate) async fn write(
        mut self,
        store: &dyn TaskStore,
        lease: &Lease,
        answered: CancellationToken,
    ) -> Result<(), StaleOutput> {
        let mut batch = Vec::with_capacity(OUTPUT_BATCH);
        let mut written = 0;
        loop {
            tokio::select! {
                biased;
                // First, or a sender that outlives the handler could keep the attempt from ending.
                () = answered.cancelled(), if !self.pieces.is_closed() => self.pieces.close(),
                received = self.pieces.recv_many(&mut batch, OUTPUT_BATCH) => {
                    if received == 0 {
                        return Ok(());
                    }
                    append(store, lease, &mut written, std::mem::take(&mut batch)).await?;
                }
            }
        }
    }
}

/// Appends a batch after the attempt's `written` pieces, however often it takes: pieces are numbered, so a call whose
/// answer was lost is repeated without writing anything twice.
async fn append(
    store: &dyn TaskStore,
    lease: &Lease,
    written: &mut u64,
    pieces: Vec<Bytes>,
) -> Result<(), StaleOutput> {
    loop {
        match store.append_output(lease, *written, pieces.clone()).await {
            Ok(true) => {
                metric::output_pieces(pieces.len());
                *written += pieces.len() as u64;
                return Ok(());
            }
            Ok(false) => return Err(StaleOutput),
            Err(fault) => {
                store::failed("append_output", &fault);
                sleep(backoff::reconnect()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
