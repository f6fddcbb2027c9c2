//! The body of a request on its way to the application.
//!
//! Responsible for its bounds: how much a client may send, how long it may pause. Must never hold more than the piece
//! that is being passed on: the application's pace is the client's.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::failure::{Cut, Failure};
use super::field;

/// A request's body.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// Bytes that may still come.
    left: u64,
    longest_pause: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    progress: Arc<Progress>,
}

/// How far an upload has come, for whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Progress {
    /// When the application was last given something to do.
    moved: Mutex<Instant>,
    state: AtomicU8,
}

/// Nobody waits for the client.
const MOVING: u8 = 0;
/// The next piece is the client's to send.
const WAITS_FOR_CLIENT: u8 = 1;
const TOO_MUCH: u8 = 2;
const STOPPED: u8 = 3;
const BROKEN: u8 = 4;

impl Upload {
    /// This body, of at most `most` bytes, whose sender pauses for at most `longest_pause`.
    pub(super) fn new(body: Body, most: u64, longest_pause: Duration) -> Self {
        let progress = Progress { moved: Mutex::new(Instant::now()), state: AtomicU8::new(MOVING) };
        Self { body, left: most, longest_pause, pause: None, progress: Arc::new(progress) }
    }

    /// How far it has come, also when it has been handed over.
    pub(super) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    fn cut(&mut self, state: u8, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.body = Body::empty();
        self.progress.state.store(state, Ordering::Release);
        Poll::Ready(Some(Err(Cut(why))))
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Poll::Ready(piece) = Pin::new(&mut self.body).poll_frame(cx) else {
            self.progress.state.store(WAITS_FOR_CLIENT, Ordering::Release);
            let longest = self.longest_pause;
            ready!(self.pause.get_or_insert_with(|| Box::pin(sleep(longest))).as_mut().poll(cx));
            return self.cut(STOPPED, "the client stopped sending");
        };
        self.pause = None;
        self.progress.note_moved();
        match piece {
            None => Poll::Ready(None),
            Some(Err(_)) => self.cut(BROKEN, "the client's body broke off"),
            Some(Ok(mut frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let Some(left) = self.left.checked_sub(bytes) else {
                    return self.cut(TOO_MUCH, "the client sends more than it may");
                };
                self.left = left;
                if let Some(trailers) = frame.trailers_mut() {
                    field::of_trailers(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Progress {
    /// Ends when the application has had all it was sent for `limit` and has not answered. Does not run while it is the
    /// client who is waited for.
    pub(super) async fn unanswered_for(&self, limit: Duration) {
        loop {
            let since =
                if self.state.load(Ordering::Acquire) == WAITS_FOR_CLIENT { Instant::now() } else { self.moved() };
            let quiet = since.elapsed();
            if quiet >= limit {
                return;
            }
            sleep(limit.saturating_sub(quiet)).await;
        }
    }

    /// The application has something to do from now on.
    pub(super) fn note_moved(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.state.store(MOVING, Ordering::Release);
    }

    /// What was wrong with the client's body, if that is what ended the exchange.
    pub(super) fn fault(&self) -> Option<Failure> {
        match self.state.load(Ordering::Acquire) {
            TOO_MUCH => Some(Failure::TooMuchSent),
            STOPPED => Some(Failure::StoppedSending),
            BROKEN => Some(Failure::BrokenBody),
            _ => None,
        }
    }

    fn moved(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    /// A body of these pieces that then pauses for ever.
    fn pieces(pieces: &'static [&'static str]) -> Body {
        let pieces = stream::iter(pieces).map(|piece| Ok::<_, Cut>(Frame::data(Bytes::from_static(piece.as_bytes()))));
        Body::new(StreamBody::new(pieces.chain(stream::pending())))
    }

    async fn next(upload: &mut Upload) -> Result<Bytes, Cut> {
        upload.frame().await.unwrap().map(|frame| frame.into_data().unwrap())
    }

    #[tokio::test]
    async fn pieces_are_passed_on_as_they_come_up_to_the_bound() {
        let mut upload = Upload::new(pieces(&["ab", "c", "d"]), 3, PAUSE);
        let progress = upload.progress();
        assert_eq!(next(&mut upload).await.unwrap(), "ab");
        assert_eq!(next(&mut upload).await.unwrap(), "c");
        assert_eq!(progress.fault(), None);
        assert!(next(&mut upload).await.is_err());
        assert_eq!(progress.fault(), Some(Failure::TooMuchSent));
        assert!(upload.frame().await.is_none(), "nothing comes after the fault");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stops_sending_is_cut_off_and_it_is_not_the_applications_fault() {
        let mut upload = Upload::new(pieces(&["ab"]), 99, PAUSE);
        let progress = upload.progress();
        assert!(next(&mut upload).await.is_ok());
        let began = Instant::now();
        tokio::select! {
            cut = next(&mut upload) => assert!(cut.is_err()),
            () = progress.unanswered_for(PAUSE / 100) => panic!("the client was waited for"),
        }
        assert_eq!((began.elapsed(), progress.fault()), (PAUSE, Some(Failure::StoppedSending)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_has_its_time_from_the_last_piece_it_was_given() {
        let mut upload = Upload::new(pieces(&["ab", "c"]), 99, PAUSE);
        let progress = upload.progress();
        assert!(next(&mut upload).await.is_ok());
        tokio::time::advance(PAUSE / 2).await;
        assert!(next(&mut upload).await.is_ok());
        let began = Instant::now();
        progress.unanswered_for(PAUSE).await;
        assert_eq!(began.elapsed(), PAUSE);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_passed_on_as_complete() {
        let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"ab"))), Err(Cut("gone"))]);
        let mut upload = Upload::new(Body::new(StreamBody::new(broken)), 99, PAUSE);
        assert!(next(&mut upload).await.is_ok());
        assert!(next(&mut upload).await.is_err());
        assert_eq!(upload.progress().fault(), Some(Failure::BrokenBody));
    }
}
