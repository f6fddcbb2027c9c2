//! The streams of a connection of HTTP/2: a client may read some answers and leave others lying.
//!
//! Responsible for ending a stream whose client does not read, while its connection is busy with others: what stands
//! behind an answer is held until it is read. Must never set a timer for a stream, nor poll its body: HTTP/2 asks for
//! the next piece only when there is room for it, so a stalled stream does not come by here by itself.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::patience::{Reading, STALL};

tokio::task_local! {
    /// The stream that the running task answers.
    static STREAM: Arc<Stream>;
}

/// One stream: what its answer does, and the end of it.
#[derive(Debug)]
pub(super) struct Stream {
    /// Bytes of the answer that the connection has taken.
    taken: AtomicU64,
    /// Whether the client has not made room for the next piece.
    owing: AtomicBool,
    longest_stall_ms: AtomicU64,
    cut: Notify,
}

impl Stream {
    /// The stream that is being answered here; `None` where the protocol has none.
    pub(super) fn current() -> Option<Arc<Self>> {
        STREAM.try_with(Arc::clone).ok()
    }

    /// How long its client may leave it lying.
    pub(super) fn set_longest_stall(&self, longest: Duration) {
        self.longest_stall_ms.store(longest.as_millis() as u64, Ordering::Relaxed);
    }

    /// The connection has taken a piece of this length.
    pub(super) fn note_taken(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_owing(&self, owing: bool) {
        self.owing.store(owing, Ordering::Relaxed);
    }

    fn stalls(&self, reading: &mut Reading, now: Instant) -> bool {
        let (owing, taken) = (self.owing.load(Ordering::Relaxed), self.taken.load(Ordering::Relaxed));
        let longest = Duration::from_millis(self.longest_stall_ms.load(Ordering::Relaxed));
        reading.stalls(owing, taken, longest, now)
    }
}

/// A stream, and how its client has been reading it.
type Watched = (Arc<Stream>, Reading);

/// Runs the streams of a connection, which end with it.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    ended: CancellationToken,
    open: Arc<Mutex<Vec<Watched>>>,
}

impl Streams {
    /// Streams that end when `ended` is cancelled.
    pub(super) fn new(ended: CancellationToken) -> Self {
        Self { ended, open: Arc::default() }
    }

    /// Ends those whose client does not read.
    pub(super) fn cut_stalled(&self, now: Instant) {
        for (stream, reading) in self.open().iter_mut() {
            if stream.stalls(reading, now) {
                stream.cut.notify_one();
            }
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a stream among the open ones.
struct Open {
    streams: Streams,
    stream: Arc<Stream>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(place) = open.iter().position(|(stream, _)| Arc::ptr_eq(stream, &self.stream)) {
            open.swap_remove(place);
        }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, answering: F) {
        let stream = Arc::new(Stream {
            taken: AtomicU64::new(0),
            owing: AtomicBool::new(false),
            longest_stall_ms: AtomicU64::new(STALL.as_millis() as u64),
            cut: Notify::new(),
        });
        self.open().push((stream.clone(), Reading::default()));
        let open = Open { streams: self.clone(), stream: stream.clone() };
        tokio::spawn(STREAM.scope(stream, async move {
            tokio::select! {
                biased;
                () = open.streams.ended.cancelled() => {}
                () = open.stream.cut.notified() => {}
                () = answering => {}
            }
        }));
    }
}
