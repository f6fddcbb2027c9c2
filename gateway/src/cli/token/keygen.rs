//! `token keygen`: a new Ed25519 key.
//!
//! Must never print the secret half when it went into a file.

use std::path::PathBuf;

use clap::Args;
use portcullis_delegation::{PublicKey, SecretKey};
use serde_json::json;

use super::made;

#[derive(Args, Debug)]
pub(crate) struct KeygenArgs {
    /// New file for the key, readable by its owner only: a JWK if its name ends in `.jwk` or `.json`, else PEM
    /// [default: PEM on stdout, what may be known of it on stderr]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of the key in the identity document [default: its thumbprint]
    #[arg(long, value_name = "NAME")]
    kid: Option<String>,
}

/// Makes a key, and says its public half, name and thumbprint.
pub(super) fn keygen(args: &KeygenArgs) -> Result<(), Vec<String>> {
    let fault = |error: &dyn std::fmt::Display| vec![error.to_string()];
    let key = SecretKey::generate().map_err(|error| fault(&error))?;
    let public = public(&key.public_key(), args.kid.as_deref());
    match &args.out {
        Some(path) => {
            key.write_file(path).map_err(|error| vec![format!("--out: {}: {error}", path.display())])?;
            made::kept(&public);
        }
        None => made::shown(&key.to_pem().map_err(|error| fault(&error))?, &public),
    }
    Ok(())
}

fn public(key: &PublicKey, kid: Option<&str>) -> String {
    let thumbprint = key.thumbprint();
    json!({"public": key.to_jwk(), "kid": kid.unwrap_or(&thumbprint), "thumbprint": thumbprint}).to_string()
}
