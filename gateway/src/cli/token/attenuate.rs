//! `token attenuate`: the holder of a chain's last token passes some of it on.
//!
//! Must never ask the deployment: whoever has the key may narrow, and verifiers see that nothing was widened.

use std::path::PathBuf;

use clap::Args;
use portcullis_delegation::{Narrowing, attenuate as narrowed};

use super::given::{self, Faults, TermArgs};
use crate::cli::print;
use crate::delegation_terms::DelegationTerms;

#[derive(Args, Debug)]
pub(crate) struct AttenuateArgs {
    /// The chain; `-` reads stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    chain: PathBuf,
    /// Secret key of the holder of its last token; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    terms: TermArgs,
}

/// Prints the chain with one more token. What is not said stays as in the token before.
pub(super) fn attenuate(args: &AttenuateArgs) -> Result<(), Vec<String>> {
    let mut faults = Faults::default();
    faults.stdin_once(&[&args.chain, &args.key]);
    let given = args.terms.read(&mut faults);
    let key = faults.note("--key", given::secret_key(&args.key));
    let chain = faults.note("--chain", given::chain(&args.chain));
    let Some((key, chain)) = key.zip(chain) else { return Err(faults.into_lines()) };
    let narrowing = Narrowing {
        client_id: args.terms.agent.clone(),
        audience: given.audience,
        scopes: given.scopes,
        constraints: given.constraints,
        lifetime_seconds: args.terms.ttl_seconds,
        max_depth: args.terms.max_depth,
        holder: given.holder,
        reason: args.terms.reason.clone(),
    };
    let narrower = narrowed(&chain, &key, narrowing, DelegationTerms::now_seconds());
    let narrower = faults.note("the token", narrower);
    faults.sound_with(narrower).map(|chain| print(&format!("{}\n", chain.presented())))
}
