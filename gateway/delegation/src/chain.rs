//! A chain as it is presented: `T0~T1~…~Tn`, the root first.
//!
//! Responsible for bounding what a stranger can make us read, and for reading it. Must never be taken for verified:
//! what a chain says is true only once `Verifier::verify` has returned.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::claims::HOPS_MAX;
use crate::refused::{Fault, Refused};
use crate::strict;
use crate::token::Token;

/// Most bytes of a presented chain.
pub const PRESENTED_MAX: usize = 8 * 1024;

/// What stands between tokens. Legal in a bearer token (RFC 6750), not in base64url.
pub const SEPARATOR: char = '~';

/// A chain that has been read and is of the format, but is not verified.
#[derive(Clone)]
pub struct Chain {
    presented: String,
    tokens: Vec<Token>,
}

impl Chain {
    /// Reads a chain: sizes first, then every token alone at its place. Takes no look at clocks, keys or signatures.
    pub fn parse(presented: &str) -> Result<Self, Refused> {
        let separators = presented.bytes().take(PRESENTED_MAX).filter(|byte| *byte == SEPARATOR as u8).count();
        if presented.len() > PRESENTED_MAX || separators >= HOPS_MAX {
            return Err(Fault::Oversize.into());
        }
        let tokens = presented.split(SEPARATOR).enumerate().map(|(hop, compact)| Token::parse(compact, hop));
        Ok(Self { tokens: tokens.collect::<Result<_, _>>()?, presented: presented.to_owned() })
    }

    /// Whether a bearer token is meant to be a chain, rather than a JWT of an identity provider or an opaque token: it
    /// has several parts, or its payload has a depth. Decides only which verifier is asked.
    #[must_use]
    pub fn is_shape_of(presented: &str) -> bool {
        #[derive(Deserialize)]
        struct Placed {
            #[expect(dead_code, reason = "only whether it is there counts")]
            del_depth: IgnoredAny,
        }
        let payload = || strict::decode(presented.split('.').nth(1)?);
        // Most are tokens of providers, and are not read to the end to find that out.
        let may_be_placed = |payload: &[u8]| {
            str::from_utf8(payload).map_or(true, |text| text.contains("del_depth") || text.contains('\\'))
        };
        let is_placed = |payload: &[u8]| may_be_placed(payload) && strict::from_json::<Placed>(payload).is_some();
        let fits = presented.len() <= PRESENTED_MAX;
        presented.contains(SEPARATOR) || fits && payload().is_some_and(|payload| is_placed(&payload))
    }

    /// As it was presented.
    #[must_use]
    pub fn presented(&self) -> &str {
        &self.presented
    }

    /// Its tokens, the root first; never empty.
    #[must_use]
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    /// The token it begins with.
    #[must_use]
    pub fn root(&self) -> &Token {
        &self.tokens[0]
    }

    /// The token it ends with: what the chain allows.
    #[must_use]
    pub fn leaf(&self) -> &Token {
        &self.tokens[self.tokens.len() - 1]
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(&self.tokens).finish()
    }
}
