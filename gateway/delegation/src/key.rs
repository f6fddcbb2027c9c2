//! Public keys: Ed25519, as a JWK, and what names them.
//!
//! Responsible for which public keys are taken at all and for their thumbprints (RFC 7638, RFC 8037). Must never hold a
//! secret; see `secret_key.rs`.

use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::strict;

/// What stands before a thumbprint where an issuer is named by its key (RFC 9278).
const THUMBPRINT_URN: &str = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:";

/// Why a key was not taken, or not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Neither PEM nor a JWK of an Ed25519 key, or one whose public half is another key's.
    #[error("not an Ed25519 key in PEM or as a JWK")]
    Malformed,
    /// Of small order or not encoded canonically: anyone could sign for it.
    #[error("a weak key")]
    Weak,
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    NoRandomness,
    /// The file could not be read or written.
    #[error("the key file: {0}")]
    File(#[from] std::io::Error),
}

/// An Ed25519 public key as it stands in a token: exactly `kty`, `crv` and `x`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The 32 bytes of the key, base64url.
    pub x: String,
}

impl Jwk {
    /// Whether this is the form of an Ed25519 key. Costs no arithmetic on the curve: see [`PublicKey::from_jwk`].
    pub(crate) fn is_well_formed(&self) -> bool {
        self.kty == "OKP" && self.crv == "Ed25519" && strict::decode_exactly::<32>(&self.x).is_some()
    }

    /// RFC 7638 with the members that RFC 8037 requires, in their order; base64url.
    pub(crate) fn thumbprint(&self) -> String {
        strict::sha256(format!(r#"{{"crv":"{}","kty":"{}","x":"{}"}}"#, self.crv, self.kty, self.x).as_bytes())
    }
}

/// An Ed25519 public key that is not weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        // RFC 8032 §5.1.3 wants y below 2^255 - 19; a second encoding of a key would have a second thumbprint.
        let beyond = bytes[31] & 0x7f == 0x7f && bytes[1..31].iter().all(|byte| *byte == 0xff) && bytes[0] >= 0xed;
        if beyond {
            return Err(KeyError::Weak);
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Malformed)?;
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(Self(key)) }
    }

    /// The key of a JWK.
    pub fn from_jwk(jwk: &Jwk) -> Result<Self, KeyError> {
        if !jwk.is_well_formed() {
            return Err(KeyError::Malformed);
        }
        Self::from_bytes(&strict::decode_exactly(&jwk.x).ok_or(KeyError::Malformed)?)
    }

    /// From the text of a file: a JWK, or PEM (`PUBLIC KEY`).
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.starts_with('{') {
            return Self::from_jwk(&strict::from_json(text.as_bytes()).ok_or(KeyError::Malformed)?);
        }
        let key = VerifyingKey::from_public_key_pem(text).map_err(|_| KeyError::Malformed)?;
        Self::from_bytes(key.as_bytes())
    }

    /// As it stands in a token.
    #[must_use]
    pub fn to_jwk(&self) -> Jwk {
        Jwk { kty: "OKP".into(), crv: "Ed25519".into(), x: strict::encode(self.0.as_bytes()) }
    }

    /// As PEM (`PUBLIC KEY`).
    pub fn to_pem(&self) -> Result<String, KeyError> {
        self.0.to_public_key_pem(LineEnding::LF).map_err(|_| KeyError::Malformed)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// SHA-256 of the JWK (RFC 7638), base64url: 43 characters.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        self.to_jwk().thumbprint()
    }

    /// Whether this is the signature of these bytes by this key. Strict: a signature has one form only.
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }

    pub(crate) fn of(key: VerifyingKey) -> Self {
        Self(key)
    }
}

/// How an issuer is named that is a holder's key.
pub(crate) fn issuer_name(thumbprint: &str) -> String {
    format!("{THUMBPRINT_URN}{thumbprint}")
}

/// The thumbprint in the name of such an issuer.
pub(crate) fn thumbprint_of_issuer(issuer: &str) -> Option<&str> {
    issuer.strip_prefix(THUMBPRINT_URN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8037, appendix A.2 and A.3.
    const PUBLIC: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    #[test]
    fn the_thumbprint_is_that_of_the_rfc() {
        let key = PublicKey::from_text(PUBLIC).unwrap();
        assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(thumbprint_of_issuer(&issuer_name("t")), Some("t"));
        assert_eq!(thumbprint_of_issuer("https://gw.example"), None);
    }

    #[test]
    fn a_key_survives_every_form_it_can_be_written_in() {
        let key = PublicKey::from_text(PUBLIC).unwrap();
        assert_eq!(PublicKey::from_text(&key.to_pem().unwrap()).unwrap(), key);
        assert_eq!(PublicKey::from_text(&serde_json::to_string(&key.to_jwk()).unwrap()).unwrap(), key);
        assert_eq!(PublicKey::from_bytes(&key.to_bytes()).unwrap(), key);
    }

    #[test]
    fn weak_keys_and_second_encodings_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        // 2^255 - 19 + 1 is the same point in another encoding.
        let mut again = [0xff; 32];
        (again[0], again[31]) = (0xee, 0x7f);
        for bytes in [[0; 32], identity, again] {
            assert!(matches!(PublicKey::from_bytes(&bytes), Err(KeyError::Weak)), "{bytes:?}");
        }
    }

    #[test]
    fn other_keys_are_no_keys() {
        let others = [
            PUBLIC.replace("OKP", "EC"),
            PUBLIC.replace("Ed25519", "X25519"),
            PUBLIC.replace("Ro\"", "Rp\""),
            PUBLIC.replace("Ro\"", "Ro=\""),
            PUBLIC.replace("{\"kty", "{\"use\":\"sig\",\"kty"),
            PUBLIC.replace("{\"kty", "{\"crv\":\"Ed25519\",\"kty"),
            String::new(),
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".into(),
        ];
        for text in others {
            assert!(matches!(PublicKey::from_text(&text), Err(KeyError::Malformed)), "{text}");
        }
    }
}
