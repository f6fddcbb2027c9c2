//! The identity document: whom this gateway believes about who a caller is.
//!
//! Responsible for the file of `PORTCULLIS_IDENTITY_PATH` as its author writes it; [`load`] finds every fault of it at
//! once. Must never hold a secret itself: secrets are named (`env:NAME`, `file:/path`), because the file is kept where
//! configuration is kept. Defaults stand in `default.yaml`, nowhere else.

mod written;
mod secret;
mod checks;
mod check;
mod issuer;
mod entries;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ipnet::IpNet;
use portcullis_config::{Fault, UserType, from_either, merge_patch, shape_faults};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};

use crate::identity::alb::AlbSettings;
use crate::identity::api_key::ApiKeys;
use crate::identity::egress::Egress;
use crate::identity::internal::InternalToken;
use crate::identity::ip_allow::IpAllow;
use crate::identity::jwt::Issuer;

use written::Document;
pub use written::{MaxTtlSeconds, SessionTerms};

/// What holds where a document says nothing.
const DEFAULTS: &str = include_str!("default.yaml");

/// Largest file that is read, bytes.
const MAX_DOCUMENT_BYTES: u64 = 1 << 20;

/// A document that has been checked, its secrets read.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Issuers of JSON Web Tokens.
    pub issuers: Vec<Issuer>,
    /// The load balancer that authenticates users, if one does.
    pub alb: Option<AlbSettings>,
    /// Keys of programs.
    pub api_keys: ApiKeys,
    /// The internal service's token; `None`: nobody is it.
    pub internal: Option<InternalToken>,
    /// Whether the session cookie is `__Host-portcullis_session`, for HTTPS only; else `portcullis_session`.
    pub cookie_secure: bool,
    /// How long sessions live and how many a principal may have.
    pub sessions: SessionTerms,
    /// Which addresses are listened to at all.
    pub ip_allow: IpAllow,
    /// Failed authentications of one address in a minute, after which it is refused.
    pub failed_attempts_per_minute: u32,
    /// What is known about callers without a credential.
    pub anonymous: Anonymous,
    /// Who may mint and verify delegations; `None`: nobody, the routes are not there.
    pub delegation: Option<Delegation>,
    /// Where the gateway may fetch keys from although the address is not a public one.
    pub egress: Egress,
    /// Where it came from.
    pub source: DocumentSource,
}

/// Where a document came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DocumentSource {
    /// The shipped one; no file was named.
    #[default]
    BuiltIn,
    /// The file of `PORTCULLIS_IDENTITY_PATH`.
    File,
}

/// Callers without a credential.
#[derive(Clone, Debug)]
pub struct Anonymous {
    /// Whether they are served at all; else 401.
    pub enabled: bool,
    /// What they are.
    pub user_type: UserType,
    /// Callers from here are `external` instead.
    pub external_networks: Vec<IpNet>,
    /// What the digests of addresses are keyed with; `None`: they can be found by trying.
    pub secret: Option<SecretString>,
}

/// How this gateway mints and verifies delegations.
#[derive(Clone, Debug)]
pub struct Delegation {
    /// The URL delegations of this gateway are for: their `aud`, and `resource` of the protected resource metadata.
    pub resource: String,
    /// The key new roots are signed with.
    pub active_kid: String,
    /// Keys that roots are believed by.
    pub keys: Vec<DelegationKey>,
    /// Longest life of a hop, by its depth.
    pub max_ttl_seconds: MaxTtlSeconds,
}

/// A root key.
#[derive(Clone, Debug)]
pub struct DelegationKey {
    /// Its id in `kid`.
    pub kid: String,
    /// The key, PKCS#8 PEM or JWK; private for the active one, private or public for the others.
    pub key: SecretString,
}

impl Identity {
    /// Whether somebody could be identified by something else than an address.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        !self.issuers.is_empty() || self.alb.is_some() || !self.api_keys.is_empty() || self.internal.is_some()
    }
}

/// Reads the document, or the defaults where none is named, and the secrets it names. The internal token may also come
/// from `PORTCULLIS_INTERNAL_TOKEN` and `PORTCULLIS_INTERNAL_PRINCIPAL`, without a document.
///
/// # Errors
///
/// Every fault, each with its place.
pub fn load(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Identity, Vec<Fault>> {
    let whole = |message: String| vec![Fault { path: String::new(), message }];
    let text = match path {
        Some(path) => read(path).map_err(|reason| whole(format!("{}: {reason}", path.display())))?,
        None => "{}".to_owned(),
    };
    let source = if path.is_some() { DocumentSource::File } else { DocumentSource::BuiltIn };
    Ok(Identity { source, ..parse(&text, env)? })
}

/// [`load`] of a text, which counts as built in.
///
/// # Errors
///
/// Every fault, each with its place.
pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Identity, Vec<Fault>> {
    let whole = |message: String| vec![Fault { path: String::new(), message }];
    let mut given = from_either(text).map_err(whole)?;
    if given.is_null() {
        given = json!({});
    }
    merge_internal(&mut given, env);
    let mut document = from_either(DEFAULTS).map_err(whole)?;
    if given.is_object() {
        merge_patch(&mut document, &given);
    } else {
        document = given;
    }
    let faults = shape_faults(&document, &schema());
    if !faults.is_empty() {
        return Err(faults);
    }
    let document = serde_json::from_value::<Document>(document).map_err(|error| whole(error.to_string()))?;
    check::check(&document, env)
}

/// Definitions whose entries users give whole: no defaults stand beneath them.
const WHOLE: [&str; 6] =
    ["IssuerEntry", "AlbEntry", "ApiKeyEntry", "InternalEntry", "ScopeEntry", "DelegationKeyEntry"];

/// The JSON Schema of identity documents as users write them; published as `deploy/identity.schema.json`.
#[must_use]
pub fn schema_of_documents() -> Value {
    let mut schema = schema();
    schema["title"] = json!("Portcullis identity document");
    schema.as_object_mut().map(|root| root.shift_remove("required"));
    if let Some(definitions) = schema["$defs"].as_object_mut() {
        for (_, definition) in definitions.iter_mut().filter(|(name, _)| !WHOLE.contains(&name.as_str())) {
            definition.as_object_mut().map(|map| map.shift_remove("required"));
        }
    }
    schema
}

/// The schema of a document with the defaults beneath it, generated from its types.
fn schema() -> Value {
    schemars::schema_for!(Document).to_value()
}

/// Puts the internal token of the environment beside those of the document.
fn merge_internal(document: &mut Value, env: &dyn Fn(&str) -> Option<String>) {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let Some(document) = document.as_object_mut() else { return };
    let token = set("PORTCULLIS_INTERNAL_TOKEN").map(|_| json!("env:PORTCULLIS_INTERNAL_TOKEN"));
    if token.is_none() && !document.contains_key("internal") {
        return;
    }
    let Some(internal) = document.entry("internal").or_insert_with(|| json!({})).as_object_mut() else { return };
    if let Some(token) = token
        && let Some(tokens) = internal.entry("tokens").or_insert_with(|| json!([])).as_array_mut()
        && !tokens.contains(&token)
    {
        tokens.push(token);
    }
    if let Some(principal) = set("PORTCULLIS_INTERNAL_PRINCIPAL") {
        internal.insert("principal".to_owned(), json!(principal));
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_DOCUMENT_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_DOCUMENT_BYTES {
        return Err(format!("larger than {MAX_DOCUMENT_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
