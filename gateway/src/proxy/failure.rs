//! Why a request could not be proxied to its end, and what its caller is told.
//!
//! Responsible for telling the application's failures from the client's and from this gateway's own: only the first are
//! failures to a circuit breaker. Must never tell a caller where the application is or how it failed: that is in the
//! log.

use std::error::Error;
use std::fmt;
use std::io;

use hyper_util::client::legacy;
use rustix::io::Errno;

use crate::admission::enqueue;
use crate::refusal::{Cause, Refused};

/// What the kernel says to a process, or a machine, that can have no further connection.
const EXHAUSTED: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL, Errno::NOBUFS];

/// What ended a proxied request before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or one that broke before the answer's head.
    Unreachable,
    /// This gateway can open no connection, whatever the application does.
    Exhausted,
    /// No connection, or no answer's head, in time.
    Late,
    /// An answer that is no HTTP, or beyond what the policy allows.
    Invalid,
    /// The client sends more than the policy allows.
    TooMuchSent,
    /// The client stopped sending.
    StoppedSending,
    /// The client's body broke off.
    BrokenBody,
}

impl Failure {
    /// What the client of the application reports. What went wrong with the caller's body is looked up before.
    pub(super) fn of(error: &legacy::Error) -> Self {
        if error.is_connect() && is_exhausted(error) {
            return Self::Exhausted;
        }
        let cause = error.source().and_then(|source| source.downcast_ref::<hyper::Error>());
        if cause.is_some_and(hyper::Error::is_parse) { Self::Invalid } else { Self::Unreachable }
    }

    /// Whether it is the application that failed.
    pub(super) fn is_upstreams(self) -> bool {
        matches!(self, Self::Unreachable | Self::Late | Self::Invalid)
    }

    /// What the caller is told.
    pub(super) fn refused(self) -> Refused {
        match self {
            Self::Unreachable => Refused::new(
                Cause::UpstreamUnreachable,
                "Upstream unreachable",
                "The application could not be reached, or broke the connection off before it answered.",
            ),
            Self::Exhausted => Refused::new(
                Cause::StreamLimit,
                "Out of connections",
                "This gateway can open no further connection. Another one may be able to: try again.",
            ),
            Self::Late => Refused::new(
                Cause::UpstreamTimeout,
                "Upstream timed out",
                "The application did not answer in time. It may have done what was asked.",
            ),
            Self::Invalid => Refused::new(
                Cause::UpstreamInvalid,
                "Upstream answer invalid",
                "The application's answer cannot be passed on. It may have done what was asked.",
            ),
            Self::TooMuchSent => Refused::new(
                Cause::PayloadTooLarge,
                "Payload too large",
                "The body of the request is larger than the policy allows.",
            ),
            Self::StoppedSending => enqueue::body_timeout(),
            Self::BrokenBody => enqueue::unreadable_body(),
        }
    }
}

/// Whether an error, or what caused it, is that there are no more connections to be had.
fn is_exhausted(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |error| (*error).source());
    let mut codes = causes.filter_map(|error| error.downcast_ref::<io::Error>()?.raw_os_error());
    codes.any(|code| EXHAUSTED.iter().any(|known| known.raw_os_error() == code))
}

/// Ends a body early, which ends the connection that carries it: whoever reads it must not take it for complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut(pub(super) &'static str);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Cut {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Around(io::Error);

    impl fmt::Display for Around {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("around")
        }
    }

    impl Error for Around {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn what_the_kernel_refuses_this_gateway_is_not_the_applications_fault() {
        let around = |errno: Errno| Around(io::Error::from_raw_os_error(errno.raw_os_error()));
        for errno in EXHAUSTED {
            assert!(is_exhausted(&around(errno)), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            assert!(!is_exhausted(&around(errno)), "{errno}");
        }
        assert!(!Failure::Exhausted.is_upstreams());
        assert_eq!(Failure::Exhausted.refused().cause, Cause::StreamLimit);
    }
}
