//! Whom the gateways of a cluster believe about who a caller is, and everything that can be presented to them.
//!
//! Responsible for an identity document of a cluster's own with the secrets it names, and for good credentials of every
//! kind under it. Must never outlive its cluster: keys and tokens are made anew each time and lie in a directory that
//! goes with them.

pub mod token_issuer;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_config::{Scope, merge_patch};
use portcullis_delegation::{Chain, Grant, Lifetimes, Narrowing, PublicKey, ScopeSet, SecretKey, attenuate, mint};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Builder;
use crate::credentials::token_issuer::TokenIssuer;
use crate::error::HarnessError;

/// What delegations are for, and where proofs say that a request goes to.
pub const RESOURCE: &str = "https://gateway.example";
/// The key that roots of chains are signed with.
const KEY_ID: &str = "root-1";
/// What stands before the subject of an issuer's token.
const PREFIX: &str = "idp:";
/// The owner of the API key.
pub const KEY_OWNER: &str = "robot";
/// Who bears the internal token.
pub const SERVICE: &str = "service";

/// What API key, internal token and delegations are good for.
const SCOPES: [&str; 2] = ["tasks:*", "quota:read"];

/// The credentials of one cluster.
#[derive(Debug)]
pub struct Credentials {
    issuer: TokenIssuer,
    root: SecretKey,
    api_key: String,
    internal_token: String,
    document: PathBuf,
    /// Where document and secrets lie, as long as this lives.
    _directory: TempDir,
}

impl Credentials {
    /// Credentials of every kind that a gateway can be told of in a file. `patch` is merged over the document.
    pub async fn new(patch: &Value) -> Result<Self, HarnessError> {
        let directory = tempfile::Builder::new().prefix("portcullis-identity-").tempdir();
        let directory = directory.map_err(HarnessError::io("making a directory for credentials"))?;
        let (issuer, root) = (TokenIssuer::start().await?, secret_key()?);
        let (api_key, internal_token) = (format!("gk_robot001_{}", random_text()), random_text());
        let [key_file, token_file, document] =
            ["root.pem", "internal", "identity.json"].map(|name| directory.path().join(name));
        root.write_file(&key_file).map_err(unusable)?;
        let write = |path: &PathBuf, text: &str| {
            std::fs::write(path, text).map_err(HarnessError::io(format!("writing {}", path.display())))
        };
        write(&token_file, &internal_token)?;
        let mut content = json!({
            "issuers": [{
                "issuer": token_issuer::NAME, "jwks_url": issuer.jwks_url(), "audiences": [token_issuer::AUDIENCE],
                "algorithms": ["RS256"], "groups_claim": ["groups"], "principal_prefix": PREFIX,
                "user_types": { "paid": "paid", "operators": "privileged" },
            }],
            "api_keys": [{
                "id": "robot001", "sha256": hex_digest(&api_key), "owner": KEY_OWNER, "user_type": "paid",
                "scopes": SCOPES,
            }],
            "internal": {
                "tokens": [format!("file:{}", token_file.display())], "principal": SERVICE, "user_type": "paid",
                "scopes": SCOPES,
            },
            "delegation": {
                "resource": RESOURCE, "active_kid": KEY_ID,
                "keys": [{ "kid": KEY_ID, "key": format!("file:{}", key_file.display()) }],
            },
            "egress_allow": ["127.0.0.1"],
        });
        merge_patch(&mut content, patch);
        write(&document, &content.to_string())?;
        Ok(Self { issuer, root, api_key, internal_token, document, _directory: directory })
    }

    /// Has every gateway believe them.
    #[must_use]
    pub fn believed_by(&self, builder: Builder) -> Builder {
        builder.env("PORTCULLIS_IDENTITY_PATH", &self.document.to_string_lossy())
    }

    /// Where the identity provider publishes its keys.
    #[must_use]
    pub fn jwks_url(&self) -> String {
        self.issuer.jwks_url()
    }

    /// The API key, of [`KEY_OWNER`].
    #[must_use]
    pub fn api_key(&self) -> &str {
        &self.api_key
    }

    /// The token of the internal service, which is [`SERVICE`].
    #[must_use]
    pub fn internal_token(&self) -> &str {
        &self.internal_token
    }

    /// A new token of the identity provider, good for an hour; `groups` say which user type.
    pub fn jwt(&self, subject: &str, groups: &[&str]) -> Result<String, HarnessError> {
        let (now, id) = (now_seconds(), random_text());
        self.issuer.sign(&json!({
            "iss": token_issuer::NAME, "aud": token_issuer::AUDIENCE, "sub": subject, "groups": groups,
            "iat": now, "exp": now + 3600, "jti": id,
        }))
    }

    /// The root of a chain as a gateway would mint it, which may do everything with tasks.
    pub fn mint(&self, granted: &Granted<'_>) -> Result<Chain, HarnessError> {
        let grant = Grant {
            issuer: RESOURCE.to_owned(),
            principal: granted.principal.to_owned(),
            tenant: granted.scope.to_string(),
            session: format!("session-of-{}", granted.principal),
            user_type: Some("paid".to_owned()),
            client_id: granted.agent.to_owned(),
            audience: vec![resource_of(granted.scope)],
            scopes: scopes()?,
            constraints: Vec::new(),
            lifetime_seconds: None,
            max_depth: None,
            holder: granted.holder.map(SecretKey::public_key),
            reason: granted.reason.to_owned(),
        };
        mint(grant, &self.root, KEY_ID, &Lifetimes::CAPS, now_seconds()).map_err(unusable)
    }
}

/// What a principal lets an agent do.
#[derive(Clone, Copy, Debug)]
pub struct Granted<'a> {
    /// Where.
    pub scope: &'a Scope,
    /// Who grants.
    pub principal: &'a str,
    /// To whom.
    pub agent: &'a str,
    /// The agent's key; without, the chain is a bearer token that goes no further.
    pub holder: Option<&'a SecretKey>,
    /// Why.
    pub reason: &'a str,
}

/// The principal that a subject of the identity provider is.
#[must_use]
pub fn principal_of(subject: &str) -> String {
    format!("{PREFIX}{subject}")
}

/// What delegations for a scope are for.
#[must_use]
pub fn resource_of(scope: &Scope) -> String {
    format!("{RESOURCE}/t/{}/p/{}", scope.tenant(), scope.project())
}

/// The same right, handed on to another agent by the holder of the chain's last key.
pub fn handed_on(
    chain: &Chain,
    holder: &SecretKey,
    agent: &str,
    next: Option<PublicKey>,
    reason: &str,
) -> Result<Chain, HarnessError> {
    let narrowing = Narrowing { holder: next, ..Narrowing::of_all(agent, reason) };
    attenuate(chain, holder, narrowing, now_seconds()).map_err(unusable)
}

/// A new key pair of an agent.
pub fn secret_key() -> Result<SecretKey, HarnessError> {
    SecretKey::generate().map_err(unusable)
}

/// The token of a session, which is none until somebody opens it.
#[must_use]
pub fn session_token() -> String {
    format!("gs_{}", random_text())
}

/// Seconds since 1970, by this machine's clock, as the gateways read it for chains and tokens.
#[must_use]
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 32 random bytes in base64url: 43 characters.
#[must_use]
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// SHA-256 in hexadecimal digits.
#[must_use]
pub fn hex_digest(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in digest(&SHA256, text.as_bytes()).as_ref() {
        hex.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
    }
    hex
}

fn scopes() -> Result<ScopeSet, HarnessError> {
    let scopes = SCOPES.map(|scope| scope.parse().map_err(unusable));
    ScopeSet::new(scopes.into_iter().collect::<Result<_, _>>()?).map_err(unusable)
}

/// A credential that could not be made.
fn unusable(error: impl std::fmt::Display) -> HarnessError {
    HarnessError::Answer(format!("making a credential: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_fips_180() {
        assert_eq!(hex_digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[tokio::test]
    async fn a_chain_grows_by_a_token_with_each_agent() {
        let credentials = Credentials::new(&json!({})).await.expect("credentials");
        let (scope, holder) = (Scope::new("acme", "demo").expect("a scope"), secret_key().expect("a key"));
        let granted =
            Granted { scope: &scope, principal: "ada", agent: "planner", holder: Some(&holder), reason: "plans" };
        let root = credentials.mint(&granted).expect("a root");
        let leaf = handed_on(&root, &holder, "reader", None, "reads").expect("a leaf");
        assert_eq!((root.tokens().len(), leaf.tokens().len()), (1, 2));
        assert!(handed_on(&leaf, &holder, "nobody", None, "more").is_err(), "a bearer token goes no further");
    }
}
