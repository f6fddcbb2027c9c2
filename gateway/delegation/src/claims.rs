//! The members of a token: the signed statement of one hop.
//!
//! Responsible for what a token must and must not contain, whatever stands around it. Must never compare two tokens,
//! which is `narrowing.rs`, nor look at a clock or a signature, which is `verify.rs`.

use serde::{Deserialize, Serialize};
use ulid::Ulid;

use crate::constraint::{self, Constraint};
use crate::key::{self, Jwk};
use crate::refused::{Fault, Refused};
use crate::scope::{Scope, ScopeSet};
use crate::strict;

/// Most tokens of a chain, whatever its root says.
pub const HOPS_MAX: usize = 8;

/// Most audiences of one token.
pub const AUDIENCES_MAX: usize = 4;

/// Longest reason, characters.
pub const REASON_MAX: usize = 200;

/// Longest name of anybody or anything, bytes.
pub const NAME_MAX: usize = 256;

/// What a token says. Whoever and whatever is named is named in printable ASCII without spaces, at most 256 bytes, so
/// that it can stand in a header and in an audit event. Registered names are those of RFC 7519, RFC 8693 (`client_id`,
/// `scope`) and RFC 7800 (`cnf`); `del_depth`, `del_max_depth` and `par_hash` are those of the IETF drafts on
/// delegation chains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Who issued it: the deployment, or below the root the thumbprint of the parent's holder (RFC 9278).
    pub iss: String,
    /// The principal on whose behalf everything is done. The same in the whole chain.
    pub sub: String,
    /// The agent that acts with this token.
    pub client_id: String,
    /// For whom it is: 1 to 4 resources.
    #[serde(default)]
    pub aud: Vec<String>,
    /// Tenant and project. The same in the whole chain.
    pub tid: String,
    /// The session that the root was minted from, by its hash. The same in the whole chain.
    pub sid: String,
    /// Issued at, seconds since 1970.
    pub iat: u64,
    /// Over at, seconds since 1970.
    pub exp: u64,
    /// A ULID.
    pub jti: String,
    /// What it allows, in the form of [`ScopeSet`].
    pub scope: String,
    /// Bounds on what is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "strict::objects")]
    pub constraints: Vec<Constraint>,
    /// The place in the chain: 0 for the root.
    pub del_depth: u8,
    /// Most tokens of a chain with this one in it.
    pub del_max_depth: u8,
    /// Below the root: SHA-256 of the parent's signing input, base64url.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::present")]
    pub par_hash: Option<String>,
    /// The key of the holder. Without one the token is a plain bearer token and has no children.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::present_object")]
    pub cnf: Option<Confirmation>,
    /// In the root only: the highest user type that the chain is served as.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "strict::present")]
    pub ut: Option<String>,
    /// Why it was issued, 1 to 200 characters.
    #[serde(default)]
    pub reason: String,
}

/// The key that the presenter of a token must have (RFC 7800).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The key.
    #[serde(deserialize_with = "strict::object")]
    pub jwk: Jwk,
}

impl Claims {
    /// Checks everything that can be said of this token alone at this place of a chain, and reads its scopes.
    pub(crate) fn check(&self, hop: usize) -> Result<ScopeSet, Refused> {
        self.check_names().map_err(|fault| fault.at(hop))?;
        self.check_place(hop).map_err(|fault| fault.at(hop))?;
        let scopes: ScopeSet = self.scope.parse().map_err(|_| Fault::ScopeMalformed.at(hop))?;
        if hop > 0 && scopes.iter().any(Scope::is_everything) {
            return Err(Fault::ScopeMalformed.at(hop));
        }
        Ok(scopes)
    }

    fn check_names(&self) -> Result<(), Fault> {
        let names = [&self.iss, &self.sub, &self.client_id, &self.tid, &self.sid];
        let canonical = Ulid::from_string(&self.jti).is_ok_and(|id| id.to_string() == self.jti);
        if !names.into_iter().chain(self.ut.as_ref()).all(|name| is_name(name)) || !canonical {
            return Err(Fault::Malformed);
        }
        if self.aud.is_empty() {
            return Err(Fault::AudienceRequired);
        }
        if self.aud.len() > AUDIENCES_MAX || !self.aud.iter().all(|name| is_name(name)) {
            return Err(Fault::Malformed);
        }
        let length = self.reason.chars().count();
        if self.reason.trim().is_empty() || length > REASON_MAX || self.reason.chars().any(char::is_control) {
            return Err(Fault::ReasonRequired);
        }
        Ok(())
    }

    fn check_place(&self, hop: usize) -> Result<(), Fault> {
        let bound_well = self.cnf.as_ref().is_none_or(|cnf| cnf.jwk.is_well_formed());
        if !constraint::are_well_formed(&self.constraints) || !bound_well {
            return Err(Fault::Malformed);
        }
        if usize::from(self.del_depth) != hop {
            return Err(Fault::DepthMismatch);
        }
        if self.del_depth >= self.del_max_depth || usize::from(self.del_max_depth) > HOPS_MAX {
            return Err(Fault::TooDeep);
        }
        let is_hash = |text: &str| strict::decode_exactly::<32>(text).is_some();
        let placed = if hop == 0 {
            self.par_hash.is_none() && key::thumbprint_of_issuer(&self.iss).is_none()
        } else {
            let by_holder = key::thumbprint_of_issuer(&self.iss).is_some_and(is_hash);
            by_holder && self.par_hash.as_deref().is_some_and(is_hash) && self.ut.is_none()
        };
        if !placed {
            return Err(Fault::Malformed);
        }
        if hop == 0 && self.del_max_depth > 1 && self.cnf.is_none() {
            return Err(Fault::HolderKeyRequired);
        }
        Ok(())
    }
}

/// Whether a text can name anybody or anything in a token, and so in an audit event and in a header of a request: 1 to
/// 256 characters of printable ASCII without spaces.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
