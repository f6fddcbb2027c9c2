//! Why a request could not be proxied to its end, and what its caller is told.
//!
//! Responsible for telling the application's failures from the client's: only the former are failures to a circuit
//! breaker. Must never tell a caller where the application is or how it failed: that is in the log.

use std::error::Error;
use std::fmt;

use hyper_util::client::legacy;

use crate::admission::enqueue;
use crate::refusal::{Cause, Refused};

/// What ended a proxied request before its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or one that broke before the answer's head.
    Unreachable,
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

/// Ends a body early, which ends the connection that carries it: whoever reads it must not take it for complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut(pub(super) &'static str);

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Cut {}
