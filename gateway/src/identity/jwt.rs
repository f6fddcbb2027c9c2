//! JSON Web Tokens of the issuers in the document.
//!
//! Responsible for the order of the proof: form, issuer, key, signature, and only then the claims. Must never let a
//! token choose how it is verified: algorithms, keys and where they are fetched from are the document's. What has been
//! verified is remembered by its digest, with the key it was verified by, so that a key that is taken back takes its
//! tokens along.

mod compact;
mod claims;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use jsonwebtoken::Algorithm;
use portcullis_config::Scope;
use quick_cache::sync::Cache;
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::background::Background;
use crate::identity::fetch::Fetcher;
use crate::identity::fetch_record::{FetchRecord, FetchWitness};
use crate::identity::jwk::VerifyingKey;
use crate::identity::jwks::{IssuerKeys, Published};
use crate::identity::providers::Provider;
use crate::identity::user_type::UserTypes;
use crate::identity::{LEEWAY_SECONDS, Proven, Unproven, epoch_seconds};

use compact::Compact;

pub(in crate::identity) use claims::{is_subject, words_at};

/// Verified tokens that are remembered.
const MAX_VERDICTS: usize = 16_384;

/// An issuer and what its tokens must say.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Its `iss`, letter for letter.
    pub issuer: String,
    /// Where its keys are; `None`: found by discovery.
    pub jwks_url: Option<String>,
    /// One of these must be among `aud`.
    pub audiences: Vec<String>,
    /// One of these must be the `client_id` of an access token.
    pub client_ids: Vec<String>,
    /// Cognito's kinds that are believed; empty: the claim means nothing.
    pub token_use: Vec<TokenUse>,
    /// Algorithms that are believed.
    pub algorithms: Vec<Algorithm>,
    /// `typ` must be one of these; empty: it may be absent or `JWT`.
    pub types: Vec<String>,
    /// Way to the claim with the groups.
    pub groups_claim: Vec<String>,
    /// What the groups are worth.
    pub user_types: UserTypes,
    /// The claim with the scopes.
    pub scopes_claim: Option<String>,
    /// Put in front of `sub`.
    pub principal_prefix: String,
    /// Where its users are.
    pub place: Place,
    /// Longest time since `iat`, seconds.
    pub max_age_seconds: Option<u64>,
}

/// What Cognito calls the kinds of its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenUse {
    /// Says who the user is; `aud` is the client.
    Id,
    /// Says what the client may do; `client_id` is the client.
    Access,
}

/// Where an issuer's users are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Here; `None`: in the default scope.
    Fixed(Option<Scope>),
    /// Where these claims say.
    Claims {
        /// The claim with the tenant.
        tenant: String,
        /// The claim with the project.
        project: String,
    },
}

/// Verifies tokens of the issuers it knows.
#[derive(Debug)]
pub struct JwtVerifier {
    issuers: HashMap<String, Known>,
    verdicts: Cache<[u8; 32], Arc<Verdict>>,
}

#[derive(Debug)]
struct Known {
    issuer: Issuer,
    keys: Arc<IssuerKeys>,
}

/// What a token was found to prove.
#[derive(Debug)]
struct Verdict {
    proven: Proven,
    kid: String,
    key: Arc<VerifyingKey>,
}

impl JwtVerifier {
    /// Of these issuers. Keys are fetched when they are first needed; `witness` is told where that is forbidden.
    pub(crate) fn new(
        issuers: Vec<Issuer>,
        fetcher: &Fetcher,
        background: &Background,
        witness: &Arc<dyn FetchWitness>,
    ) -> Self {
        let known = |issuer: Issuer| {
            let published = Published {
                issuer: issuer.issuer.clone(),
                jwks_url: issuer.jwks_url.clone(),
                algorithms: issuer.algorithms.clone(),
                fetcher: fetcher.clone(),
            };
            let record = FetchRecord::new(issuer.issuer.clone(), witness.clone());
            let keys = IssuerKeys::new(record, Box::new(published), background.clone());
            (issuer.issuer.clone(), Known { issuer, keys })
        };
        Self { issuers: issuers.into_iter().map(known).collect(), verdicts: Cache::new(MAX_VERDICTS) }
    }

    /// The issuers, as this gateway has found them.
    pub(crate) fn providers(&self) -> impl Iterator<Item = Provider> {
        self.issuers.values().map(|Known { issuer, keys }| {
            let (keys, overdue, outcomes) = keys.status();
            Provider {
                issuer: issuer.issuer.clone(),
                kind: "jwt",
                place: issuer.place.clone(),
                keys,
                overdue,
                outcomes,
            }
        })
    }

    /// What this token proves.
    ///
    /// # Errors
    ///
    /// The cause, for the audit. `idp_unavailable` when the issuer's keys are needed and cannot be had.
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Proven, Unproven> {
        // Hashing is for tokens that could be some.
        if token.len() > compact::MAX_TOKEN {
            return Err(Unproven::because("malformed_token"));
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(verdict) = self.verdicts.get(&digest) {
            if self.still_holds(&verdict, now).await? {
                return Ok(verdict.proven.clone());
            }
            self.verdicts.remove(&digest);
        }
        let token = Compact::parse(token)?;
        let known = self.issuers.get(token.issuer()?).ok_or(Unproven::because("unknown_issuer"))?;
        let algorithm = token.judge_head(&known.issuer)?;
        let kid = token.kid()?;
        let key = known.keys.key(kid).await?;
        if !key.verifies(algorithm, token.signed, token.signature) {
            return Err(Unproven::because("bad_signature"));
        }
        let proven = claims::judge(&token.claims, &known.issuer, epoch_seconds(now))?;
        self.verdicts.insert(digest, Arc::new(Verdict { proven: proven.clone(), kid: kid.to_owned(), key }));
        Ok(proven)
    }

    /// Whether what was proved once is still so: by time, and by the issuer's keys as they are now.
    async fn still_holds(&self, verdict: &Verdict, now: SystemTime) -> Result<bool, Unproven> {
        let proven = &verdict.proven;
        let Some(known) = self.issuers.get(&proven.issuer) else { return Ok(false) };
        let now = epoch_seconds(now);
        let expired = proven.expires_at_ms.is_some_and(|end_ms| now >= end_ms / 1000 + LEEWAY_SECONDS);
        let aged = known.issuer.max_age_seconds.is_some_and(|most| now > proven.issued_at_ms / 1000 + most);
        if expired || aged {
            return Ok(false);
        }
        // A refresh that changed nothing makes another key of the same bytes: the token is then verified once more.
        Ok(Arc::ptr_eq(&known.keys.key(&verdict.kid).await?, &verdict.key))
    }
}

#[cfg(test)]
mod tests;
