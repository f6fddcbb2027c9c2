//! The body of an application's answer on its way to the client.
//!
//! Responsible for its bounds, and for ending the pass of its request: the request is in flight until its answer is
//! over, however that comes about. Must never hold more than the piece that is being passed on: a slow client slows the
//! application down instead of filling this process.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::bounds::Bounds;
use super::failure::Cut;
use super::field;
use super::upload::Progress;
use super::usage;
use crate::admission::pass::{Outcome, Pass};

/// What is to be said of a request when its answer is over.
#[derive(Debug)]
pub(super) struct Account {
    /// `None`: a request that takes no gates, or of which all has been said.
    pub(super) pass: Option<Pass>,
    /// What the answer's head says about how it went.
    pub(super) outcome: Outcome,
    /// What the application has reported so far.
    pub(super) usage: Vec<(String, u64)>,
}

impl Account {
    /// Says it; later words change nothing.
    pub(super) fn close(&mut self, outcome: Outcome) {
        if let Some(pass) = self.pass.take() {
            pass.finish(outcome, std::mem::take(&mut self.usage));
        }
    }
}

/// An answer's body.
pub(super) struct Download<B = Incoming> {
    body: B,
    account: Account,
    /// Bytes that may still come; `None`: any number.
    left: Option<u64>,
    longest_pause: Duration,
    pause: Option<Pin<Box<Sleep>>>,
    /// Something has come since the pause was last looked at.
    moved: bool,
    /// The request's body, which may be on its way still.
    upload: Arc<Progress>,
    /// Ends an answer that has no end of its own when this gateway goes.
    going: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    over: bool,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Download<B> {
    /// This body, the answer to what `upload` tells of. `going` is for answers without an end of their own.
    pub(super) fn new(
        body: B,
        account: Account,
        upload: Arc<Progress>,
        bounds: &Bounds,
        going: Option<WaitForCancellationFutureOwned>,
    ) -> Self {
        let going = going.map(Box::pin);
        let (left, longest_pause) = (bounds.response_bytes, bounds.pause);
        let mut this =
            Self { body, account, left, longest_pause, pause: None, moved: false, upload, going, over: false };
        this.look_for_end();
        this
    }

    /// Whoever reads a body whose length is known does not ask what comes after its last piece.
    fn look_for_end(&mut self) {
        if self.body.is_end_stream() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.over = true;
        let outcome = self.account.outcome;
        self.account.close(outcome);
    }

    /// The client must see that the answer is not complete.
    fn cut(&mut self, why: &'static str) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.over = true;
        let outcome = self.outcome_if_cut();
        self.account.close(outcome);
        Poll::Ready(Some(Err(Cut(why))))
    }

    /// The application has failed, unless the client's own body broke what both of them were at.
    fn outcome_if_cut(&self) -> Outcome {
        if self.upload.fault().is_some() { Outcome::Abandoned } else { Outcome::Failed }
    }

    /// Ready when the application has been silent for too long although it had all it was sent.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let longest = self.longest_pause;
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(longest)));
        if std::mem::take(&mut self.moved) {
            pause.as_mut().reset(Instant::now() + longest);
        }
        loop {
            ready!(pause.as_mut().poll(cx));
            let until = self.upload.quiet_since() + longest;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            pause.as_mut().reset(until);
        }
    }

    /// A stream of events that has none to tell has not failed; its client comes again.
    fn give_up(&mut self) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.going.is_none() {
            return self.cut("the application stopped sending");
        }
        self.end();
        Poll::Ready(None)
    }

    fn pass_on(&mut self, mut frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.moved = true;
        if let (Some(data), Some(left)) = (frame.data_ref(), self.left) {
            let Some(left) = left.checked_sub(data.len() as u64) else {
                return self.cut("the application sends more than it may");
            };
            self.left = Some(left);
        }
        if let Some(trailers) = frame.trailers_mut() {
            usage::add(&mut self.account.usage, trailers);
            field::of_trailers(trailers);
        }
        self.look_for_end();
        Poll::Ready(Some(Ok(frame)))
    }
}

/// Whoever drops it leaves: what the application has reported counts all the same.
impl Drop for Account {
    fn drop(&mut self) {
        self.close(Outcome::Abandoned);
    }
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Download<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.going.as_mut().is_some_and(|going| going.as_mut().poll(cx).is_ready()) {
            self.end();
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => self.pass_on(frame),
            Poll::Ready(Some(Err(_))) => self.cut("the application's answer broke off"),
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.poll_pause(cx));
                self.give_up()
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> std::fmt::Debug for Download<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Download").field("account", &self.account).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
