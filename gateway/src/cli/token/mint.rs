//! `token mint`: the root of a chain, signed by an operator with the deployment's key.
//!
//! Responsible for a root that the deployment's gateways take. Must never be what a caller's request is answered with:
//! here nobody checks what the principal may do itself, nothing is counted, and no audit event is written before the
//! chain is used.

use std::path::PathBuf;

use clap::Args;
use portcullis_config::{Scope, UserType};
use portcullis_delegation::Grant;

use super::given::{Faults, TermArgs};
use crate::caller::session_of;
use crate::cli::policy_source::variable;
use crate::cli::print;
use crate::identity_terms::IdentityTerms;

#[derive(Args, Debug)]
pub(crate) struct MintArgs {
    /// Identity document of the deployment, with the keys it signs with
    #[arg(long, value_name = "FILE", env = "PORTCULLIS_IDENTITY_PATH")]
    identity: PathBuf,
    /// On whose behalf the agent acts: who is charged
    #[arg(long, value_name = "NAME")]
    principal: String,
    /// Tenant of the principal
    #[arg(long, value_name = "NAME", env = "TENANT_ID")]
    tenant: String,
    /// Project of the principal
    #[arg(long, value_name = "NAME", env = "PROJECT_ID")]
    project: String,
    /// Highest user type that the chain is served as
    #[arg(long, value_name = "TYPE", default_value = "registered")]
    user_type: String,
    #[command(flatten)]
    terms: TermArgs,
}

/// Prints a new chain of one token.
pub(super) fn mint(args: &MintArgs) -> Result<(), Vec<String>> {
    let mut faults = Faults::default();
    let given = args.terms.read(&mut faults);
    faults.name("--principal", &args.principal);
    let scope = faults.note("--tenant, --project", Scope::new(args.tenant.as_str(), args.project.as_str()));
    let user_type = faults.note("--user-type", UserType::new(args.user_type.as_str()));
    if args.terms.says_no_scope() {
        faults.note::<(), _>("--scope", Err("at least one is required"));
    }
    let deployment = match IdentityTerms::load(Some(&args.identity), &variable) {
        Ok(identity) => identity.delegation.or_else(|| faults.note("--identity", Err("names no delegation.keys"))),
        Err(lines) => {
            for line in lines {
                faults.note::<(), _>("--identity", Err(line));
            }
            None
        }
    };
    let all = scope.zip(user_type).zip(given.scopes).zip(deployment);
    let Some((((scope, user_type), scopes), deployment)) = all else { return Err(faults.into_lines()) };
    let grant = Grant {
        issuer: deployment.issuer().to_owned(),
        principal: args.principal.clone(),
        tenant: scope.to_string(),
        session: session_of(&args.principal),
        user_type: Some(user_type.to_string()),
        client_id: args.terms.agent.clone(),
        audience: given.audience.unwrap_or_else(|| vec![deployment.resource_of(&scope)]),
        scopes,
        constraints: given.constraints,
        lifetime_seconds: args.terms.ttl_seconds,
        max_depth: args.terms.max_depth,
        holder: given.holder,
        reason: args.terms.reason.clone(),
    };
    let chain = faults.note("the token", deployment.mint(grant));
    faults.sound_with(chain).map(|chain| print(&format!("{}\n", chain.presented())))
}
