//! What a verified chain says.
//!
//! Responsible for the facts that whoever serves the request goes on with: for whom, by whom, what is allowed, until
//! when, and by which names it may have been revoked. Must never be made from anything but a chain that verified.

use crate::claims::Claims;
use crate::constraint::Constraint;
use crate::key::PublicKey;
use crate::lifetime::SKEW_SECONDS;
use crate::scope::ScopeSet;

/// A verified delegation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// On whose behalf: `sub` of every token. Its limits and budgets are charged.
    pub principal: String,
    /// Tenant and project: `tid` of every token.
    pub tenant: String,
    /// The session the root was minted from, by its hash: `sid` of every token.
    pub session: String,
    /// The agent that acts: `client_id` of the last token.
    pub actor: String,
    /// The highest user type the chain may be served as, if its root names one. The principal's own type of now is the
    /// other bound: the lower of the two counts.
    pub user_type: Option<String>,
    /// For whom the last token is.
    pub audience: Vec<String>,
    /// What the last token allows.
    pub scopes: ScopeSet,
    /// The bounds of the last token, which are the tightest.
    pub constraints: Vec<Constraint>,
    /// When the last token is over, seconds since 1970; no other is over earlier.
    pub expires_at_seconds: u64,
    /// The key that the last token is bound to. `None`: it is a plain bearer token.
    pub holder: Option<PublicKey>,
    /// Every token, the root first.
    pub hops: Vec<Hop>,
}

/// One token of a verified chain, as an audit event tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The agent it was issued to.
    pub client_id: String,
    /// Its ULID.
    pub jti: String,
    /// SHA-256 of its signing input, base64url.
    pub token_hash: String,
    /// RFC 7638 thumbprint of its holder's key, if it has one.
    pub thumbprint: Option<String>,
    /// What it allows.
    pub scopes: ScopeSet,
    /// The bounds it sets, on all that descends from it together.
    pub constraints: Vec<Constraint>,
    /// When it was issued, seconds since 1970.
    pub issued_at_seconds: u64,
    /// When it is over, seconds since 1970.
    pub expires_at_seconds: u64,
    /// Why it was issued.
    pub reason: String,
}

impl Delegation {
    /// The names under which this delegation may have been revoked: for each hop its token (`t:`), its holder's key
    /// (`k:`) and its agent (`c:`); once the principal (`p:`) and the session (`s:`). Revoking one of them revokes
    /// whatever descends from it, without knowing what does.
    #[must_use]
    pub fn revocation_members(&self) -> Vec<String> {
        let mut members = Vec::with_capacity(self.hops.len() * 3 + 2);
        for hop in &self.hops {
            members.push(format!("t:{}", hop.token_hash));
            members.extend(hop.thumbprint.as_ref().map(|thumbprint| format!("k:{thumbprint}")));
            members.push(format!("c:{}", hop.client_id));
        }
        members.push(format!("p:{}", self.principal));
        members.push(format!("s:{}", self.session));
        members
    }

    /// When the root was issued at the earliest, seconds since 1970: by the clock of whoever signed it, less what that
    /// may be ahead of other clocks. A revocation of the principal or of the session that spares what was issued after
    /// it is compared with this: what was issued before must not seem to be later.
    #[must_use]
    pub fn root_issued_since_seconds(&self) -> u64 {
        self.hops[0].issued_at_seconds.saturating_sub(SKEW_SECONDS)
    }
}

impl Hop {
    pub(crate) fn new(claims: &Claims, scopes: &ScopeSet, token_hash: &str) -> Self {
        Self {
            client_id: claims.client_id.clone(),
            jti: claims.jti.clone(),
            token_hash: token_hash.to_owned(),
            thumbprint: claims.cnf.as_ref().map(|cnf| cnf.jwk.thumbprint()),
            scopes: scopes.clone(),
            constraints: claims.constraints.clone(),
            issued_at_seconds: claims.iat,
            expires_at_seconds: claims.exp,
            reason: claims.reason.clone(),
        }
    }
}
