//! How long a token may be valid, by its depth.
//!
//! Responsible for the caps of the format and for a deployment lowering them. Must never let one be raised.

use thiserror::Error;

/// How much the clocks of those who issue and those who verify may differ, seconds.
pub const SKEW_SECONDS: u64 = 30;

/// The longest lifetimes, by depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// Seconds, for depth 0, depth 1 and below.
    by_depth_seconds: [u64; 3],
}

/// A lifetime of zero, or one above the cap of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("lifetimes can only be lowered: 1 to 3600 s for roots, 900 s for their children, 300 s below")]
pub struct AboveCap;

impl Lifetimes {
    /// The caps of the format: an hour for a root, 15 minutes for its children, 5 minutes for those below.
    pub const CAPS: Self = Self { by_depth_seconds: [3600, 900, 300] };

    /// Lower lifetimes for depth 0, depth 1 and below, seconds.
    pub fn lowered(root_seconds: u64, first_seconds: u64, deeper_seconds: u64) -> Result<Self, AboveCap> {
        let by_depth_seconds = [root_seconds, first_seconds, deeper_seconds];
        let mut pairs = by_depth_seconds.iter().zip(Self::CAPS.by_depth_seconds);
        if pairs.all(|(seconds, cap)| (1..=cap).contains(seconds)) {
            Ok(Self { by_depth_seconds })
        } else {
            Err(AboveCap)
        }
    }

    /// The longest lifetime of a token at this depth, seconds.
    #[must_use]
    pub fn at_depth(&self, depth: usize) -> u64 {
        self.by_depth_seconds[depth.min(2)]
    }
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self::CAPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_lowered_and_never_raised() {
        let lowered = Lifetimes::lowered(1800, 900, 1).unwrap();
        assert_eq!([0, 1, 2, 7].map(|depth| lowered.at_depth(depth)), [1800, 900, 1, 1]);
        for (root, first, deeper) in [(3601, 900, 300), (3600, 901, 300), (3600, 900, 301), (0, 1, 1), (1, 0, 1)] {
            assert_eq!(Lifetimes::lowered(root, first, deeper), Err(AboveCap));
        }
        assert_eq!(Lifetimes::lowered(3600, 900, 300), Ok(Lifetimes::default()));
    }
}
