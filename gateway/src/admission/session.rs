//! Step 1, session: who is calling.
//!
//! Feeds every later step: the user type chooses limits, threshold and weight, the session is what limits count, the
//! principal is whom the task belongs to. Refuses with `unauthenticated`, one shape for every cause, and never serves a
//! failed credential as anonymous. Must never believe a header about identity: `X-User-Type`, `X-Session-ID` and their
//! like are only ever written here, not read.
//!
//! The credential also says in which scope the caller is: it is looked up, or made on first use, here.
//!
//! An [`Identity`] has private fields and is made in this module alone, so a handler that takes one cannot run without
//! this step.

pub(crate) mod identity;
pub(crate) mod strangers;
mod vouched;

use std::net::SocketAddr;

use axum::http::request::Parts;

use super::circuit_breaker;
use crate::client_address::AbsurdForwarding;
use crate::credential::{AmbiguousCredential, Caller, Credential, presented, query_token};
use crate::refusal::{Cause, Refused, RequestFault};
use crate::state::Gateway;

pub(crate) use identity::Identity;
pub(crate) use vouched::{Vouched, resolve_vouched};

/// Resolves the caller of a request that arrived from `peer`.
pub(crate) async fn resolve(gateway: &Gateway, parts: &Parts, peer: SocketAddr) -> Result<Identity, Refused> {
    let query_token = query_token(parts);
    let credential = presented(&parts.headers, query_token.as_deref())
        .map_err(|AmbiguousCredential| unattributable("Authorization", "a credential is given more than once"))?;
    let address = gateway.trusted_proxies().client_address(peer, &parts.headers);
    let address = address.map_err(|AbsurdForwarding| {
        unattributable("X-Forwarded-For", "more addresses than any chain of proxies writes")
    })?;
    let nobody = gateway.strangers().from(address, gateway.scopes().default_scope());
    let identity = match credential {
        Some(credential) => {
            let caller = verified(gateway, &credential).await?;
            let scope = match &caller.scope {
                Some(scope) => {
                    let served = gateway.scopes().serve(scope).await;
                    served.map_err(|error| circuit_breaker::unavailable(&error))?
                }
                None => gateway.scopes().default_scope().clone(),
            };
            Identity::new(caller, scope, nobody.shared_client_address())
        }
        None => nobody,
    };
    // A user type without limits could not be decided about; a policy that forgets a type locks it out, not in.
    let scope = identity.scope();
    let known = scope.knows(identity.user_type()).await;
    if !known.map_err(|error| circuit_breaker::unavailable(&error))? {
        return Err(Refused { policy: Some(scope.policy()), ..Refused::unauthenticated() });
    }
    Ok(identity)
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

fn unattributable(header: &str, message: &str) -> Refused {
    Refused {
        faults: [RequestFault::new(header, message)].into(),
        ..Refused::new(
            Cause::Unattributable,
            "Invalid request",
            "The request cannot be attributed to one caller; see `errors`.",
        )
    }
}

/// A caller in the default scope of a gateway.
#[cfg(test)]
pub(crate) fn identity_for_tests(gateway: &Gateway, user_type: &str, session_id: &str) -> Identity {
    let caller = Caller {
        scope: None,
        principal: session_id.to_owned(),
        user_type: portcullis_config::UserType::new(user_type).expect("a valid user type"),
        session_id: session_id.to_owned(),
        actor: None,
        source: crate::credential::Source::Address,
    };
    let scope = gateway.scopes().default_scope().clone();
    Identity::new(caller, scope, "nowhere".into())
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts;
    use axum::http::Request;
    use portcullis_config::UserType;

    use super::*;
    use crate::state::tests::options_without_redis;

    /// Who a request from this address is, with this credential if any.
    async fn identity(gateway: &Gateway, peer: &str, credential: Option<&str>) -> Result<Identity, Refused> {
        let mut request = Request::get("/v1/limits");
        if let Some(token) = credential {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        resolve(gateway, &parts, SocketAddr::new(peer.parse().unwrap(), 4000)).await
    }

    #[tokio::test]
    async fn an_address_is_a_session_that_does_not_show_it() {
        let gateway = Gateway::new(options_without_redis());
        let session = async |peer| identity(&gateway, peer, None).await.unwrap().session_id().to_owned();
        let one = session("203.0.113.7").await;
        assert_eq!(one, session("203.0.113.7").await);
        assert_ne!(one, session("203.0.113.8").await);
        assert!(one.len() == "anon-".len() + 32 && !one.contains("203"));
        assert_eq!(session("2001:db8::1").await, session("2001:db8::2").await);
        let anonymous = identity(&gateway, "203.0.113.7", None).await.unwrap();
        assert_eq!(anonymous.user_type(), &UserType::anonymous());
    }

    #[tokio::test]
    async fn every_caller_has_an_address_whatever_its_credential() {
        let gateway = Gateway::new(options_without_redis());
        let address = async |peer, token| {
            let identity = identity(&gateway, peer, token).await.unwrap();
            identity.client_address().to_owned()
        };
        let one = address("203.0.113.7", Some("dev:paid:ada")).await;
        assert_eq!(one, address("203.0.113.7", None).await);
        assert_eq!(one, address("203.0.113.7", Some("dev:paid:bob")).await);
        assert_ne!(one, address("203.0.113.8", Some("dev:paid:ada")).await);
    }

    #[tokio::test]
    async fn a_credential_without_a_scope_is_for_the_default_one_and_another_needs_redis_first() {
        let gateway = Gateway::new(options_without_redis());
        for token in ["dev:paid:ada", "dev:acme/demo:paid:ada"] {
            let identity = identity(&gateway, "203.0.113.7", Some(token)).await.unwrap();
            assert_eq!(identity.scope().store().scope().to_string(), "acme/demo");
        }
        let refused = identity(&gateway, "203.0.113.7", Some("dev:acme/other:paid:ada")).await.unwrap_err();
        assert_eq!(refused.cause, Cause::StoreUnavailable);
        assert_eq!(gateway.scopes().served().len(), 1, "a scope that cannot be served is not kept");
    }

    #[tokio::test]
    async fn no_handler_runs_without_the_session_layer() {
        let (mut parts, ()) = Request::get("/v1/limits").body(()).unwrap().into_parts();
        let rejected = Identity::from_request_parts(&mut parts, &()).await.unwrap_err();
        assert_eq!(rejected, Refused::unauthenticated());
        let gateway = Gateway::new(options_without_redis());
        parts.extensions.insert(identity_for_tests(&gateway, "paid", "s"));
        assert_eq!(Identity::from_request_parts(&mut parts, &()).await.unwrap().session_id(), "s");
    }
}
