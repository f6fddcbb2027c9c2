//! The timer by which HTTP connections notice silence, without a timer of the runtime for each request.
//!
//! Responsible for telling the time when asked. Must never wake anybody: whoever drives a connection polls it every
//! [`LOOK`] anyway, and a sleep that has nobody to wake costs a request a comparison instead of two turns of the
//! runtime's timer wheel.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

/// How often a connection has to be polled for its sleeps to end, and so how late they may.
pub(super) const LOOK: Duration = Duration::from_secs(15);

/// Makes sleeps that end when they are looked at after their time.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdleTimer;

#[expect(clippy::disallowed_types, reason = "hyper's trait is written in these terms; the clock is Tokio's")]
type StdInstant = std::time::Instant;

impl Timer for IdleTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(IdleSleep { ends: Instant::now() + duration })
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn Sleep>> {
        Box::pin(IdleSleep { ends: Instant::from_std(deadline) })
    }

    fn now(&self) -> StdInstant {
        Instant::now().into_std()
    }
}

struct IdleSleep {
    ends: Instant,
}

impl Sleep for IdleSleep {}

impl Future for IdleSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.ends { Poll::Ready(()) } else { Poll::Pending }
    }
}
