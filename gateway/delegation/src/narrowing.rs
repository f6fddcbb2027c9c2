//! A token beside its parent.
//!
//! Responsible for the one rule of delegation: a child is issued by the holder of its parent, for the same principal,
//! and allows nothing that its parent does not. The same code judges a chain that is presented and one that is being
//! made. Must never verify a signature: all of this is settled before any.

use crate::chain::Chain;
use crate::constraint;
use crate::key;
use crate::lifetime::{Lifetimes, SKEW_SECONDS};
use crate::refused::{Fault, Refused, Widened};
use crate::token::Token;

/// Whether every token is valid now, and for no longer than its depth allows.
pub(crate) fn check_times(chain: &Chain, lifetimes: &Lifetimes, now_seconds: u64) -> Result<(), Refused> {
    for (hop, token) in chain.tokens().iter().enumerate() {
        let claims = token.claims();
        if claims.iat > now_seconds.saturating_add(SKEW_SECONDS) {
            return Err(Fault::IssuedInFuture.at(hop));
        }
        let lifetime = claims.exp.saturating_sub(claims.iat);
        if !(1..=lifetimes.at_depth(hop)).contains(&lifetime) {
            return Err(Fault::LifetimeExceeded.at(hop));
        }
        if now_seconds >= claims.exp {
            return Err(Fault::Expired.at(hop));
        }
    }
    Ok(())
}

/// Whether every token is a child of the one before it.
pub(crate) fn check_links(chain: &Chain) -> Result<(), Refused> {
    for (hop, pair) in chain.tokens().windows(2).enumerate() {
        check_link(&pair[0], &pair[1]).map_err(|fault| fault.at(hop + 1))?;
    }
    Ok(())
}

fn check_link(parent: &Token, child: &Token) -> Result<(), Fault> {
    let (above, below) = (parent.claims(), child.claims());
    let holder = above.cnf.as_ref().ok_or(Fault::NotDelegable)?;
    if below.iss != key::issuer_name(&holder.jwk.thumbprint()) {
        return Err(Fault::WrongIssuer);
    }
    if below.par_hash.as_deref() != Some(parent.hash()) {
        return Err(Fault::Spliced);
    }
    if (&below.sub, &below.tid, &below.sid) != (&above.sub, &above.tid, &above.sid) {
        return Err(Fault::IdentityChanged);
    }
    if below.iat < above.iat.saturating_sub(SKEW_SECONDS) {
        return Err(Fault::IssuedBeforeParent);
    }
    let widened = [
        (below.aud.iter().all(|name| above.aud.contains(name)), Widened::Audience),
        (below.exp <= above.exp, Widened::Expiry),
        (below.del_max_depth <= above.del_max_depth, Widened::Depth),
        (parent.scopes().covers_all(child.scopes()), Widened::Scope),
        (constraint::are_narrower(&below.constraints, &above.constraints), Widened::Constraint),
    ];
    match widened.into_iter().find(|(narrower, _)| !narrower) {
        Some((_, member)) => Err(Fault::NotNarrower(member)),
        None => Ok(()),
    }
}
