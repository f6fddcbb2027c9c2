//! A forger: chains with anything in them, correctly signed and linked.
//!
//! Responsible for chains that are wrong in one respect only, so that what refuses them is the rule in question and not
//! a signature that broke on the way. Must never use the crate's own signing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use portcullis_delegation::{
    Chain, Checked, Expected, Lifetimes, Presentation, Presented, PublicKey, Refused, RootKey, SecretKey, Verifier,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The time of every test, seconds since 1970.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) const ISSUER: &str = "https://gw.example";
pub(crate) const RESOURCE: &str = "https://gw.example/t/acme/p/p1";
pub(crate) const TOOL: &str = "notion.mcp";
pub(crate) const TENANT: &str = "acme/p1";
pub(crate) const KEY_ID: &str = "2026-11";
const URN: &str = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:";

pub(crate) fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair by number; 0 is the root's.
pub(crate) fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number + 1; 32])
}

pub(crate) fn jwk(number: u8) -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": base64(&key(number).public_key().to_bytes())})
}

pub(crate) fn issuer(number: u8) -> String {
    format!("{URN}{}", key(number).public_key().thumbprint())
}

pub(crate) fn root_key(issuer: &str, key_id: &str, key: PublicKey) -> RootKey {
    RootKey { issuer: issuer.into(), key_id: key_id.into(), key }
}

pub(crate) fn verifier() -> Verifier {
    Verifier::new(vec![root_key(ISSUER, KEY_ID, key(0).public_key())], Lifetimes::CAPS)
}

pub(crate) fn expected() -> Expected<'static> {
    Expected { resource: RESOURCE, tenant: Some(TENANT) }
}

pub(crate) fn check(presented: &str) -> Result<Checked, Refused> {
    verifier().verify(&Chain::parse(presented)?, &expected(), NOW)
}

/// The whole verdict on a chain that is presented as a bearer token.
pub(crate) fn verdict(presented: &str) -> Result<Presented, Refused> {
    check(presented)?.present(&Presentation::Bearer, NOW)
}

/// One token to be.
#[derive(Clone)]
pub(crate) struct Forged {
    /// The header, as JSON text.
    pub(crate) header: String,
    pub(crate) claims: Value,
    /// The last word on the payload's text.
    pub(crate) rewrite: fn(String) -> String,
    /// The number of the key that signs.
    pub(crate) signer: u8,
    /// Whether `par_hash` is made to fit.
    pub(crate) linked: bool,
}

/// A chain to be.
#[derive(Clone)]
pub(crate) struct Forge(pub(crate) Vec<Forged>);

impl Forge {
    /// A chain of this many tokens in which everything is right and the last is a bearer token.
    pub(crate) fn genuine(hops: u8) -> Self {
        Self((0..hops).map(|hop| token(hop, hop + 1 == hops)).collect())
    }

    pub(crate) fn set(&mut self, hop: usize, member: &str, value: Value) {
        self.0[hop].claims[member] = value;
    }

    pub(crate) fn remove(&mut self, hop: usize, member: &str) {
        self.0[hop].claims.as_object_mut().expect("claims").remove(member);
    }

    /// As it would be presented.
    pub(crate) fn encode(&self) -> String {
        let mut tokens: Vec<String> = Vec::new();
        let mut above: Option<String> = None;
        for forged in &self.0 {
            let mut claims = forged.claims.clone();
            if let (true, Some(above)) = (forged.linked, &above) {
                claims["par_hash"] = base64(&Sha256::digest(above.as_bytes())).into();
            }
            let payload = (forged.rewrite)(claims.to_string());
            let signing_input = format!("{}.{}", base64(forged.header.as_bytes()), base64(payload.as_bytes()));
            let signature = SigningKey::from_bytes(&[forged.signer + 1; 32]).sign(signing_input.as_bytes());
            tokens.push(format!("{signing_input}.{}", base64(&signature.to_bytes())));
            above = Some(signing_input);
        }
        tokens.join("~")
    }
}

fn token(hop: u8, is_leaf: bool) -> Forged {
    let id = format!("01JD0000000000000000000{hop:03}");
    let lifetime = Lifetimes::CAPS.at_depth(hop.into());
    let mut claims = json!({
        "iss": if hop == 0 { ISSUER.into() } else { issuer(hop) },
        "sub": "user-123",
        "client_id": format!("agent-{hop}"),
        "aud": [RESOURCE, TOOL],
        "tid": TENANT,
        "sid": "5f2a",
        "iat": NOW,
        "exp": NOW + lifetime,
        "jti": id,
        "scope": "tools:call:* quota:read",
        "constraints": [{"key": "calls_per_min", "max": 60}],
        "del_depth": hop,
        "del_max_depth": 8,
        "reason": "to look something up",
    });
    if !is_leaf {
        claims["cnf"] = json!({"jwk": jwk(hop + 1)});
    } else if hop == 0 {
        claims["del_max_depth"] = 1.into();
    }
    let kid = if hop == 0 { format!(r#","kid":"{KEY_ID}""#) } else { String::new() };
    Forged {
        header: format!(r#"{{"alg":"EdDSA","typ":"at+jwt"{kid}}}"#),
        claims,
        rewrite: |text| text,
        signer: hop,
        linked: true,
    }
}
