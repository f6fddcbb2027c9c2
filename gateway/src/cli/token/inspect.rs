//! `token inspect`: what a chain says, and whether it verifies.
//!
//! Responsible for telling what a token claims from what a signature proves. Must never print a token, which is a
//! credential, nor call a chain genuine that no key was given for.

use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_delegation::{Chain, Expected, Jwk, Lifetimes, PublicKey, Refused, RootKey, Token, Verifier};
use serde_json::{Value, json};

use super::given::{self, Faults};
use crate::cli::document::read;
use crate::cli::{Exit, print};
use crate::delegation_terms::DelegationTerms;
use crate::timestamp::rfc3339;

#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The chain; `-` reads stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    chain: PathBuf,
    /// Key that its root must be signed with: a file, or the public key itself as a JWK
    #[arg(long, value_name = "FILE|JWK", conflicts_with = "jwks")]
    root_key: Option<String>,
    /// Keys of the deployment, one of which its root must be signed with: what
    /// `/.well-known/oauth-protected-resource/jwks.json` answers
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// Deployment that these keys are of [default: the one that the root names]
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Resource that the chain must be for [default: any]
    #[arg(long, value_name = "URL")]
    audience: Option<String>,
}

/// Prints a chain; fails if it was to be verified and does not.
pub(super) fn inspect(args: &InspectArgs) -> Result<Exit, Vec<String>> {
    let mut faults = Faults::default();
    faults.stdin_once(&args.jwks.iter().chain([&args.chain]).collect::<Vec<_>>());
    let chain = faults.note("--chain", given::chain(&args.chain));
    let roots = match (&args.root_key, &args.jwks) {
        (Some(text), _) => faults.note("--root-key", given::public_key(text).map(|key| vec![(None, key)])),
        (None, Some(file)) => faults.note("--jwks", key_set(file)),
        (None, None) => None,
    };
    let chain = faults.sound_with(chain)?;
    let verdict = roots.map(|roots| verdict(args, &chain, &roots));
    print(&format!("{:#}\n", shown(&chain, verdict.as_ref())));
    Ok(if matches!(verdict, Some(Err(_))) { Exit::Failure } else { Exit::Success })
}

/// A key, and its name if it has one.
type NamedKey = (Option<String>, PublicKey);

fn key_set(file: &Path) -> Result<Vec<NamedKey>, String> {
    let text = read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let set: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let member = |key: &Value, name: &str| key[name].as_str().map(str::to_owned);
    // Keys of other kinds may stand beside.
    let keys = set["keys"].as_array().into_iter().flatten().filter_map(|key| {
        let jwk = Jwk { kty: member(key, "kty")?, crv: member(key, "crv")?, x: member(key, "x")? };
        Some((member(key, "kid"), PublicKey::from_jwk(&jwk).ok()?))
    });
    let keys: Vec<NamedKey> = keys.collect();
    if keys.is_empty() { Err(format!("{}: has no Ed25519 key", file.display())) } else { Ok(keys) }
}

fn verdict(args: &InspectArgs, chain: &Chain, roots: &[NamedKey]) -> Result<(), Refused> {
    let issuer = args.issuer.as_ref().unwrap_or(&chain.root().claims().iss);
    let named = chain.root().key_id().unwrap_or_default();
    let root = |(kid, key): &NamedKey| RootKey {
        issuer: issuer.clone(),
        key_id: kid.clone().unwrap_or_else(|| named.to_owned()),
        key: *key,
    };
    let own = chain.leaf().claims().aud.first();
    let resource = args.audience.as_ref().or(own).map(String::as_str).unwrap_or_default();
    let verifier = Verifier::new(roots.iter().map(root).collect(), Lifetimes::CAPS);
    let expected = Expected { resource, tenant: None };
    verifier.verify(chain, &expected, DelegationTerms::now_seconds()).map(|_| ())
}

fn shown(chain: &Chain, verdict: Option<&Result<(), Refused>>) -> Value {
    let root = chain.root().claims();
    let mut shown = json!({
        "verified": verdict.map(Result::is_ok),
        "issuer": root.iss,
        "key_id": chain.root().key_id(),
        "principal": root.sub,
        "scope": root.tid,
        "session": root.sid,
        "user_type": root.ut,
        "hops": chain.tokens().iter().map(hop).collect::<Value>(),
    });
    if let Some(Err(refused)) = verdict {
        shown["fault"] = json!({"code": refused.code(), "hop": refused.hop, "message": refused.fault.to_string()});
    }
    shown
}

fn hop(token: &Token) -> Value {
    let claims = token.claims();
    let holder = claims.cnf.as_ref().and_then(|cnf| PublicKey::from_jwk(&cnf.jwk).ok());
    json!({
        "agent": claims.client_id,
        "id": token.hash(),
        "jti": claims.jti,
        "holder": holder.map(|key| key.thumbprint()),
        "audience": claims.aud,
        "scopes": token.scopes().iter().map(portcullis_delegation::Scope::as_str).collect::<Vec<_>>(),
        "constraints": claims.constraints.iter().map(|bound| (bound.key.clone(), json!(bound.max))).collect::<Value>(),
        "max_depth": claims.del_max_depth,
        "issued_at": rfc3339(claims.iat.saturating_mul(1000)),
        "expires_at": rfc3339(claims.exp.saturating_mul(1000)),
        "reason": claims.reason,
    })
}
