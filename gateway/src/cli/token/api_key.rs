//! `token api-key`: a new API key and its entry in the identity document.
//!
//! Responsible for 256 random bits in the form that gateways know. Must never write the key and its entry to the same
//! place: the entry is kept with configuration, the key is not.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use rand::TryRng;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::SysRng;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::made;
use crate::digest;
use crate::identity::{api_key, document};

#[derive(Args, Debug)]
pub(crate) struct ApiKeyArgs {
    /// Principal that it acts for
    #[arg(long, value_name = "NAME")]
    owner: String,
    /// User type that it is served as
    #[arg(long, value_name = "TYPE", default_value = "registered")]
    user_type: String,
    /// What it may be used for, such as `tasks:submit:*`, or `*` for all; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    /// Where it counts [default: the default scope]
    #[arg(long, value_name = "NAME", requires = "project")]
    tenant: Option<String>,
    /// Where it counts [default: the default scope]
    #[arg(long, value_name = "NAME", requires = "tenant")]
    project: Option<String>,
    /// Eight letters and digits that name it in audit events [default: random]
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// New file for the key, readable by its owner only; its entry is printed on stdout [default: the key on stdout,
    /// its entry on stderr]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Makes a key and says what the identity document needs to know of it.
pub(super) fn api_key(args: &ApiKeyArgs) -> Result<(), Vec<String>> {
    let id = args.id.clone().unwrap_or_else(|| Alphanumeric.sample_string(&mut rand::rng(), api_key::ID_LENGTH));
    let mut bytes = [0; 32];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| vec!["no randomness from the operating system".to_owned()])?;
    let key = SecretString::from(format!("{}{id}_{}", api_key::PREFIX, URL_SAFE_NO_PAD.encode(bytes)));
    let document = document(args, &id, &key);
    document::parse(&document.to_string(), &|_| None)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let entry = serde_yaml_ng::to_string(&document).map_err(|error| vec![error.to_string()])?;
    match &args.out {
        Some(path) => {
            let written = made::write_file(path, key.expose_secret());
            written.map_err(|error| vec![format!("--out: {}: {error}", path.display())])?;
            made::kept(&entry);
        }
        None => made::shown(key.expose_secret(), &entry),
    }
    Ok(())
}

fn document(args: &ApiKeyArgs, id: &str, key: &SecretString) -> Value {
    let mut entry = json!({
        "id": id,
        "sha256": digest::body_hex(key.expose_secret().as_bytes()),
        "owner": args.owner,
        "user_type": args.user_type,
        "scopes": args.scopes,
    });
    if let (Some(tenant), Some(project)) = (&args.tenant, &args.project) {
        entry["scope"] = json!({"tenant": tenant, "project": project});
    }
    json!({ "api_keys": [entry] })
}
