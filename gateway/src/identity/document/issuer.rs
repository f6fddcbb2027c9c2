//! The issuers of an identity document.
//!
//! Responsible for what an issuer must say before anybody is believed because of it: for whom its tokens are, by which
//! algorithms, and how its users differ from everybody else's. Must never invent an audience.

use std::collections::HashSet;

use jsonwebtoken::Algorithm;

use crate::identity::document::checks::Checks;
use crate::identity::document::written::{AlgorithmName, IssuerEntry};
use crate::identity::egress::Egress;
use crate::identity::jwks::discovery_url;
use crate::identity::jwt::{Issuer, Place, TokenUse};

/// The issuers, and the faults of those that cannot be believed.
pub(super) fn issuers(checks: &mut Checks<'_>, entries: &[IssuerEntry], egress: &Egress) -> Vec<Issuer> {
    let (mut names, mut prefixes) = (HashSet::new(), HashSet::new());
    let mut issuers = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("issuers[{index}]");
        if !names.insert(&entry.issuer) {
            checks.fault(&format!("{path}.issuer"), "is given twice");
        }
        if !prefixes.insert(&entry.principal_prefix) {
            let message = "is another issuer's too: their users could be taken for each other";
            checks.fault(&format!("{path}.principal_prefix"), message);
        }
        issuers.push(issuer(checks, &path, entry, egress));
    }
    issuers
}

fn issuer(checks: &mut Checks<'_>, path: &str, entry: &IssuerEntry, egress: &Egress) -> Issuer {
    let at = |key: &str| format!("{path}.{key}");
    match &entry.jwks_url {
        Some(url) => {
            if let Err(reason) = egress.check_url(url) {
                checks.fault(&at("jwks_url"), reason);
            }
        }
        None => {
            if let Err(reason) = egress.check_url(&discovery_url(&entry.issuer)) {
                checks.fault(&at("issuer"), format!("{reason}; discovery needs it, or jwks_url"));
            }
        }
    }
    if entry.issuer.trim().is_empty() {
        checks.fault(&at("issuer"), "must not be empty");
    }
    judge_audience(checks, path, entry);
    if entry.algorithms.is_empty() {
        checks.fault(&at("algorithms"), "must name at least one");
    }
    checks.distinct(&at("types"), &entry.types);
    checks.distinct(&at("groups_claim"), &entry.groups_claim);
    checks.principal_prefix(&at("principal_prefix"), &entry.principal_prefix);
    if !entry.user_types.is_empty() && entry.groups_claim.is_empty() {
        checks.fault(&at("groups_claim"), "missing: user_types need to know where the groups are");
    }
    Issuer {
        issuer: entry.issuer.clone(),
        jwks_url: entry.jwks_url.clone(),
        audiences: entry.audiences.clone(),
        client_ids: entry.client_ids.clone(),
        token_use: entry.token_use.clone(),
        algorithms: entry.algorithms.iter().copied().map(algorithm).collect(),
        types: entry.types.clone(),
        groups_claim: entry.groups_claim.clone(),
        user_types: checks.user_types(path, &entry.user_types, entry.baseline.as_deref()),
        scopes_claim: entry.scopes_claim.clone(),
        principal_prefix: entry.principal_prefix.clone(),
        place: place(checks, path, entry),
        max_age_seconds: entry.max_age_seconds,
    }
}

/// A token without an audience is for everybody who believes its issuer, and so for whoever steals it from any of them.
fn judge_audience(checks: &mut Checks<'_>, path: &str, entry: &IssuerEntry) {
    checks.distinct(&format!("{path}.audiences"), &entry.audiences);
    checks.distinct(&format!("{path}.client_ids"), &entry.client_ids);
    let believes_all = entry.token_use.is_empty();
    if entry.audiences.is_empty() && (believes_all || entry.token_use.contains(&TokenUse::Id)) {
        checks.fault(&format!("{path}.audiences"), "must name at least one: tokens for others would be believed");
    }
    if entry.client_ids.is_empty() && entry.token_use.contains(&TokenUse::Access) {
        checks.fault(&format!("{path}.client_ids"), "must name at least one: Cognito's access tokens have no audience");
    }
}

fn place(checks: &mut Checks<'_>, path: &str, entry: &IssuerEntry) -> Place {
    match (&entry.tenant_claim, &entry.project_claim) {
        (Some(tenant), Some(project)) => {
            if entry.scope.is_some() {
                checks.fault(&format!("{path}.scope"), "either this or the claims say where users are, not both");
            }
            return Place::Claims { tenant: tenant.clone(), project: project.clone() };
        }
        (None, None) => {}
        (Some(_), None) => checks.fault(&format!("{path}.project_claim"), "missing beside tenant_claim"),
        (None, Some(_)) => checks.fault(&format!("{path}.tenant_claim"), "missing beside project_claim"),
    }
    Place::Fixed(checks.scope(path, entry.scope.as_ref()))
}

fn algorithm(name: AlgorithmName) -> Algorithm {
    match name {
        AlgorithmName::RS256 => Algorithm::RS256,
        AlgorithmName::RS384 => Algorithm::RS384,
        AlgorithmName::RS512 => Algorithm::RS512,
        AlgorithmName::PS256 => Algorithm::PS256,
        AlgorithmName::PS384 => Algorithm::PS384,
        AlgorithmName::PS512 => Algorithm::PS512,
        AlgorithmName::ES256 => Algorithm::ES256,
        AlgorithmName::ES384 => Algorithm::ES384,
        AlgorithmName::EdDSA => Algorithm::EdDSA,
    }
}
