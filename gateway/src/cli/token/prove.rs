//! `token prove`: the proof of possession for one request (RFC 9449).
//!
//! Must never make a proof that no verifier would take: the key is held against the chain first.

use std::path::PathBuf;

use clap::Args;
use portcullis_delegation::{TargetUri, prove as proved};

use super::given::{self, Faults};
use crate::cli::print;
use crate::delegation_terms::DelegationTerms;

#[derive(Args, Debug)]
pub(crate) struct ProveArgs {
    /// The chain; `-` reads stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    chain: PathBuf,
    /// Secret key of the holder of its last token; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Method of the request, such as `POST`
    method: String,
    /// Address of the request, by the deployment's public name
    url: String,
}

/// Prints the value of the `DPoP` header. It holds for one use within half a minute.
pub(super) fn prove(args: &ProveArgs) -> Result<(), Vec<String>> {
    let mut faults = Faults::default();
    faults.stdin_once(&[&args.chain, &args.key]);
    let target = faults.note("URL", args.url.parse::<TargetUri>());
    let method = args.method.bytes().all(|byte| byte.is_ascii_uppercase()).then_some(args.method.as_str());
    let method = faults.note("METHOD", method.filter(|method| !method.is_empty()).ok_or("must be in capitals"));
    let key = faults.note("--key", given::secret_key(&args.key));
    let chain = faults.note("--chain", given::chain(&args.chain));
    let all = key.zip(chain).zip(target).zip(method);
    let Some((((key, chain), target), method)) = all else { return Err(faults.into_lines()) };
    let bound_to = chain.leaf().claims().cnf.as_ref().map(|cnf| &cnf.jwk);
    let bound = match bound_to {
        None => Err("the last token is bound to no key: it is used without a proof"),
        Some(jwk) if *jwk != key.public_key().to_jwk() => Err("is not the key that the last token is bound to"),
        Some(_) => Ok(()),
    };
    faults.note("--key", bound);
    let proof = faults.note("the proof", proved(&key, &chain, method, &target, DelegationTerms::now_seconds()));
    faults.sound_with(proof).map(|proof| print(&format!("{proof}\n")))
}
