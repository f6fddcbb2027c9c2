//! Minting: the first token of a chain.
//!
//! Responsible for a root that every verifier takes. Must never decide whether the principal may grant what it grants:
//! who mints has checked that.

use ulid::Ulid;

use crate::chain::Chain;
use crate::claims::{Claims, Confirmation};
use crate::constraint::Constraint;
use crate::key::PublicKey;
use crate::lifetime::Lifetimes;
use crate::narrowing;
use crate::refused::Refused;
use crate::scope::ScopeSet;
use crate::secret_key::SecretKey;
use crate::token::Token;

/// Most tokens of a chain, unless its root says otherwise.
pub const DEPTH_DEFAULT: u8 = 4;

/// What a principal grants to an agent.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The deployment that mints: what verifiers know its key by.
    pub issuer: String,
    /// Who grants.
    pub principal: String,
    /// Tenant and project of the principal.
    pub tenant: String,
    /// The session that the principal grants from, by its hash.
    pub session: String,
    /// The highest user type the chain is served as.
    pub user_type: Option<String>,
    /// To whom.
    pub client_id: String,
    /// For which resources: 1 to 4.
    pub audience: Vec<String>,
    /// What is allowed.
    pub scopes: ScopeSet,
    /// Bounds on it.
    pub constraints: Vec<Constraint>,
    /// For how long, seconds; `None`: as long as may be.
    pub lifetime_seconds: Option<u64>,
    /// Most tokens of the chain: 1 to 8; above 1 only with a holder's key. `None`: [`DEPTH_DEFAULT`] with a holder's
    /// key, else 1.
    pub max_depth: Option<u8>,
    /// The key of the agent. `None`: a bearer token, which cannot be delegated.
    pub holder: Option<PublicKey>,
    /// Why: 1 to 200 characters.
    pub reason: String,
}

/// Mints the root of a chain with this key, which verifiers know under this name. Refuses what they would refuse, with
/// the same fault.
pub fn mint(
    grant: Grant,
    key: &SecretKey,
    key_id: &str,
    lifetimes: &Lifetimes,
    now_seconds: u64,
) -> Result<Chain, Refused> {
    let lifetime_seconds = grant.lifetime_seconds.unwrap_or(lifetimes.at_depth(0));
    let claims = Claims {
        iss: grant.issuer,
        sub: grant.principal,
        client_id: grant.client_id,
        aud: grant.audience,
        tid: grant.tenant,
        sid: grant.session,
        iat: now_seconds,
        exp: now_seconds.saturating_add(lifetime_seconds),
        jti: new_id(now_seconds),
        scope: grant.scopes.to_string(),
        constraints: grant.constraints,
        del_depth: 0,
        del_max_depth: grant.max_depth.unwrap_or(if grant.holder.is_some() { DEPTH_DEFAULT } else { 1 }),
        par_hash: None,
        cnf: grant.holder.map(|key| Confirmation { jwk: key.to_jwk() }),
        ut: grant.user_type,
        reason: grant.reason,
    };
    let chain = Chain::parse(&Token::sign(&claims, Some(key_id), key)?)?;
    narrowing::check_times(&chain, lifetimes, now_seconds)?;
    Ok(chain)
}

/// A new ULID of this time.
pub(crate) fn new_id(now_seconds: u64) -> String {
    Ulid::from_parts(now_seconds.saturating_mul(1000), rand::random()).to_string()
}
