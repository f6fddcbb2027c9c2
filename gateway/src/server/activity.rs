//! What a connection has done, counted as it happens.
//!
//! Responsible for the counters by which a connection is judged: bytes either way, requests begun and running, answers
//! that wait for their client to read. Must never read a clock: a request costs a few additions, and whoever judges
//! does so every few seconds.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long the other side may take to end a connection that this side has ended.
const LINGER: Duration = Duration::from_secs(2);

use super::stream::Stream;

/// The counters of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    read: AtomicU64,
    written: AtomicU64,
    /// Bytes read when a request last began or ended: beyond them another one has begun to arrive.
    mark: AtomicU64,
    begun: AtomicU64,
    running: AtomicU32,
    /// Answers whose last piece has not been taken by the connection yet.
    owed: AtomicU32,
    /// Whether the kernel takes no more bytes.
    blocked: AtomicBool,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Glance {
    /// Requests begun so far.
    pub(super) begun: u64,
    /// Whether a request is being answered.
    pub(super) running: bool,
    /// Whether bytes have arrived since a request last began or ended.
    pub(super) arriving: bool,
    /// Whether something waits for the client to read.
    pub(super) owing: bool,
    /// Bytes written so far.
    pub(super) written: u64,
}

impl Activity {
    pub(super) fn glance(&self) -> Glance {
        Glance {
            begun: self.begun.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed) > 0,
            arriving: self.read.load(Ordering::Relaxed) > self.mark.load(Ordering::Relaxed),
            owing: self.blocked.load(Ordering::Relaxed) || self.owed.load(Ordering::Relaxed) > 0,
            written: self.written.load(Ordering::Relaxed),
        }
    }

    /// A request has arrived; it runs until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Running {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        self.set_mark();
        Running(self.clone())
    }

    fn set_mark(&self) {
        self.mark.store(self.read.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// A request being answered.
#[derive(Debug)]
pub(super) struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
        self.0.set_mark();
    }
}

/// The body of an answer, which ends the request when it is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    running: Running,
    owing: bool,
    stream: Option<Arc<Stream>>,
}

impl Watched {
    /// The answer of the running task, whose client may leave it lying for `longest_stall`, if that is said.
    pub(super) fn new(body: Body, running: Running, longest_stall: Option<Duration>) -> Self {
        let stream = Stream::current();
        if let (Some(stream), Some(longest)) = (&stream, longest_stall) {
            stream.set_longest_stall(longest);
        }
        let mut watched = Self { body, running, owing: false, stream };
        // With HTTP/2, a client that makes no room at all never has its answer asked for.
        watched.set_owing(!watched.body.is_end_stream());
        watched
    }

    fn set_owing(&mut self, owing: bool) {
        if self.owing != owing {
            self.owing = owing;
            if let Some(stream) = &self.stream {
                stream.set_owing(owing);
            }
            let owed = &self.running.0.owed;
            if owing {
                owed.fetch_add(1, Ordering::Relaxed)
            } else {
                owed.fetch_sub(1, Ordering::Relaxed)
            };
        }
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        // Whoever asks again has passed the last piece on.
        this.set_owing(false);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let (Some(stream), Some(Ok(frame))) = (&this.stream, &frame) {
            stream.note_taken(frame.data_ref().map_or(0, Bytes::len));
        }
        this.set_owing(matches!(frame, Some(Ok(_))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.set_owing(false);
    }
}

/// A connection's bytes, counted. What was read to find out the protocol comes first.
#[derive(Debug)]
pub(super) struct Counted {
    stream: TcpStream,
    first: Bytes,
    activity: Arc<Activity>,
    /// How long the other side is still waited for, once this one has ended.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl Counted {
    pub(super) fn new(stream: TcpStream, first: Bytes, activity: Arc<Activity>) -> Self {
        activity.read.fetch_add(first.len() as u64, Ordering::Relaxed);
        Self { stream, first, activity, lingering: None }
    }

    /// Writes what goes out at once, and never waits.
    pub(super) fn try_write(&self, bytes: &[u8]) {
        // Whoever is told this is on their way out.
        let _ = self.stream.try_write(bytes);
    }

    fn wrote(&self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        // Stored only when it changes: the writes of a busy connection share no cache line with its judge.
        if self.activity.blocked.load(Ordering::Relaxed) != outcome.is_pending() {
            self.activity.blocked.store(outcome.is_pending(), Ordering::Relaxed);
        }
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.activity.written.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buffer.remaining());
            buffer.put_slice(&self.first[..length]);
            self.first.advance(length);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let outcome = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.activity.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends this direction, and waits a little for the other side to end the other. A connection that is closed with
    /// something unread, such as the credit that a client of HTTP/2 gives for what it has read, is reset, and with it
    /// goes whatever of the last answer is still on its way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.lingering = Some(Box::pin(sleep(LINGER)));
        }
        let this = &mut *self;
        if this.lingering.as_mut().is_none_or(|lingering| lingering.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Ok(()));
        }
        let mut unread = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut unread);
            let read = ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
