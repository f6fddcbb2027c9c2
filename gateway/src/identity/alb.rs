//! Users that an AWS load balancer has authenticated: `x-amzn-oidc-data`.
//!
//! Responsible for who signed it: the header says for which load balancer it is, and anybody may own one, so `signer`
//! must be the configured one and the peer one of its subnets. From any other peer the header is as if it were not
//! there. Must never take the region or the key's URL from the header, and never believe `x-amzn-oidc-identity` or
//! `x-amzn-oidc-accesstoken`, which nobody signed.
//!
//! Read by hand: AWS pads its base64url, over which it signs, and no library reads that.

mod keys;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ipnet::IpNet;
use jsonwebtoken::Algorithm;
use portcullis_config::{Scope, from_json};
use serde_json::Value;

use crate::background::Background;
use crate::identity::fetch::Fetcher;
use crate::identity::fetch_record::{FetchRecord, FetchWitness};
use crate::identity::ip_allow::contains;
use crate::identity::jwt::{Place, is_subject, words_at};
use crate::identity::providers::Provider;
use crate::identity::user_type::UserTypes;
use crate::identity::{LEEWAY_SECONDS, Proven, Unproven, epoch_seconds};

use keys::AlbKeys;

/// The header. From a peer outside the subnets it must not go on to the application either.
pub const HEADER: &str = "x-amzn-oidc-data";

/// Longest header, bytes.
const MAX_HEADER: usize = 16 * 1024;

/// AWS pads; what decides is the signature over the text as it stands.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The load balancer and what its users are.
#[derive(Clone, Debug)]
pub struct AlbSettings {
    /// Its ARN.
    pub signer: String,
    /// Where its keys are; the key's id follows the last slash.
    pub key_url: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// `iss` of its users; `None`: any.
    pub issuer: Option<String>,
    /// `client` of its users; empty: any.
    pub client_ids: Vec<String>,
    /// Way to the claim with the groups.
    pub groups_claim: Vec<String>,
    /// What the groups are worth.
    pub user_types: UserTypes,
    /// Put in front of `sub`.
    pub principal_prefix: String,
    /// Where its users are; `None`: in the default scope.
    pub scope: Option<Scope>,
}

/// Verifies what the load balancer says.
#[derive(Debug)]
pub struct AlbVerifier {
    settings: AlbSettings,
    keys: Arc<AlbKeys>,
}

impl AlbVerifier {
    /// Of this load balancer. Its keys are fetched when they are first needed, by tasks of `background`; `witness` is
    /// told where that is forbidden.
    pub(crate) fn new(
        settings: AlbSettings,
        fetcher: Fetcher,
        background: &Background,
        witness: &Arc<dyn FetchWitness>,
    ) -> Self {
        let record = FetchRecord::new(settings.signer.clone(), witness.clone());
        let keys = AlbKeys::new(record, settings.key_url.clone(), fetcher, background.clone());
        Self { settings, keys }
    }

    /// The load balancer, as this gateway has found it.
    pub(crate) fn provider(&self) -> Provider {
        let (keys, outcomes) = self.keys.status();
        let place = Place::Fixed(self.settings.scope.clone());
        // Each is believed for a day, and never fetched again before.
        Provider { issuer: self.settings.signer.clone(), kind: "alb", place, keys, overdue: false, outcomes }
    }

    /// Whether this peer is the load balancer; the header of any other means nothing and goes nowhere.
    #[must_use]
    pub fn believes(&self, peer: IpAddr) -> bool {
        contains(&self.settings.subnets, peer)
    }

    /// What the header proves; `None` from a peer that is not the load balancer.
    ///
    /// # Errors
    ///
    /// The cause, for the audit. `idp_unavailable` when the key is needed and cannot be had.
    pub async fn verify(&self, peer: IpAddr, header: &[u8], now: SystemTime) -> Result<Option<Proven>, Unproven> {
        if !self.believes(peer) {
            return Ok(None);
        }
        let assertion = Assertion::parse(header)?;
        let kid = self.judge_head(&assertion.head, epoch_seconds(now))?;
        let key = self.keys.key(kid).await?;
        if !key.verifies(Algorithm::ES256, assertion.signed, assertion.signature) {
            return Err(Unproven::because("bad_signature"));
        }
        self.judge_claims(&assertion, epoch_seconds(now)).map(Some)
    }

    /// The id of the key, if the header is from this load balancer, for one of its users, now.
    fn judge_head<'a>(&self, head: &'a Value, now: u64) -> Result<&'a str, Unproven> {
        let settings = &self.settings;
        if head["alg"] != "ES256" {
            return Err(Unproven::because("wrong_algorithm"));
        }
        if ["crit", "b64", "jku", "jwk", "x5u", "x5c"].iter().any(|member| head.get(member).is_some()) {
            return Err(Unproven::because("refused_header"));
        }
        if head["signer"] != settings.signer.as_str() {
            return Err(Unproven::because("wrong_signer"));
        }
        if settings.issuer.as_ref().is_some_and(|issuer| head["iss"] != issuer.as_str()) {
            return Err(Unproven::because("unknown_issuer"));
        }
        let client_fits = settings.client_ids.iter().any(|client| head["client"] == client.as_str());
        if !settings.client_ids.is_empty() && !client_fits {
            return Err(Unproven::because("wrong_client"));
        }
        judge_expiry(&head["exp"], now)?;
        head["kid"].as_str().filter(|kid| is_uuid(kid)).ok_or(Unproven::because("no_kid"))
    }

    fn judge_claims(&self, assertion: &Assertion<'_>, now: u64) -> Result<Proven, Unproven> {
        let (settings, claims) = (&self.settings, &assertion.claims);
        let mut expires_at = judge_expiry(&assertion.head["exp"], now)?;
        if claims.get("exp").is_some() {
            expires_at = expires_at.min(judge_expiry(&claims["exp"], now)?);
        }
        if settings.issuer.as_ref().is_some_and(|issuer| claims.get("iss").is_some_and(|iss| iss != issuer.as_str())) {
            return Err(Unproven::because("unknown_issuer"));
        }
        let subject = claims["sub"].as_str().filter(|subject| is_subject(subject));
        let subject = subject.ok_or(Unproven::because("no_subject"))?;
        let groups = words_at(claims, &settings.groups_claim).ok_or(Unproven::because("malformed_groups"))?;
        Ok(Proven {
            principal: format!("{}{subject}", settings.principal_prefix),
            user_type: settings.user_types.of(groups),
            scopes: None,
            scope: settings.scope.clone(),
            issued_at_ms: 0,
            expires_at_ms: Some(expires_at * 1000),
            class: "alb",
            issuer: settings.signer.clone(),
        })
    }
}

/// The header in its parts, before anything in it is believed.
struct Assertion<'a> {
    head: Value,
    claims: Value,
    /// What the signature is of: the text, its padding included.
    signed: &'a [u8],
    /// Base64url, without padding.
    signature: &'a str,
}

impl<'a> Assertion<'a> {
    fn parse(header: &'a [u8]) -> Result<Self, Unproven> {
        let malformed = Unproven::because("malformed_token");
        let text = std::str::from_utf8(header).ok().filter(|text| text.len() <= MAX_HEADER && text.is_ascii());
        let (signed, signature) = text.and_then(|text| text.rsplit_once('.')).ok_or(malformed)?;
        let (head, claims) = signed.split_once('.').ok_or(malformed)?;
        let (head, claims) = (object(head).ok_or(malformed)?, object(claims).ok_or(malformed)?);
        Ok(Self { head, claims, signed: signed.as_bytes(), signature: signature.trim_end_matches('=') })
    }
}

fn object(part: &str) -> Option<Value> {
    let text = String::from_utf8(BASE64.decode(part).ok()?).ok()?;
    from_json(&text).ok().filter(Value::is_object)
}

fn judge_expiry(expiry: &Value, now: u64) -> Result<u64, Unproven> {
    /// The year 9999.
    const LAST: u64 = 253_402_300_799;
    let expires_at = expiry.as_u64().filter(|seconds| *seconds <= LAST).ok_or(Unproven::because("no_expiry"))?;
    if now >= expires_at + LEEWAY_SECONDS { Err(Unproven::because("expired")) } else { Ok(expires_at) }
}

/// RFC 9562: nothing else may come into the URL of a key.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(place, byte)| match place {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests;
