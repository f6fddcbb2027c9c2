//! Step 1, session: who is calling.
//!
//! Feeds every later step: the user type chooses limits, threshold and weight, the session is what limits count, the
//! principal is whom the task belongs to. Refuses with `unauthenticated`, one shape for every cause, and never serves a
//! failed credential as anonymous. Must never believe a header about identity: `X-User-Type`, `X-Session-ID` and their
//! like are only ever written here, not read.
//!
//! An [`Identity`] has private fields and is made in [`resolve`] alone, so a handler that takes one cannot run without
//! this step.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use portcullis_config::UserType;

use super::circuit_breaker;
use crate::client_address::{AbsurdForwarding, ClientAddress};
use crate::credential::{AmbiguousCredential, Caller, Credential, Source, presented, query_token};
use crate::digest;
use crate::refusal::{Cause, Refused, RequestFault};
use crate::state::Gateway;

/// A resolved caller. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Identity(Arc<Caller>);

impl Identity {
    pub(crate) fn principal(&self) -> &str {
        &self.0.principal
    }

    pub(crate) fn user_type(&self) -> &UserType {
        &self.0.user_type
    }

    pub(crate) fn session_id(&self) -> &str {
        &self.0.session_id
    }

    pub(crate) fn actor(&self) -> Option<&str> {
        self.0.actor.as_deref()
    }
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Refused;

    /// Closed by default: a route outside the session layer has no caller.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refused::unauthenticated)
    }
}

/// Resolves the caller of a request that arrived from `peer`.
pub(crate) async fn resolve(gateway: &Gateway, parts: &Parts, peer: SocketAddr) -> Result<Identity, Refused> {
    let query_token = query_token(parts);
    let credential = presented(&parts.headers, query_token.as_deref())
        .map_err(|AmbiguousCredential| unattributable("Authorization", "a credential is given more than once"))?;
    let caller = match credential {
        Some(credential) => verified(gateway, &credential).await?,
        None => anonymous(gateway, parts, peer)?,
    };
    // A user type without limits could not be decided about; a policy that forgets a type locks it out, not in.
    if !gateway.policy_in_force().compiled().knows(&caller.user_type) {
        return Err(Refused::unauthenticated());
    }
    Ok(Identity(Arc::new(caller)))
}

async fn verified(gateway: &Gateway, credential: &Credential<'_>) -> Result<Caller, Refused> {
    for resolver in gateway.resolvers() {
        let resolved = resolver.resolve(credential).await;
        if let Some(caller) = resolved.map_err(|error| circuit_breaker::unavailable(&error))? {
            return Ok(caller);
        }
    }
    Err(Refused::unauthenticated())
}

fn anonymous(gateway: &Gateway, parts: &Parts, peer: SocketAddr) -> Result<Caller, Refused> {
    let address = gateway.trusted_proxies().client_address(peer, &parts.headers);
    let address = address.map_err(|AbsurdForwarding| {
        unattributable("X-Forwarded-For", "more addresses than any chain of proxies writes")
    })?;
    Ok(caller_at(address))
}

/// The session of an address; whatever else a client can choose, such as its user agent, does not make a new one.
fn caller_at(address: ClientAddress) -> Caller {
    let session_id = format!("anon-{}", digest::short_hex(&["anonymous", &address.fingerprint()]));
    Caller {
        principal: session_id.clone(),
        user_type: UserType::anonymous(),
        session_id,
        actor: None,
        source: Source::Address,
    }
}

fn unattributable(header: &str, message: &str) -> Refused {
    Refused {
        faults: vec![RequestFault::new(header, message)],
        ..Refused::new(
            Cause::Unattributable,
            "Invalid request",
            "The request cannot be attributed to one caller; see `errors`.",
        )
    }
}

#[cfg(test)]
pub(crate) fn identity_for_tests(user_type: &str, session_id: &str) -> Identity {
    Identity(Arc::new(Caller {
        principal: session_id.to_owned(),
        user_type: UserType::new(user_type).expect("a valid user type"),
        session_id: session_id.to_owned(),
        actor: None,
        source: Source::Address,
    }))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::http::Request;

    use super::*;

    #[test]
    fn an_address_is_a_session_that_does_not_show_it() {
        let caller = |text: &str| caller_at(ClientAddress::Known(text.parse::<IpAddr>().unwrap()));
        let one = caller("203.0.113.7");
        assert_eq!(one, caller("203.0.113.7"));
        assert_ne!(one.session_id, caller("203.0.113.8").session_id);
        assert_eq!(one.session_id.len(), "anon-".len() + 32);
        assert!(!one.session_id.contains("203"));
        assert_eq!(caller("2001:db8::1"), caller("2001:db8::2"));
        assert_eq!(one.user_type, UserType::anonymous());
    }

    #[tokio::test]
    async fn no_handler_runs_without_the_session_layer() {
        let (mut parts, ()) = Request::get("/v1/limits").body(()).unwrap().into_parts();
        let rejected = Identity::from_request_parts(&mut parts, &()).await.unwrap_err();
        assert_eq!(rejected, Refused::unauthenticated());
        parts.extensions.insert(identity_for_tests("paid", "s"));
        assert_eq!(Identity::from_request_parts(&mut parts, &()).await.unwrap().session_id(), "s");
    }
}
