//! One token: a compact JWS with a fixed header.
//!
//! Responsible for the bytes, in both directions. Must never verify a signature while reading: reading is done before
//! it is known whether the chain is worth any arithmetic.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::claims::{Claims, NAME_MAX};
use crate::refused::{Fault, Refused};
use crate::scope::ScopeSet;
use crate::secret_key::SecretKey;
use crate::strict;

/// RFC 9068.
const TYPE: &str = "at+jwt";

/// RFC 8037, and its fully specified name of RFC 9864.
pub(crate) const ALGORITHMS: [&str; 2] = ["EdDSA", "Ed25519"];

/// A token that has been read and is of the format. Nothing is said about who signed it.
#[derive(Clone)]
pub struct Token {
    compact: String,
    signed_length: usize,
    key_id: Option<String>,
    claims: Claims,
    scopes: ScopeSet,
    hash: String,
    signature: [u8; 64],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::present")]
    kid: Option<String>,
}

impl Token {
    /// Reads the token at this place of a chain.
    pub(crate) fn parse(compact: &str, hop: usize) -> Result<Self, Refused> {
        let malformed = || Fault::Malformed.at(hop);
        let (signing_input, signature) = compact.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signing_input.split_once('.').ok_or_else(malformed)?;
        let header = strict::decode(header).ok_or_else(malformed)?;
        let header: Header = strict::from_json(&header).ok_or_else(malformed)?;
        if !ALGORITHMS.contains(&header.alg.as_str()) {
            return Err(Fault::AlgorithmRefused.at(hop));
        }
        // Holders are known by their thumbprints; only a root has a name for its key.
        let named_well = header.kid.as_ref().is_none_or(|id| hop == 0 && (1..=NAME_MAX).contains(&id.len()));
        if header.typ != TYPE || !named_well {
            return Err(malformed());
        }
        let payload = strict::decode(payload).ok_or_else(malformed)?;
        let claims: Claims = strict::from_json(&payload).ok_or_else(malformed)?;
        let scopes = claims.check(hop)?;
        Ok(Self {
            signed_length: signing_input.len(),
            key_id: header.kid,
            claims,
            scopes,
            hash: strict::sha256(signing_input.as_bytes()),
            signature: strict::decode_exactly(signature).ok_or_else(malformed)?,
            compact: compact.to_owned(),
        })
    }

    /// Signs these claims. They are not checked: whoever signs reads the result back.
    pub(crate) fn sign(claims: &Claims, key_id: Option<&str>, key: &SecretKey) -> Result<String, Refused> {
        let header = Header { alg: ALGORITHMS[0].into(), typ: TYPE.into(), kid: key_id.map(str::to_owned) };
        sign_compact(&header, claims, key)
    }

    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What it allows.
    #[must_use]
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// Which key of its issuer signed it, as the token says. Only in a root. A name to compare, never to look
    /// anything up with.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// SHA-256 of the signing input, base64url: what children name their parent by, and revocations a token.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// As it stands in the chain.
    #[must_use]
    pub fn compact(&self) -> &str {
        &self.compact
    }

    /// What the signature is over.
    pub(crate) fn signing_input(&self) -> &[u8] {
        &self.compact.as_bytes()[..self.signed_length]
    }

    pub(crate) fn signature(&self) -> &[u8; 64] {
        &self.signature
    }
}

/// Without the signature: a chain without a `cnf` is all that its bearer needs.
impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hop = (&self.claims.client_id, &self.claims.jti, &self.hash);
        out.debug_tuple("Token").field(&hop).finish()
    }
}

/// A compact JWS (RFC 7515 §7.1) of this header and payload.
pub(crate) fn sign_compact<H: Serialize, P: Serialize>(
    header: &H,
    payload: &P,
    key: &SecretKey,
) -> Result<String, Refused> {
    let header = serde_json::to_vec(header).map_err(|_| Fault::Malformed)?;
    let payload = serde_json::to_vec(payload).map_err(|_| Fault::Malformed)?;
    let mut compact = format!("{}.{}", strict::encode(&header), strict::encode(&payload));
    let signature = key.sign(compact.as_bytes());
    compact.push('.');
    compact.push_str(&strict::encode(&signature));
    Ok(compact)
}
