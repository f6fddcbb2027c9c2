//! An identity provider: signs tokens as most of them do, with RS256, and publishes its key on loopback.
//!
//! Responsible for tokens that are good. Must never serve anything but its public key.

use std::net::SocketAddr;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::error::HarnessError;

/// `iss` of its tokens.
pub const NAME: &str = "https://idp.example";
/// `aud` of its tokens.
pub const AUDIENCE: &str = "gateway";

const KEY_ID: &str = "signing-1";
/// A 2048-bit `RSAPublicKey` (RFC 8017 §A.1.1) in DER: the modulus stands behind nine bytes of tags and lengths and a
/// zero; the exponent, behind it, is 65537.
const MODULUS: std::ops::Range<usize> = 9..265;
const EXPONENT: &str = "AQAB";

/// A running identity provider. Dropping it ends it.
#[derive(Debug)]
pub struct TokenIssuer {
    key: KeyPair,
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl TokenIssuer {
    /// Makes a key and publishes it.
    pub async fn start() -> Result<Self, HarnessError> {
        let key = KeyPair::generate(KeySize::Rsa2048);
        let key = key.map_err(|_| HarnessError::Answer("no RSA key could be made".to_owned()))?;
        let modulus = key.public_key().as_ref().get(MODULUS);
        let modulus = modulus.ok_or_else(|| HarnessError::Answer("an RSA key of another size".to_owned()))?;
        let keys = json!({ "keys": [{
            "kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256",
            "n": URL_SAFE_NO_PAD.encode(modulus), "e": EXPONENT,
        }] });
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(HarnessError::io("binding a port"))?;
        let address = listener.local_addr().map_err(HarnessError::io("reading the bound address"))?;
        let app = Router::new().route("/keys", get(async move || Json(keys)));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // Whoever needs it notices that it is gone.
            drop(axum::serve(listener, app).await);
        });
        Ok(Self { key, address, _serving: serving })
    }

    /// Where its key is.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        format!("http://{}/keys", self.address)
    }

    /// A token that says this.
    pub fn sign(&self, claims: &Value) -> Result<String, HarnessError> {
        let header = json!({ "alg": "RS256", "typ": "JWT", "kid": KEY_ID });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let signed = self.key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature);
        signed.map_err(|_| HarnessError::Answer("a token could not be signed".to_owned()))?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
