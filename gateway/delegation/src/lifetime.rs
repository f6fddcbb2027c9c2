//! How long a token may be valid, by its depth.
//!
//! Responsible for the caps of the format and for a deployment lowering them. Must never let one be raised.

use thiserror::Error;

/// How much the clocks of those who issue and those who verify may differ, seconds.
pub const SKEW_SECONDS: u64 = 30;

/// The longest lifetimes, by depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    root_seconds: u64,
    first_seconds: u64,
    deeper_seconds: u64,
}

/// A lifetime of zero, or one above the cap of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("lifetimes can only be lowered: 1 to 3600 s for roots, 900 s for their children, 300 s below")]
pub struct AboveCap;

impl Lifetimes {
    /// The caps of the format: an hour for a root, 15 minutes for its children, 5 minutes for those below.
    pub const CAPS: Self = Self { root_seconds: 3600, first_seconds: 900, deeper_seconds: 300 };

    /// Lower lifetimes for depth 0, depth 1 and below, seconds.
    pub fn lowered(root_seconds: u64, first_seconds: u64, deeper_seconds: u64) -> Result<Self, AboveCap> {
        let within = |seconds: u64, cap: u64| (1..=cap).contains(&seconds);
        let caps = Self::CAPS;
        let lower = within(root_seconds, caps.root_seconds)
            && within(first_seconds, caps.first_seconds)
            && within(deeper_seconds, caps.deeper_seconds);
        if lower { Ok(Self { root_seconds, first_seconds, deeper_seconds }) } else { Err(AboveCap) }
    }

    /// The longest lifetime of a token at this depth, seconds.
    #[must_use]
    pub fn at_depth(&self, depth: usize) -> u64 {
        match depth {
            0 => self.root_seconds,
            1 => self.first_seconds,
            _ => self.deeper_seconds,
        }
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
