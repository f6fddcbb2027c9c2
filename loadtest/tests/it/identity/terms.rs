//! The identity document of a test's cluster.
//!
//! Responsible for whom its gateways believe. Must never be shared between tests: keys and tokens are made anew for
//! each.

use std::path::PathBuf;

use portcullis_delegation::{Claims, Constraint, Grant, Lifetimes};
use portcullis_loadtest::client::Client;
use portcullis_loadtest::cluster::Builder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::key::{Key, now_seconds};
use crate::fixture::cluster;

/// The public address of the deployment: what delegations and proofs are made for.
pub(super) const RESOURCE: &str = "https://gw.example";

const SECRET_CHARS: usize = 43;

/// Whom gateways believe.
pub(super) struct Terms {
    document: Value,
    internal: String,
    root: Key,
    folder: TempDir,
}

impl Terms {
    /// An internal token and a root key of delegations; nobody else is believed. No address is refused for failing:
    /// everything comes from one here.
    pub(super) fn new() -> Self {
        let digits = (0..4).map(|_| format!("{:016x}", rand::random::<u64>()));
        let document = json!({
            "api_keys": [], "issuers": [], "egress_allow": ["127.0.0.1"],
            "internal": { "principal": "svc:sync", "user_type": "registered", "scopes": ["*"] },
            "failed_attempts": { "per_minute": 1000 },
            "delegation": {
                "resource": RESOURCE, "active_kid": "root", "keys": [{ "kid": "root", "key": "env:ROOT_KEY" }],
            },
        });
        let folder = tempfile::tempdir().expect("a folder");
        Self { document, internal: digits.collect(), root: Key::generate(), folder }
    }

    /// Also believes an API key of this owner, given for everything.
    pub(super) fn api_key(self, id: &str, owner: &str, user_type: &str) -> Self {
        self.api_key_with(id, owner, user_type, json!({}))
    }

    /// The same with `more` merged over its entry.
    pub(super) fn api_key_with(mut self, id: &str, owner: &str, user_type: &str, more: Value) -> Self {
        let digest = Sha256::digest(api_key(id)).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        let mut entry = json!({ "id": id, "sha256": digest, "owner": owner, "user_type": user_type, "scopes": ["*"] });
        merge(&mut entry, more);
        self.list("api_keys").push(entry);
        self
    }

    /// Also believes an issuer of JSON Web Tokens whose keys are at this address; `more` is merged over its entry.
    pub(super) fn issuer(mut self, issuer: &str, prefix: &str, keys_url: &str, more: Value) -> Self {
        let mut entry = json!({
            "issuer": issuer, "jwks_url": keys_url, "audiences": ["portcullis"], "algorithms": ["EdDSA"],
            "groups_claim": ["cognito:groups"], "principal_prefix": prefix,
        });
        merge(&mut entry, more);
        self.list("issuers").push(entry);
        self
    }

    /// Also believes an issuer whose keys are where its own discovery document says.
    pub(super) fn discovered_issuer(self, issuer: &str, prefix: &str) -> Self {
        let mut terms = self.issuer(issuer, prefix, "", json!({}));
        let entry = terms.list("issuers").last_mut().and_then(Value::as_object_mut).expect("the one just added");
        entry.remove("jwks_url");
        terms
    }

    /// Sets a section of the document.
    pub(super) fn section(mut self, name: &str, section: Value) -> Self {
        self.document[name] = section;
        self
    }

    /// A cluster whose gateways have these terms.
    pub(super) fn cluster(&self) -> Builder {
        self.variables().into_iter().fold(cluster(), |builder, (name, value)| builder.env(name, &value))
    }

    /// Writes the document down as it now is; the variables of a gateway that reads it.
    pub(super) fn variables(&self) -> Vec<(&'static str, String)> {
        let path = self.written();
        let pem = self.root.secret().to_pem().expect("PEM");
        vec![
            ("PORTCULLIS_IDENTITY_PATH", path.to_str().expect("UTF-8").to_owned()),
            ("PORTCULLIS_INTERNAL_TOKEN", self.internal.clone()),
            ("ROOT_KEY", pem.to_string()),
        ]
    }

    fn written(&self) -> PathBuf {
        let path = self.folder.path().join(format!("{:016x}.json", rand::random::<u64>()));
        std::fs::write(&path, self.document.to_string()).expect("room on the disk");
        path
    }

    pub(super) fn internal_token(&self) -> &str {
        &self.internal
    }

    /// The key that roots are signed with. Nobody but the gateways should have it.
    pub(super) fn root(&self) -> &Key {
        &self.root
    }

    /// A root that the gateway would have minted at this time. The holder has `holder`.
    pub(super) fn root_of(&self, scope: &str, audience: &str, holder: Option<&Key>, now_seconds: u64) -> Claims {
        let grant = Grant {
            issuer: RESOURCE.to_owned(),
            principal: "dev:ada".to_owned(),
            tenant: scope.to_owned(),
            session: "user-0".to_owned(),
            user_type: Some("registered".to_owned()),
            client_id: "orchestrator".to_owned(),
            audience: vec![audience.to_owned()],
            scopes: "tasks:submit:* quota:read".parse().expect("scopes"),
            constraints: vec![Constraint { key: "calls_per_min".to_owned(), max: 60 }],
            lifetime_seconds: None,
            max_depth: None,
            holder: holder.map(Key::public),
            reason: "plans the work".to_owned(),
        };
        let secret = self.root.secret();
        let chain = portcullis_delegation::mint(grant, &secret, "root", &Lifetimes::CAPS, now_seconds);
        chain.expect("a sound root").root().claims().clone()
    }

    /// A root chain that is over.
    pub(super) fn expired_chain(&self, scope: &str, audience: &str) -> String {
        let claims = self.root_of(scope, audience, None, now_seconds() - 7200);
        self.root.sign(&root_head(), &claims)
    }

    fn list(&mut self, name: &str) -> &mut Vec<Value> {
        self.document[name].as_array_mut().expect("a list")
    }
}

/// The header of every root.
pub(super) fn root_head() -> Value {
    json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "root" })
}

/// The API key of this id, eight letters and digits.
pub(super) fn api_key(id: &str) -> String {
    format!("gk_{id}_{id:x<SECRET_CHARS$}")
}

/// The same listener as a caller with this API key.
pub(super) fn with_api_key(client: &Client, id: &str) -> Client {
    client.with_header("x-api-key", &api_key(id))
}

/// Where delegations for a scope say they are for.
pub(super) fn resource_of(scope: &str) -> String {
    let (tenant, project) = scope.split_once('/').expect("a scope");
    format!("{RESOURCE}/t/{tenant}/p/{project}")
}

fn merge(entry: &mut Value, more: Value) {
    if let (Some(entry), Value::Object(more)) = (entry.as_object_mut(), more) {
        entry.extend(more);
    }
}
