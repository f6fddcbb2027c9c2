//! Verdicts on chains, so that signatures are checked once.
//!
//! Responsible for their bound: a holder makes as many chains as it likes, each as large as one may be, without asking
//! anybody. Must never answer for anything but the very text that was verified, nor for whether it is still in force:
//! a verdict is asked for that each time.

use std::sync::{Arc, OnceLock};

use portcullis_config::Scope;
use portcullis_delegation::{Chain, Checked, Token};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::caller::Caller;

/// A chain that is genuine.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) checked: Checked,
    /// Where it counts.
    pub(super) scope: Scope,
    /// Who it makes of its bearer, once it was presented as it must be: the same for every request.
    pub(super) caller: OnceLock<Caller>,
}

/// Verdicts remembered at once, if they are of the usual size; more only means signatures checked again.
const MOST: usize = 10_000;

/// What they take together at most, bytes. A usual one takes four to eight thousand, the largest eighty.
const MOST_BYTES: u64 = 40 * 1024 * 1024;

/// SHA-256 of a presented text.
pub(super) type Digest = [u8; 32];

/// Verdicts, by the digest of what was presented.
#[derive(Debug)]
pub(super) struct Verdicts(Cache<Digest, Kept, BySize>);

/// A verdict, and about how many bytes it takes.
#[derive(Clone, Debug)]
struct Kept {
    verdict: Arc<Verdict>,
    size: u64,
}

#[derive(Clone, Copy, Debug)]
struct BySize;

impl Weighter<Digest, Kept> for BySize {
    fn weight(&self, _: &Digest, kept: &Kept) -> u64 {
        kept.size
    }
}

impl Verdicts {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(MOST, MOST_BYTES, BySize))
    }

    /// The verdict on this text, if it is remembered.
    pub(super) fn get(&self, digest: &Digest) -> Option<Arc<Verdict>> {
        self.0.get(digest).map(|kept| kept.verdict)
    }

    /// Remembers the verdict on this chain, which is the text of this digest.
    pub(super) fn keep(&self, digest: Digest, chain: &Chain, verdict: &Arc<Verdict>) {
        self.0.insert(digest, Kept { verdict: verdict.clone(), size: size(chain) });
    }
}

/// About how many bytes the verdict on a chain takes: its names are no longer than its text, and of every token there
/// are a few pieces of memory, and one for each scope and each bound; those of the last stand twice. The caller says
/// the same in other words.
fn size(chain: &Chain) -> u64 {
    let pieces = |token: &Token| 8 + token.scopes().iter().count() + token.claims().constraints.len();
    let all: usize = chain.tokens().iter().map(pieces).sum();
    2 * (chain.presented().len() + 64 * (all + pieces(chain.leaf()))) as u64
}

#[cfg(test)]
mod tests {
    use super::super::tests::{chain, verdict};
    use super::*;

    #[test]
    fn verdicts_are_bounded_by_what_they_take_not_by_how_many_there_are() {
        let kept = |scopes: &str| {
            let (verdicts, chain) = (Verdicts::new(), chain("p", "a", "h", scopes));
            let verdict = Arc::new(verdict(&chain));
            for number in 0..3 * MOST as u64 {
                let mut digest = Digest::default();
                digest[..8].copy_from_slice(&number.to_le_bytes());
                verdicts.keep(digest, &chain, &verdict);
            }
            assert!(verdicts.0.weight() <= MOST_BYTES);
            (verdicts.0.len(), size(&chain))
        };
        let crowd: Vec<String> = (0..64).map(|number| format!("s{number}")).collect();
        let [(few, large), (many, small)] = [crowd.join(" "), "tasks:*".to_owned()].map(|scopes| kept(&scopes));
        assert!(few < many && large > 3 * small && small > 4000, "{few} of {large} bytes, {many} of {small}");
    }
}
