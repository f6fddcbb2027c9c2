//! Verdicts on chains, so that signatures are checked once.
//!
//! Responsible for their bound: a holder makes as many chains as it likes, each as large as one may be, without asking
//! anybody. Must never answer for anything but the very text that was verified, nor for whether it is still in force:
//! a verdict is asked for that each time.

use portcullis_delegation::{Chain, Checked, Token};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// Verdicts remembered at once, if they are of the usual size; more only means signatures checked again.
const MOST: usize = 10_000;

/// What they take together at most, bytes. A usual one takes two to four thousand, the largest forty.
const MOST_BYTES: u64 = 40 * 1024 * 1024;

/// SHA-256 of a presented text.
pub(super) type Digest = [u8; 32];

/// Verdicts, by the digest of what was presented.
#[derive(Debug)]
pub(super) struct Verdicts(Cache<Digest, Verdict, BySize>);

/// A verdict, and about how many bytes it takes.
#[derive(Clone, Debug)]
struct Verdict {
    checked: Checked,
    size: u64,
}

#[derive(Clone, Copy, Debug)]
struct BySize;

impl Weighter<Digest, Verdict> for BySize {
    fn weight(&self, _: &Digest, verdict: &Verdict) -> u64 {
        verdict.size
    }
}

impl Verdicts {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(MOST, MOST_BYTES, BySize))
    }

    /// The verdict on this text, if it is remembered.
    pub(super) fn get(&self, digest: &Digest) -> Option<Checked> {
        self.0.get(digest).map(|verdict| verdict.checked)
    }

    /// Remembers the verdict on this chain, which is the text of this digest.
    pub(super) fn keep(&self, digest: Digest, chain: &Chain, checked: &Checked) {
        self.0.insert(digest, Verdict { checked: checked.clone(), size: size(chain) });
    }
}

/// About how many bytes the verdict on a chain takes: its names are no longer than its text, and of every token there
/// are a few pieces of memory, and one for each scope and each bound; those of the last stand twice.
fn size(chain: &Chain) -> u64 {
    let pieces = |token: &Token| 8 + token.scopes().iter().count() + token.claims().constraints.len();
    let all: usize = chain.tokens().iter().map(pieces).sum();
    (chain.presented().len() + 64 * (all + pieces(chain.leaf()))) as u64
}

#[cfg(test)]
mod tests {
    use super::super::tests::{chain, checked};
    use super::*;

    #[test]
    fn verdicts_are_bounded_by_what_they_take_not_by_how_many_there_are() {
        let kept = |scopes: &str| {
            let (verdicts, chain) = (Verdicts::new(), chain("p", "a", "h", scopes));
            let checked = checked(&chain);
            for number in 0..3 * MOST as u64 {
                let mut digest = Digest::default();
                digest[..8].copy_from_slice(&number.to_le_bytes());
                verdicts.keep(digest, &chain, &checked);
            }
            assert!(verdicts.0.weight() <= MOST_BYTES);
            (verdicts.0.len(), size(&chain))
        };
        let crowd: Vec<String> = (0..64).map(|number| format!("s{number}")).collect();
        let [(few, large), (many, small)] = [crowd.join(" "), "tasks:*".to_owned()].map(|scopes| kept(&scopes));
        assert!(few < many && large > 3 * small && small > 2000, "{few} of {large} bytes, {many} of {small}");
    }
}
