//! Why a call on the store failed, in the three ways that matter to a caller: nobody answered, the caller is behind, or
//! the two sides do not speak the same protocol.
//!
//! Must never call an outage a protocol error: breakers open on the first and only on the first.

use fred::error::{Error, ErrorKind};

use crate::stamp::PolicyStamp;

/// How errors begin that a server, or the client on a dying connection, gives while no Redis serves.
const UNAVAILABLE: [&str; 6] =
    ["LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "Failed to route command"];

/// Why a call on the store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Redis did not answer in time or the connection is down; nothing is known about the command's effect.
    #[error("redis is unavailable: {0}")]
    Unavailable(String),
    /// The caller holds another policy than the stored one; nothing was decided.
    #[error("policy {held} is held, {current} is stored")]
    StalePolicy {
        /// The caller's.
        held: PolicyStamp,
        /// The scope's.
        current: PolicyStamp,
    },
    /// The caller knows of other revocations than the scope has; nothing was decided.
    #[error("{held} revocations are known, {current} are stored")]
    StaleRevocations {
        /// How many the caller knows of.
        held: u64,
        /// How many the scope has.
        current: u64,
    },
    /// Redis refused the command, or answered something the protocol does not know.
    #[error("redis protocol: {0}")]
    Protocol(String),
    /// The URL cannot be used.
    #[error("redis url: {0}")]
    Url(String),
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Routing
            | ErrorKind::Cluster
            | ErrorKind::Sentinel
            | ErrorKind::Backpressure
            | ErrorKind::Auth
            | ErrorKind::Tls => Self::Unavailable(error.to_string()),
            _ if UNAVAILABLE.iter().any(|code| error.details().starts_with(code)) => {
                Self::Unavailable(error.to_string())
            }
            _ => Self::Protocol(error.to_string()),
        }
    }
}
