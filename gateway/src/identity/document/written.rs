//! The identity document as its author writes it.
//!
//! Responsible for names, types and bounds of its keys; the JSON Schema is generated from here. Must never state a
//! default, and leaves what cannot be said by a type (addresses, URLs, names of secrets) to the check.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::identity::jwt::TokenUse;

/// Whom a gateway believes about who a caller is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// Issuers of JSON Web Tokens.
    pub(super) issuers: Vec<IssuerEntry>,
    /// The AWS load balancer that authenticates users in front of this gateway.
    pub(super) alb: Option<AlbEntry>,
    /// Keys of programs.
    pub(super) api_keys: Vec<ApiKeyEntry>,
    /// The internal service's token.
    pub(super) internal: Option<InternalEntry>,
    /// How the session cookie is set.
    pub(super) cookies: CookieTerms,
    /// Terms of opaque sessions.
    pub(super) sessions: SessionTerms,
    /// Which addresses are listened to.
    pub(super) ip_allow: IpAllowEntry,
    /// When an address that keeps failing is refused.
    pub(super) failed_attempts: FailedAttemptsEntry,
    /// Callers without a credential.
    pub(super) anonymous: AnonymousEntry,
    /// Delegations to agents.
    pub(super) delegation: DelegationEntry,
    /// Hosts, names or addresses without a port, that keys may be fetched from although they are not public.
    pub(super) egress_allow: Vec<String>,
}

/// One issuer of JSON Web Tokens.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerEntry {
    /// Its `iss`, letter for letter.
    pub(super) issuer: String,
    /// Where its keys are; left out, they are found by discovery: `ISSUER/.well-known/openid-configuration`.
    pub(super) jwks_url: Option<String>,
    /// One of these must be among a token's `aud`.
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    /// One of these must be the `client_id` of an access token.
    #[serde(default)]
    pub(super) client_ids: Vec<String>,
    /// Cognito's `token_use`: which kinds are believed. Left out: the claim means nothing.
    #[serde(default)]
    pub(super) token_use: Vec<TokenUse>,
    /// Signature algorithms that are believed, whatever a token says.
    pub(super) algorithms: Vec<AlgorithmName>,
    /// `typ` must be there and be one of these; left out: it may be absent or `JWT`.
    #[serde(default)]
    pub(super) types: Vec<String>,
    /// The way to the claim with a user's groups: its name, or the names from the outside in.
    #[serde(default)]
    pub(super) groups_claim: Vec<String>,
    /// Group, letter for letter, to user type. The highest wins.
    #[serde(default)]
    pub(super) user_types: BTreeMap<String, String>,
    /// User type of users in none of these groups.
    pub(super) baseline: Option<String>,
    /// The claim with the scopes, a list or words; left out: tokens give none.
    pub(super) scopes_claim: Option<String>,
    /// Put in front of `sub`, so that no two issuers' users are one: a name and a colon.
    pub(super) principal_prefix: String,
    /// Where its users are; not with the claims below. Left out: in the default scope.
    pub(super) scope: Option<ScopeEntry>,
    /// The claim with the tenant; only with `project_claim`.
    pub(super) tenant_claim: Option<String>,
    /// The claim with the project; only with `tenant_claim`.
    pub(super) project_claim: Option<String>,
    /// Longest time since `iat`, seconds. Left out: until `exp`.
    #[schemars(range(min = 60, max = 31_536_000))]
    pub(super) max_age_seconds: Option<u64>,
}

/// Signature algorithms by a public key (RFC 7518, RFC 8037). There is none by a shared secret, and no `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(super) enum AlgorithmName {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// The AWS load balancer whose `x-amzn-oidc-data` is believed.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AlbEntry {
    /// ARN of the load balancer: the only `signer` that is believed.
    pub(super) signer: String,
    /// Its region, where its keys are.
    pub(super) region: String,
    /// Its subnets: the header of any other peer is as if it were not there.
    pub(super) subnets: Vec<String>,
    /// `iss` of its users, letter for letter; left out: any that the load balancer was told to believe.
    pub(super) issuer: Option<String>,
    /// `client` of its users; left out: any.
    #[serde(default)]
    pub(super) client_ids: Vec<String>,
    /// In place of AWS's own, for tests: a loopback address only.
    pub(super) key_url: Option<String>,
    /// The way to the claim with a user's groups.
    #[serde(default)]
    pub(super) groups_claim: Vec<String>,
    /// Group, letter for letter, to user type. The highest wins.
    #[serde(default)]
    pub(super) user_types: BTreeMap<String, String>,
    /// User type of users in none of these groups.
    pub(super) baseline: Option<String>,
    /// Put in front of `sub`: a name and a colon.
    pub(super) principal_prefix: String,
    /// Where its users are. Left out: in the default scope.
    pub(super) scope: Option<ScopeEntry>,
}

/// A program's key: `gk_<id>_<43 characters>`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApiKeyEntry {
    /// Eight characters, as they stand in the key.
    pub(super) id: String,
    /// SHA-256 of the whole key, hex. No secret: nobody can guess 256 bits from it.
    pub(super) sha256: String,
    /// The principal it acts for.
    pub(super) owner: String,
    /// The tier it is served as.
    pub(super) user_type: String,
    /// What it may be used for.
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// Where it counts. Left out: in the default scope.
    pub(super) scope: Option<ScopeEntry>,
    /// Kept on record, proves nothing any more.
    #[serde(default)]
    pub(super) disabled: bool,
}

/// The internal service's token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InternalEntry {
    /// Names of the secret, `env:NAME` or `file:/path`; two while it is being changed.
    #[schemars(length(max = 2))]
    #[serde(default)]
    pub(super) tokens: Vec<String>,
    /// Who bears it.
    pub(super) principal: Option<String>,
    /// The tier it is served as. Left out: `privileged`.
    pub(super) user_type: Option<String>,
    /// What it may be used for.
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// Where it counts. Left out: in the default scope.
    pub(super) scope: Option<ScopeEntry>,
}

/// A tenant and a project.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ScopeEntry {
    /// The tenant.
    pub(super) tenant: String,
    /// The project.
    pub(super) project: String,
}

/// How the session cookie is set.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CookieTerms {
    /// `Secure` and `__Host-`; false only where the public listener is a loopback address.
    pub(super) secure: bool,
}

/// Terms of opaque sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionTerms {
    /// Life of a session and of its cookie, seconds.
    #[schemars(range(min = 60, max = 31_536_000))]
    pub max_age_seconds: u64,
    /// Sessions of one principal at a time; one more ends the oldest.
    #[schemars(range(min = 1, max = 1000))]
    pub max_per_principal: u64,
}

/// Which addresses are listened to: CIDRs, or `lan` for private, loopback and link-local ones. Empty: all.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IpAllowEntry {
    /// On the public listener.
    pub(super) public: Vec<String>,
    /// On the admin listener.
    pub(super) admin: Vec<String>,
}

/// When an address that keeps failing is refused.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FailedAttemptsEntry {
    /// Failed authentications in a minute.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) per_minute: u32,
}

/// Callers without a credential.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnonymousEntry {
    /// Whether they are served; else 401.
    pub(super) enabled: bool,
    /// What they are.
    pub(super) user_type: String,
    /// CIDRs whose callers are `external` instead.
    pub(super) external_networks: Vec<String>,
    /// What the digests of addresses are keyed with: the name of a secret of at least 32 bytes, the same at all
    /// gateways. Without one, whoever sees a digest can find its address by trying them all.
    #[serde(default)]
    pub(super) secret: Option<String>,
}

/// Delegations to agents.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DelegationEntry {
    /// Public base URL of this gateway: the `aud` of delegations for it.
    pub(super) resource: Option<String>,
    /// The key new roots are signed with.
    pub(super) active_kid: Option<String>,
    /// Root keys; empty: no delegations.
    pub(super) keys: Vec<DelegationKeyEntry>,
    /// Longest life of a hop.
    pub(super) max_ttl_seconds: MaxTtlSeconds,
}

/// Longest life of a hop, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxTtlSeconds {
    /// Of the first, which the gateway mints.
    #[schemars(range(min = 1, max = 3600))]
    pub root: u64,
    /// Of the second.
    #[schemars(range(min = 1, max = 900))]
    pub agent: u64,
    /// Of all further ones.
    #[schemars(range(min = 1, max = 300))]
    pub leaf: u64,
}

/// A root key of delegations.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DelegationKeyEntry {
    /// Its id.
    pub(super) kid: String,
    /// Name of the secret: `env:NAME` or `file:/path`; PKCS#8 PEM or JWK.
    pub(super) key: String,
}
