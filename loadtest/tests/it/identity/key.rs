//! Keys of test issuers and agents, and tokens signed by them that no honest signer would sign.
//!
//! Responsible for signing whatever it is given. Must never check it: being checked is the gateway's part.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use portcullis_delegation::{PublicKey, SecretKey};
use serde::Serialize;
use serde_json::{Value, json};

/// An Ed25519 key pair.
#[derive(Clone)]
pub(super) struct Key {
    seed: [u8; 32],
}

impl Key {
    pub(super) fn generate() -> Self {
        Self { seed: rand::random() }
    }

    /// As holders of delegations use it.
    pub(super) fn secret(&self) -> SecretKey {
        SecretKey::from_seed(&self.seed)
    }

    pub(super) fn public(&self) -> PublicKey {
        self.secret().public_key()
    }

    /// As an agent sends it with its wish for a delegation.
    pub(super) fn jwk(&self) -> Value {
        serde_json::to_value(self.public().to_jwk()).expect("JSON")
    }

    /// As an issuer publishes it under this name.
    pub(super) fn published(&self, kid: &str) -> Value {
        let mut jwk = self.jwk();
        jwk["kid"] = json!(kid);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!("EdDSA");
        jwk
    }

    /// A compact JWS (RFC 7515 §7.1) of exactly this header and payload.
    pub(super) fn sign(&self, head: &Value, claims: &impl Serialize) -> String {
        let signed = unsigned(head, claims);
        let signature = SigningKey::from_bytes(&self.seed).sign(signed.as_bytes()).to_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and payload, without what makes them worth anything.
pub(super) fn unsigned(head: &Value, claims: &impl Serialize) -> String {
    let part = |json: Vec<u8>| URL_SAFE_NO_PAD.encode(json);
    let head = serde_json::to_vec(head).expect("JSON");
    format!("{}.{}", part(head), part(serde_json::to_vec(claims).expect("JSON")))
}

/// Seconds since 1970, by the clock that gateways on this machine have too.
pub(super) fn now_seconds() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}
