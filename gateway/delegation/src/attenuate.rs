//! Attenuation: the holder of a token issues a narrower one below it, without asking anybody.
//!
//! Responsible for refusing to widen with the code that verifiers refuse with, so that a holder learns of a mistake
//! before its chain is refused elsewhere. Must never see a root key.

use crate::chain::{Chain, SEPARATOR};
use crate::claims::{Claims, Confirmation};
use crate::constraint::Constraint;
use crate::key::{self, PublicKey};
use crate::lifetime::Lifetimes;
use crate::mint::new_id;
use crate::narrowing;
use crate::refused::Refused;
use crate::scope::ScopeSet;
use crate::secret_key::SecretKey;
use crate::token::Token;

/// What the holder of a token passes on.
#[derive(Clone, Debug)]
pub struct Narrowing {
    /// To whom.
    pub client_id: String,
    /// For which resources; `None`: for all those of the parent.
    pub audience: Option<Vec<String>>,
    /// What is allowed; `None`: whatever the parent allows, unless that is everything, which only a root may say.
    pub scopes: Option<ScopeSet>,
    /// Bounds: new ones, and lower ones in the place of the parent's. Those of the parent that are not named stay.
    pub constraints: Vec<Constraint>,
    /// For how long, seconds; `None`: as long as may be.
    pub lifetime_seconds: Option<u64>,
    /// Most tokens of the chain; `None`: as many as the parent says.
    pub max_depth: Option<u8>,
    /// The key of the new holder. `None`: a bearer token, which cannot be delegated further.
    pub holder: Option<PublicKey>,
    /// Why: 1 to 200 characters.
    pub reason: String,
}

impl Narrowing {
    /// All that the parent allows, as long as may be, for a bearer: what is to be narrowed is set over it.
    #[must_use]
    pub fn of_all(client_id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            audience: None,
            scopes: None,
            constraints: Vec::new(),
            lifetime_seconds: None,
            max_depth: None,
            holder: None,
            reason: reason.into(),
        }
    }
}

/// Adds a token to the chain, signed by the holder of its last one.
pub fn attenuate(chain: &Chain, holder: &SecretKey, narrowing: Narrowing, now_seconds: u64) -> Result<Chain, Refused> {
    let parent = chain.leaf();
    let above = parent.claims();
    let depth = chain.tokens().len();
    let longest_seconds = Lifetimes::CAPS.at_depth(depth).min(above.exp.saturating_sub(now_seconds));
    let mut constraints = narrowing.constraints;
    let kept = above.constraints.iter().filter(|bound| !constraints.iter().any(|own| own.key == bound.key));
    let kept: Vec<Constraint> = kept.cloned().collect();
    constraints.extend(kept);
    let claims = Claims {
        iss: key::issuer_name(&holder.public_key().thumbprint()),
        sub: above.sub.clone(),
        client_id: narrowing.client_id,
        aud: narrowing.audience.unwrap_or_else(|| above.aud.clone()),
        tid: above.tid.clone(),
        sid: above.sid.clone(),
        iat: now_seconds,
        exp: now_seconds.saturating_add(narrowing.lifetime_seconds.unwrap_or(longest_seconds)),
        jti: new_id(now_seconds),
        scope: narrowing.scopes.as_ref().unwrap_or(parent.scopes()).to_string(),
        constraints,
        // A chain that is longer than any may be is refused below, whatever stands here.
        del_depth: u8::try_from(depth).unwrap_or(u8::MAX),
        del_max_depth: narrowing.max_depth.unwrap_or(above.del_max_depth),
        par_hash: Some(parent.hash().to_owned()),
        cnf: narrowing.holder.map(|key| Confirmation { jwk: key.to_jwk() }),
        ut: None,
        reason: narrowing.reason,
    };
    let child = Token::sign(&claims, None, holder)?;
    let narrower = Chain::parse(&format!("{}{SEPARATOR}{child}", chain.presented()))?;
    narrowing::check_times(&narrower, &Lifetimes::CAPS, now_seconds)?;
    narrowing::check_links(&narrower)?;
    Ok(narrower)
}
