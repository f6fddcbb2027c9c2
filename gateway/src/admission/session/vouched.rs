//! Callers whom somebody else has identified: a proxy that asks about them over a listener of its own.
//!
//! Responsible for what is taken from such a description, and for what stands in for what it leaves out. Must never be
//! reachable from a listener that clients reach: whoever may describe callers may be anybody.

use portcullis_config::{Scope, UserType};
use portcullis_lua::Member;

use super::identity::Identity;
use crate::admission::circuit_breaker;
use crate::caller::{Caller, Source};
use crate::client_address::ClientAddress;
use crate::digest;
use crate::refusal::Refused;
use crate::state::Gateway;

/// A caller as described.
#[derive(Clone, Debug)]
pub(crate) struct Vouched {
    /// `None`: the gateway's default scope.
    pub(crate) scope: Option<Scope>,
    /// `None`: anonymous.
    pub(crate) user_type: Option<UserType>,
    /// `None`: the one of its principal and user type, else of its address.
    pub(crate) session_id: Option<String>,
    /// `None`: its session.
    pub(crate) principal: Option<String>,
    /// The agent acting for it.
    pub(crate) actor: Option<String>,
    /// Where it is. Callers of whom nothing is said at all are one.
    pub(crate) address: ClientAddress,
}

/// The caller so described. Refused as unauthenticated where the policy does not know its user type.
pub(crate) async fn resolve_vouched(gateway: &Gateway, vouched: Vouched) -> Result<Identity, Refused> {
    let Vouched { scope, user_type, session_id, principal, actor, address } = vouched;
    let served = match &scope {
        Some(scope) => {
            let served = gateway.scopes().serve(scope).await;
            served.map_err(|error| circuit_breaker::unavailable(&error))?
        }
        None => gateway.scopes().default_scope().clone(),
    };
    let nobody = gateway.strangers().from(address, gateway.scopes().default_scope());
    let user_type = user_type.unwrap_or_else(UserType::anonymous);
    let session_id = session_id.unwrap_or_else(|| match &principal {
        Some(principal) => format!("rls-{}", digest::short_hex(&["rls", user_type.as_str(), principal])),
        None => nobody.session_id().to_owned(),
    });
    // Who is revoked is so by whichever way it comes; when it was vouched for first, nobody says.
    let members = principal.iter().map(|principal| Member::Principal(principal).to_string());
    let members = members.chain(actor.iter().map(|agent| Member::Agent(agent).to_string())).collect();
    let principal = principal.unwrap_or_else(|| session_id.clone());
    let caller = Caller { scope, actor, members, ..Caller::new(principal, user_type, session_id, Source::Vouched) };
    let identity = Identity::new(caller, served, nobody.place());
    let scope = identity.scope();
    scope.touch();
    let known = scope.knows(identity.user_type()).await;
    if !known.map_err(|error| circuit_breaker::unavailable(&error))? {
        return Err(Refused { policy: Some(scope.policy()), ..Refused::unauthenticated() });
    }
    Ok(identity)
}
