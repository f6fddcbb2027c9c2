//! The stamp of a stored policy: which document, not only which number.
//!
//! Responsible for telling two documents apart that were given the same revision on two sides of a failover. Must never
//! be compared for "newer": that is told by the time a policy was written (`restore.lua`).

use std::fmt;

use sha2::{Digest, Sha256};

/// Room for the digest below the revision; `STAMP_UNIT` of `include/stamp.lua`.
const UNIT: u64 = 1 << 20;

/// Names one stored policy of a scope: its revision and twenty bits of its document's SHA-256. Less than 2^53, so that
/// it is exact in Lua.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyStamp(u64);

impl PolicyStamp {
    /// Nothing is stored: every replica follows the document it was started with.
    pub const NONE: Self = Self(0);

    /// The stamp of a document stored as this revision.
    #[must_use]
    pub fn new(revision: u64, document: &str) -> Self {
        Self(revision * UNIT + Self::check(document))
    }

    /// The stamp as the scripts return it.
    #[must_use]
    pub fn from_u64(stamp: u64) -> Self {
        Self(stamp)
    }

    /// Number of the revision; 0 when nothing is stored.
    #[must_use]
    pub fn revision(self) -> u64 {
        self.0 / UNIT
    }

    /// The stamp as the scripts take it.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// The document's part of a stamp.
    pub(crate) fn check(document: &str) -> u64 {
        let digest = Sha256::digest(document.as_bytes());
        u64::from(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])) % UNIT
    }
}

/// `7-3fa2c`: the revision and the document's part.
impl fmt::Display for PolicyStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:05x}", self.revision(), self.0 % UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_revisions_and_documents_apart() {
        let stamp = PolicyStamp::new(7, "{}");
        assert_eq!(stamp.revision(), 7);
        assert_ne!(stamp, PolicyStamp::new(8, "{}"));
        assert_ne!(stamp, PolicyStamp::new(7, "{\"a\":1}"));
        assert_eq!(PolicyStamp::from_u64(stamp.as_u64()), stamp);
        assert!(stamp.to_string().starts_with("7-"), "{stamp}");
        assert_eq!(PolicyStamp::NONE.revision(), 0);
    }
}
