//! The other providers of an identity document: load balancer, keys, internal token, strangers, delegations.
//!
//! Responsible for what each must say before anybody is believed because of it. Must never read more secrets than the
//! document names, and quotes none.

use std::collections::HashSet;

use portcullis_config::{UserType, weakness};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use crate::identity::alb::AlbSettings;
use crate::identity::api_key::{self, ApiKey, ApiKeys};
use crate::identity::document::checks::Checks;
use crate::identity::document::written::{AlbEntry, AnonymousEntry, ApiKeyEntry, DelegationEntry, InternalEntry};
use crate::identity::document::{Anonymous, Delegation, DelegationKey, secret};
use crate::identity::egress::Egress;
use crate::identity::internal::InternalToken;

pub(super) fn alb(checks: &mut Checks<'_>, entry: &AlbEntry, egress: &Egress) -> AlbSettings {
    let signer_is_one = entry.signer.starts_with("arn:aws") && entry.signer.contains(":loadbalancer/");
    if !signer_is_one {
        checks.fault("alb.signer", "must be the ARN of a load balancer: arn:aws:elasticloadbalancing:…:loadbalancer/…");
    }
    let region_is_one = !entry.region.is_empty()
        && entry.region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !region_is_one {
        checks.fault("alb.region", "must be the name of a region, such as eu-central-1");
    } else if signer_is_one && entry.signer.split(':').nth(3) != Some(entry.region.as_str()) {
        checks.fault("alb.region", "is not the signer's");
    }
    if entry.subnets.is_empty() {
        checks.fault("alb.subnets", "must name at least one: from anywhere else the header could be anybody's");
    }
    if let Some(url) = &entry.key_url {
        let url = egress.check_url(url);
        let loopback =
            url.as_ref().is_ok_and(|url| matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost")));
        if !loopback {
            checks.fault("alb.key_url", url.err().unwrap_or("must be on a loopback address: it is for tests"));
        }
    }
    checks.distinct("alb.client_ids", &entry.client_ids);
    checks.distinct("alb.groups_claim", &entry.groups_claim);
    checks.principal_prefix("alb.principal_prefix", &entry.principal_prefix);
    let aws_url = || {
        if entry.region.starts_with("us-gov-") {
            format!("https://s3-{0}.amazonaws.com/aws-elb-public-keys-prod-{0}", entry.region)
        } else {
            format!("https://public-keys.auth.elb.{}.amazonaws.com", entry.region)
        }
    };
    AlbSettings {
        signer: entry.signer.clone(),
        key_url: entry.key_url.clone().map_or_else(aws_url, |url| url.trim_end_matches('/').to_owned()),
        subnets: checks.networks("alb.subnets", &entry.subnets),
        issuer: entry.issuer.clone(),
        client_ids: entry.client_ids.clone(),
        groups_claim: entry.groups_claim.clone(),
        user_types: checks.user_types("alb", &entry.user_types, entry.baseline.as_deref()),
        principal_prefix: entry.principal_prefix.clone(),
        scope: checks.scope("alb", entry.scope.as_ref()),
    }
}

pub(super) fn api_keys(checks: &mut Checks<'_>, entries: &[ApiKeyEntry]) -> ApiKeys {
    let mut ids = HashSet::new();
    let mut keys = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("api_keys[{index}]");
        if !api_key::is_id(&entry.id) {
            checks.fault(&format!("{path}.id"), "must be eight letters and digits");
        } else if !ids.insert(&entry.id) {
            checks.fault(&format!("{path}.id"), "is given twice");
        }
        let digest = digest_of(&entry.sha256);
        if digest.is_none() {
            checks.fault(&format!("{path}.sha256"), "must be the SHA-256 of the whole key, 64 hexadecimal digits");
        }
        checks.principal(&format!("{path}.owner"), &entry.owner);
        checks.distinct(&format!("{path}.scopes"), &entry.scopes);
        let user_type = checks.user_type(&format!("{path}.user_type"), &entry.user_type);
        let scope = checks.scope(&path, entry.scope.as_ref());
        keys.extend(digest.map(|digest| ApiKey {
            id: entry.id.clone(),
            digest,
            owner: entry.owner.clone(),
            user_type,
            scopes: entry.scopes.clone(),
            scope,
            disabled: entry.disabled,
        }));
    }
    ApiKeys::new(keys)
}

fn digest_of(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if hex.len() != 2 * digest.len() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

pub(super) fn internal(checks: &mut Checks<'_>, entry: &InternalEntry) -> Option<InternalToken> {
    let mut tokens: Vec<SecretString> = Vec::new();
    for (index, name) in entry.tokens.iter().enumerate() {
        tokens.extend(random_secret(checks, &format!("internal.tokens[{index}]"), name));
    }
    if entry.tokens.is_empty() {
        checks.fault("internal.tokens", "must name a secret; leave the section out if there is none");
    }
    checks.distinct("internal.scopes", &entry.scopes);
    let user_type = checks.user_type("internal.user_type", entry.user_type.as_deref().unwrap_or(UserType::BUILT_IN[4]));
    let scope = checks.scope("internal", entry.scope.as_ref());
    let Some(principal) = &entry.principal else {
        let message = "missing: the token must be somebody (PORTCULLIS_INTERNAL_PRINCIPAL)";
        checks.fault("internal.principal", message);
        return None;
    };
    checks.principal("internal.principal", principal);
    Some(InternalToken::new(&tokens, principal.clone(), user_type, entry.scopes.clone(), scope))
}

pub(super) fn anonymous(checks: &mut Checks<'_>, entry: &AnonymousEntry) -> Anonymous {
    let user_type = UserType::new(&*entry.user_type).unwrap_or_else(|error| {
        checks.fault("anonymous.user_type", error.to_string());
        UserType::anonymous()
    });
    if matches!(user_type.as_str(), "paid" | "privileged") {
        checks.fault("anonymous.user_type", "nobody is that for having shown nothing");
    }
    let external_networks = checks.networks("anonymous.external_networks", &entry.external_networks);
    let secret = entry.secret.as_deref().and_then(|name| random_secret(checks, "anonymous.secret", name));
    Anonymous { enabled: entry.enabled, user_type, external_networks, secret }
}

/// The secret of this name, unless somebody could guess it.
fn random_secret(checks: &mut Checks<'_>, place: &str, name: &str) -> Option<SecretString> {
    let secret = secret::read(name, checks.env).map_err(|reason| checks.fault(place, reason)).ok()?;
    match weakness(secret.expose_secret()) {
        Some(reason) => {
            checks.fault(place, reason);
            None
        }
        None => Some(secret),
    }
}

pub(super) fn delegation(checks: &mut Checks<'_>, entry: &DelegationEntry) -> Option<Delegation> {
    if entry.keys.is_empty() {
        for (key, given) in [("resource", entry.resource.is_some()), ("active_kid", entry.active_kid.is_some())] {
            if given {
                checks.fault(&format!("delegation.{key}"), "means nothing without delegation.keys");
            }
        }
        return None;
    }
    let kids: Vec<String> = entry.keys.iter().map(|key| key.kid.clone()).collect();
    checks.distinct("delegation.keys", &kids);
    let mut keys = Vec::new();
    for (index, key) in entry.keys.iter().enumerate() {
        match secret::read(&key.key, checks.env) {
            Ok(secret) => keys.push(DelegationKey { kid: key.kid.clone(), key: secret }),
            Err(reason) => checks.fault(&format!("delegation.keys[{index}].key"), reason),
        }
    }
    let active_kid = entry.active_kid.clone().filter(|kid| kids.contains(kid));
    if active_kid.is_none() {
        checks.fault("delegation.active_kid", "must be the kid of one of delegation.keys");
    }
    let resource = entry.resource.clone().filter(|resource| is_resource(resource));
    if resource.is_none() {
        checks.fault("delegation.resource", "must be this gateway's public URL, https (http on loopback only)");
    }
    let max_ttl_seconds = entry.max_ttl_seconds;
    Some(Delegation { resource: resource?, active_kid: active_kid?, keys, max_ttl_seconds })
}

/// RFC 8707 §2: an absolute URL without a fragment. It is compared letter for letter, so it has no slash at its end.
fn is_resource(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let loopback = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
    (url.scheme() == "https" || (url.scheme() == "http" && loopback))
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && !text.ends_with('/')
}
