//! How this deployment delegates: its root keys, its name as a resource, how long a delegation may last.
//!
//! Responsible for minting roots and for the names by which verifiers know this deployment: one resource per scope, so
//! that a delegation for one tenant is not for another. Must never show the signing key, nor build an address from
//! anything a client sent: `Host` is the client's.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::Uri;
use portcullis_config::Scope;
use portcullis_delegation::{Chain, Grant, Lifetimes, Refused, RootKey, SecretKey, TargetUri, Verifier, mint};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::identity::document;

/// How long anything of a delegation lasts at most, ms: a root's hour and what clocks may differ by.
pub(crate) const LONGEST_MS: u64 = 3_660_000;

/// The bounds that gateways keep; all others are for whoever is behind them.
pub(crate) const CALLS_PER_MIN: &str = "calls_per_min";
/// The other one.
pub(crate) const CALLS_PER_HOUR: &str = "calls_per_hour";

/// Whether a bound is one on calls that nobody keeps: a slip would leave without a bound what was to have one.
pub(crate) fn is_slip(constraint: &str) -> bool {
    constraint.starts_with("calls") && ![CALLS_PER_MIN, CALLS_PER_HOUR].contains(&constraint)
}

/// How this deployment delegates.
#[derive(Debug)]
pub(crate) struct DelegationTerms {
    /// Without a slash at its end.
    resource: String,
    key_id: String,
    signer: SecretKey,
    roots: Vec<RootKey>,
    lifetimes: Lifetimes,
}

impl DelegationTerms {
    /// Those of an identity document, or what is wrong with its keys.
    pub(crate) fn new(written: &document::Delegation) -> Result<Self, String> {
        let resource = written.resource.trim_end_matches('/').to_owned();
        let (mut signer, mut roots) = (None, Vec::new());
        for key in &written.keys {
            let (secret, public) = keys_of(key.key.expose_secret())
                .ok_or_else(|| format!("delegation key `{}` is not an Ed25519 key in PEM or as a JWK", key.kid))?;
            if key.kid == written.active_kid {
                signer = secret;
            }
            roots.push(RootKey { issuer: resource.clone(), key_id: key.kid.clone(), key: public });
        }
        let signer = signer.ok_or_else(|| format!("delegation key `{}` is not a private key", written.active_kid))?;
        let ttl = &written.max_ttl_seconds;
        let lifetimes = Lifetimes::lowered(ttl.root, ttl.agent, ttl.leaf);
        let lifetimes = lifetimes.map_err(|error| error.to_string())?;
        Ok(Self { resource, key_id: written.active_kid.clone(), signer, roots, lifetimes })
    }

    /// What chains are verified by.
    pub(crate) fn verifier(&self) -> Verifier {
        Verifier::new(self.roots.clone(), self.lifetimes)
    }

    /// The deployment: `iss` of its roots, and the address that its resources begin with.
    pub(crate) fn issuer(&self) -> &str {
        &self.resource
    }

    /// The audience of delegations that are for this scope.
    pub(crate) fn resource_of(&self, scope: &Scope) -> String {
        format!("{}/t/{}/p/{}", self.resource, scope.tenant(), scope.project())
    }

    /// Where a resource is described (RFC 9728 §3.1): the well-known part goes between host and path.
    pub(crate) fn metadata_of(&self, resource: &str) -> String {
        let path = resource.strip_prefix(self.origin()).unwrap_or_default();
        format!("{}/.well-known/oauth-protected-resource{path}", self.origin())
    }

    /// The address of a path of this deployment's host.
    pub(crate) fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// The address of a request as its client wrote it, to which proofs are bound. Where the deployment has a path, a
    /// proxy has taken it away.
    pub(crate) fn target_of(&self, uri: &Uri) -> Option<TargetUri> {
        format!("{}{}", self.resource, uri.path()).parse().ok()
    }

    /// Signs the root of a chain.
    pub(crate) fn mint(&self, grant: Grant) -> Result<Chain, Refused> {
        mint(grant, &self.signer, &self.key_id, &self.lifetimes, Self::now_seconds())
    }

    /// Seconds since 1970. Chains are minted and narrowed far from Redis, so their times are held against the clock of
    /// this machine.
    pub(crate) fn now_seconds() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    /// The keys by which everybody can verify its roots, as JWKs with their names.
    pub(crate) fn public_keys(&self) -> Vec<Value> {
        let key = |root: &RootKey| {
            let jwk = root.key.to_jwk();
            json!({"kty": jwk.kty, "crv": jwk.crv, "x": jwk.x, "kid": root.key_id, "use": "sig", "alg": "EdDSA"})
        };
        self.roots.iter().map(key).collect()
    }

    /// The path of the deployment's own address; empty where it has none.
    pub(crate) fn path(&self) -> &str {
        self.resource.strip_prefix(self.origin()).unwrap_or_default()
    }

    /// Scheme and authority.
    fn origin(&self) -> &str {
        let after_scheme = self.resource.find("://").map_or(0, |at| at + 3);
        let end = self.resource[after_scheme..].find('/').map_or(self.resource.len(), |at| after_scheme + at);
        &self.resource[..end]
    }
}

/// The keys in a text; no secret one where it has only the public half.
fn keys_of(text: &str) -> Option<(Option<SecretKey>, portcullis_delegation::PublicKey)> {
    if let Ok(secret) = SecretKey::from_text(text) {
        let public = secret.public_key();
        return Some((Some(secret), public));
    }
    portcullis_delegation::PublicKey::from_text(text).ok().map(|public| (None, public))
}

#[cfg(test)]
mod tests {
    use document::{DelegationKey, MaxTtlSeconds};

    use super::*;

    fn terms(resource: &str) -> DelegationTerms {
        let key = SecretKey::from_seed(&[1; 32]).to_pem().unwrap();
        let written = document::Delegation {
            resource: resource.to_owned(),
            active_kid: "root".to_owned(),
            keys: vec![DelegationKey { kid: "root".to_owned(), key: key.as_str().into() }],
            max_ttl_seconds: MaxTtlSeconds { root: 3600, agent: 900, leaf: 300 },
        };
        DelegationTerms::new(&written).unwrap()
    }

    #[test]
    fn a_proof_is_made_out_to_the_public_address_whatever_a_proxy_takes_away() {
        let seen = "/v1/tasks?wait=1".parse().unwrap();
        for (resource, target) in [
            ("https://gw.example", "https://gw.example/v1/tasks"),
            ("https://gw.example/", "https://gw.example/v1/tasks"),
            ("https://gw.example/portcullis", "https://gw.example/portcullis/v1/tasks"),
            ("https://gw.example/a/b/", "https://gw.example/a/b/v1/tasks"),
        ] {
            assert_eq!(terms(resource).target_of(&seen).unwrap().as_str(), target, "{resource}");
        }
        let elsewhere = "http://elsewhere.example/v1/tasks".parse().unwrap();
        assert_eq!(terms("https://gw.example").target_of(&elsewhere).unwrap().as_str(), "https://gw.example/v1/tasks");
        assert_eq!(terms("https://gw.example").target_of(&"/a/../v1/tasks".parse().unwrap()), None);
    }
}
