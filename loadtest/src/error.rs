//! What can go wrong in the harness itself, as opposed to in what it tests.
//!
//! Responsible for one typed error with enough of the failing process's own words to act on. Must never describe a
//! refusal: those are answers, and answers are values.

use std::time::Duration;

/// A failure of the harness, of a process it started or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The operating system refused something.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The refusal.
        source: std::io::Error,
    },
    /// A child process did not start, or ended by itself.
    #[error("{name}: {reason}\n{stderr}")]
    Process {
        /// Which child.
        name: String,
        /// What happened.
        reason: String,
        /// The last lines it wrote to its standard error.
        stderr: String,
    },
    /// A Redis command of the harness failed.
    #[error("redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// A call through the protocol crate failed.
    #[error(transparent)]
    Store(#[from] portcullis_lua::StoreError),
    /// An HTTP exchange broke before its answer was complete.
    #[error("http: {0}")]
    Http(#[from] reqwest::Error),
    /// An answer was not what its kind of answer must be.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// The policy of the cluster is no policy.
    #[error("policy: {0}")]
    Policy(String),
    /// A load that cannot be offered.
    #[error("load: {0}")]
    Load(String),
    /// What was asked for does not exist or makes no sense.
    #[error("{0}")]
    Misuse(String),
    /// Somebody pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A condition did not come true in time.
    #[error("after {0:?} still not true: {1}")]
    Timeout(Duration, String),
}

impl HarnessError {
    /// An I/O error with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
