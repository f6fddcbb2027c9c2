//! The body of a request on its way to the application.
//!
//! Responsible for its bounds: how much a client may send, how long it may have itself waited for. Must never hold more
//! than the piece that is being passed on: the application's pace is the client's.

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

use super::bounds::Bounds;
use super::failure::{Cut, Failure};
use super::field;

/// A request's body.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    /// Bytes that may still come.
    left: u64,
    pace: Pace,
    progress: Arc<Progress>,
}

/// How slow a client is. Only the time counts in which it is waited for: an application that takes its time is not its
/// fault.
#[derive(Debug)]
struct Pace {
    longest_wait: Duration,
    least_bytes: u64,
    /// How long the client was waited for since it had last sent as much as it must.
    waited: Duration,
    /// Bytes it has sent since then.
    sent: u64,
    /// The wait that is going on, and since when it is.
    wait: Option<(Instant, Pin<Box<Sleep>>)>,
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
    /// This body, within these bounds.
    pub(super) fn new(body: Body, bounds: &Bounds) -> Self {
        let progress = Progress { moved: Mutex::new(Instant::now()), state: AtomicU8::new(MOVING) };
        let (longest_wait, least_bytes) = (bounds.pause, bounds.least_bytes);
        let pace = Pace { longest_wait, least_bytes, waited: Duration::ZERO, sent: 0, wait: None };
        Self { body, left: bounds.request_bytes, pace, progress: Arc::new(progress) }
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
            ready!(self.pace.poll_too_slow(cx));
            return self.cut(STOPPED, "the client stopped sending");
        };
        self.progress.note_moved();
        match piece {
            None => Poll::Ready(None),
            Some(Err(_)) => self.cut(BROKEN, "the client's body broke off"),
            Some(Ok(mut frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.pace.note_sent(bytes);
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

/// Whoever has taken a body and drops it waits for its client no longer.
impl Drop for Upload {
    fn drop(&mut self) {
        if self.progress.waits_for_client() {
            self.progress.note_moved();
        }
    }
}

impl Pace {
    /// Ready when the client has been waited for too long.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let left = self.longest_wait.saturating_sub(self.waited);
        self.wait.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(left)))).1.as_mut().poll(cx)
    }

    fn note_sent(&mut self, bytes: u64) {
        if let Some((since, _)) = self.wait.take() {
            self.waited += since.elapsed();
        }
        self.sent += bytes;
        if self.sent >= self.least_bytes {
            (self.waited, self.sent) = (Duration::ZERO, 0);
        }
    }
}

impl Progress {
    /// Ends when the application has had all it was sent for `limit` and has not answered. Does not run while it is the
    /// client who is waited for.
    pub(super) async fn unanswered_for(&self, limit: Duration) {
        loop {
            let quiet = self.quiet_since().elapsed();
            if quiet >= limit {
                return;
            }
            sleep(limit.saturating_sub(quiet)).await;
        }
    }

    /// Since when the application has had all it was sent; not before now while it is the client who is waited for.
    pub(super) fn quiet_since(&self) -> Instant {
        if self.waits_for_client() { Instant::now() } else { self.moved() }
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

    fn waits_for_client(&self) -> bool {
        self.state.load(Ordering::Acquire) == WAITS_FOR_CLIENT
    }

    fn moved(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};
    use portcullis_config::Policy;
    use portcullis_config::policy::GUARDED;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(10);

    /// The bounds of a body of at most this many bytes.
    fn bounds(request_bytes: u64) -> Bounds {
        Bounds { pause: PAUSE, request_bytes, ..Bounds::of(&Policy::shipped("acme", "demo"), GUARDED) }
    }

    fn piece(text: &'static str) -> Frame<Bytes> {
        Frame::data(Bytes::from_static(text.as_bytes()))
    }

    /// A body of these pieces that then pauses for ever.
    fn pieces(pieces: &'static [&'static str]) -> Body {
        Body::new(StreamBody::new(stream::iter(pieces).map(|text| Ok::<_, Cut>(piece(text))).chain(stream::pending())))
    }

    /// A body that sends `text` after every `pause`, for ever.
    fn trickle(text: &'static str, pause: Duration) -> Body {
        let pieces = stream::repeat(()).then(move |()| async move {
            sleep(pause).await;
            Ok::<_, Cut>(piece(text))
        });
        Body::new(StreamBody::new(Box::pin(pieces)))
    }

    async fn next(upload: &mut Upload) -> Result<Bytes, Cut> {
        upload.frame().await.unwrap().map(|frame| frame.into_data().unwrap())
    }

    #[tokio::test]
    async fn pieces_are_passed_on_as_they_come_up_to_the_bound() {
        let mut upload = Upload::new(pieces(&["ab", "c", "d"]), &bounds(3));
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
        let mut upload = Upload::new(pieces(&["ab"]), &bounds(99));
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
        let mut upload = Upload::new(pieces(&["ab", "c"]), &bounds(99));
        let progress = upload.progress();
        assert!(next(&mut upload).await.is_ok());
        tokio::time::advance(PAUSE / 2).await;
        assert!(next(&mut upload).await.is_ok());
        let began = Instant::now();
        progress.unanswered_for(PAUSE).await;
        assert_eq!(began.elapsed(), PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_drop_by_drop_is_cut_off_as_if_it_had_sent_nothing() {
        let least = Bounds { least_bytes: 4, ..bounds(9999) };
        let mut upload = Upload::new(trickle("a", PAUSE * 2 / 5), &least);
        let began = Instant::now();
        assert!(next(&mut upload).await.is_ok() && next(&mut upload).await.is_ok());
        assert!(next(&mut upload).await.is_err());
        assert_eq!((began.elapsed(), upload.progress().fault()), (PAUSE, Some(Failure::StoppedSending)));
        let mut upload = Upload::new(trickle("abcd", PAUSE * 2 / 5), &least);
        let mut anything = Upload::new(trickle("a", PAUSE * 2 / 5), &Bounds { least_bytes: 0, ..least });
        for _ in 0..20 {
            assert!(next(&mut upload).await.is_ok() && next(&mut anything).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_takes_its_time_is_not_the_clients_fault() {
        let mut upload = Upload::new(pieces(&["a", "b", "c", "d"]), &bounds(99));
        for _ in 0..4 {
            tokio::time::advance(PAUSE).await;
            assert!(next(&mut upload).await.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_the_client_of_a_body_that_was_dropped() {
        let mut upload = Upload::new(pieces(&[]), &bounds(99));
        let progress = upload.progress();
        tokio::select! {
            _ = next(&mut upload) => panic!("nothing is sent"),
            () = sleep(PAUSE / 2) => {}
        }
        drop(upload);
        let began = Instant::now();
        progress.unanswered_for(PAUSE).await;
        assert_eq!((began.elapsed(), progress.fault()), (PAUSE, None));
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_passed_on_as_complete() {
        let broken = stream::iter([Ok(Frame::data(Bytes::from_static(b"ab"))), Err(Cut("gone"))]);
        let mut upload = Upload::new(Body::new(StreamBody::new(broken)), &bounds(99));
        assert!(next(&mut upload).await.is_ok());
        assert!(next(&mut upload).await.is_err());
        assert_eq!(upload.progress().fault(), Some(Failure::BrokenBody));
    }
}
