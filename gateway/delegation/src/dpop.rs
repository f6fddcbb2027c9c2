//! Proofs of possession: RFC 9449.
//!
//! Responsible for making a proof for one request and for checking one. Must never remember: that a proof is used once
//! only is seen to by the caller, who has its id.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::chain::Chain;
use crate::key::{Jwk, PublicKey};
use crate::lifetime::SKEW_SECONDS;
use crate::mint::new_id;
use crate::refused::{Fault, Refused};
use crate::secret_key::SecretKey;
use crate::strict;
use crate::target_uri::TargetUri;
use crate::token::{ALGORITHMS, sign_compact};

/// Most bytes of a proof.
pub const PROOF_MAX: usize = 4 * 1024;

/// How long the id of a proof must not be taken again, seconds. A proof is fresh in the second it names and for as long
/// as clocks may differ on both sides of it; and whoever sees it next may have a clock that is as much behind.
pub const PROOF_MEMORY_SECONDS: u64 = 3 * SKEW_SECONDS + 1;

/// Longest id of a proof, bytes: the caller keeps it for [`PROOF_MEMORY_SECONDS`].
const ID_MAX: usize = 128;

const TYPE: &str = "dpop+jwt";

/// A proof that has been read and is of the format.
#[derive(Clone)]
pub struct Proof {
    signing_input: String,
    signature: [u8; 64],
    jwk: Jwk,
    claims: ProofClaims,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    typ: String,
    alg: String,
    #[serde(deserialize_with = "strict::object")]
    jwk: Jwk,
}

/// RFC 9449 §4.2, which allows further members.
#[derive(Clone, Serialize, Deserialize)]
struct ProofClaims {
    jti: String,
    htm: String,
    htu: String,
    iat: u64,
    ath: String,
}

/// Makes the proof for one request with this chain: the value of its `DPoP` header.
pub fn prove(
    holder: &SecretKey,
    chain: &Chain,
    method: &str,
    target: &TargetUri,
    now_seconds: u64,
) -> Result<String, Refused> {
    let header = Header { typ: TYPE.into(), alg: ALGORITHMS[0].into(), jwk: holder.public_key().to_jwk() };
    let claims = ProofClaims {
        jti: new_id(now_seconds),
        htm: method.to_owned(),
        htu: target.as_str().to_owned(),
        iat: now_seconds,
        ath: strict::sha256(chain.presented().as_bytes()),
    };
    sign_compact(&header, &claims, holder)
}

impl Proof {
    /// Reads the value of a `DPoP` header.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        if text.len() > PROOF_MAX {
            return Err(Fault::ProofMalformed.into());
        }
        Self::read(text).ok_or(Refused::from(Fault::ProofMalformed))
    }

    fn read(text: &str) -> Option<Self> {
        let (signing_input, signature) = text.rsplit_once('.')?;
        let (header, claims) = signing_input.split_once('.')?;
        let header: Header = strict::from_json(&strict::decode(header)?)?;
        let claims: ProofClaims = strict::from_json(&strict::decode(claims)?)?;
        let typed = header.typ == TYPE && ALGORITHMS.contains(&header.alg.as_str()) && header.jwk.is_well_formed();
        let named = (1..=ID_MAX).contains(&claims.jti.len()) && claims.jti.bytes().all(|byte| byte.is_ascii_graphic());
        (typed && named).then_some(())?;
        let signature = strict::decode_exactly(signature)?;
        Some(Self { signing_input: signing_input.to_owned(), signature, jwk: header.jwk, claims })
    }

    /// What makes this proof different from every other.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.claims.jti
    }

    /// Whether this proof was made by the holder, now, for this request and this chain.
    pub(crate) fn check(
        &self,
        holder: &PublicKey,
        method: &str,
        target: &TargetUri,
        presented_hash: &str,
        now_seconds: u64,
    ) -> Result<(), Refused> {
        if self.jwk != holder.to_jwk() {
            return Err(Fault::ProofWrongKey.into());
        }
        if self.claims.htm != method || self.claims.htu.parse::<TargetUri>().as_ref() != Ok(target) {
            return Err(Fault::ProofWrongTarget.into());
        }
        if self.claims.iat.abs_diff(now_seconds) > SKEW_SECONDS {
            return Err(Fault::ProofStale.into());
        }
        if self.claims.ath != presented_hash {
            return Err(Fault::ProofWrongToken.into());
        }
        if !holder.has_signed(self.signing_input.as_bytes(), &self.signature) {
            return Err(Fault::ProofBadSignature.into());
        }
        Ok(())
    }
}

/// Without the signature: a proof is worth something for a minute.
impl fmt::Debug for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Proof").field(&self.claims.jti).finish()
    }
}
