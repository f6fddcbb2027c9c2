//! Why there was no answer, in a few words.
//!
//! Responsible for the categories of failures in reports. Must never hold an address or an id: then nothing could be
//! counted by it.

use std::error::Error;
use std::io::{self, ErrorKind};

/// The operating system's number for too many open files, per process and in all; the same on Linux, BSD and macOS.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// A call without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The category.
    pub(super) why: &'static str,
    /// Whether any of the request may have reached a gateway.
    pub(super) sent: bool,
}

impl Failure {
    /// Nothing was sent.
    pub(super) fn unsent(why: &'static str) -> Self {
        Self { why, sent: false }
    }

    /// A connection could not be made.
    pub(super) fn to_connect(error: &io::Error) -> Self {
        Self::unsent(of_io(error).unwrap_or("connecting failed"))
    }

    /// An exchange broke after it had begun.
    pub(super) fn of_exchange(error: &hyper::Error) -> Self {
        let why = source_io(error).and_then(of_io).unwrap_or({
            if error.is_parse() {
                "malformed answer"
            } else if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                "connection closed"
            } else {
                "connection broken"
            }
        });
        Self { why, sent: true }
    }
}

/// The first I/O error among an error's causes.
pub(super) fn source_io<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The category of an I/O error, if it has one.
pub(super) fn of_io(error: &io::Error) -> Option<&'static str> {
    if error.raw_os_error().is_some_and(|number| TOO_MANY_FILES.contains(&number)) {
        return Some("too many open files");
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => Some("connection refused"),
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => Some("connection reset"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some("unreachable"),
        ErrorKind::AddrNotAvailable => Some("no free port"),
        ErrorKind::TimedOut => Some("connecting timed out"),
        ErrorKind::UnexpectedEof => Some("connection closed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_name_the_cause_and_nothing_else() {
        let refused = io::Error::new(ErrorKind::ConnectionRefused, "10.0.0.7:8080 refused");
        assert_eq!(Failure::to_connect(&refused), Failure { why: "connection refused", sent: false });
        assert_eq!(Failure::to_connect(&io::Error::from_raw_os_error(24)).why, "too many open files");
        assert_eq!(Failure::to_connect(&io::Error::other("no such host example")).why, "connecting failed");
        let inside = io::Error::other(refused);
        assert_eq!(source_io(&inside).and_then(of_io), None, "the outer one comes first");
    }
}
