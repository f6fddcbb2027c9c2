//! Step 1, session: who is calling.
//!
//! Feeds every later step: the user type chooses limits, threshold and weight, the session is what limits count, the
//! principal is whom the task belongs to. Refuses with `unauthenticated`, one shape for every cause, and never serves a
//! failed credential as anonymous. Must never believe a header about identity: `X-User-Type`, `X-Session-ID` and their
//! like are only ever written here, not read.
//!
//! The credential also says in which scope the caller is: it is looked up, or made on first use, here.
//!
//! An [`Identity`] has private fields and is made in [`resolve`] alone, so a handler that takes one cannot run without
//! this step.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use portcullis_config::UserType;
use quick_cache::sync::Cache;

use super::circuit_breaker;
use crate::client_address::{AbsurdForwarding, ClientAddress};
use crate::credential::{AmbiguousCredential, Caller, Credential, Source, presented, query_token};
use crate::digest;
use crate::refusal::{Cause, Refused, RequestFault};
use crate::scope::ServedScope;
use crate::state::Gateway;

/// Addresses remembered at once. At about 600 bytes each this is 6 MB; more only means digests made again.
const MAX_STRANGERS: usize = 10_000;

/// A resolved caller. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Identity(Arc<Resolved>);

#[derive(Debug)]
struct Resolved {
    caller: Caller,
    scope: Arc<ServedScope>,
    client_address: Arc<str>,
    /// User type and session as headers of an answer.
    headers: [Option<HeaderValue>; 2],
}

impl Identity {
    fn new(caller: Caller, scope: Arc<ServedScope>, client_address: Arc<str>) -> Self {
        // Names of user types and sessions are made of letters, digits, '-' and '_'.
        let headers = [caller.user_type.as_str(), &caller.session_id].map(|name| HeaderValue::from_str(name).ok());
        Self(Arc::new(Resolved { caller, scope, client_address, headers }))
    }

    pub(crate) fn principal(&self) -> &str {
        &self.0.caller.principal
    }

    pub(crate) fn user_type(&self) -> &UserType {
        &self.0.caller.user_type
    }

    pub(crate) fn session_id(&self) -> &str {
        &self.0.caller.session_id
    }

    pub(crate) fn actor(&self) -> Option<&str> {
        self.0.caller.actor.as_deref()
    }

    /// The scope everything it asks for happens in.
    pub(crate) fn scope(&self) -> &Arc<ServedScope> {
        &self.0.scope
    }

    /// `X-User-Type` and `X-Session-ID` of an answer.
    pub(crate) fn headers(&self) -> &[Option<HeaderValue>; 2] {
        &self.0.headers
    }

    /// Digest of the address it comes from, for limits per client address: it does not show the address.
    pub(crate) fn client_address(&self) -> &str {
        &self.0.client_address
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
    let address = gateway.trusted_proxies().client_address(peer, &parts.headers);
    let address = address.map_err(|AbsurdForwarding| {
        unattributable("X-Forwarded-For", "more addresses than any chain of proxies writes")
    })?;
    let nobody = gateway.strangers().from(address, gateway);
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
            Identity::new(caller, scope, nobody.0.client_address.clone())
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

/// Callers without a credential, by the address they come from. Who comes from one address is one caller, so the
/// digests are made once, not for every request.
#[derive(Debug)]
pub(crate) struct Strangers(Cache<ClientAddress, Identity>);

impl Strangers {
    /// Knows nobody yet.
    pub(crate) fn new() -> Self {
        Self(Cache::new(MAX_STRANGERS))
    }

    /// Whoever comes from this address, in the gateway's default scope.
    fn from(&self, address: ClientAddress, gateway: &Gateway) -> Identity {
        let address = address.network();
        if let Some(known) = self.0.get(&address) {
            return known;
        }
        let client_address: Arc<str> = digest::short_hex(&["anonymous", &address.fingerprint()]).into();
        let scope = gateway.scopes().default_scope().clone();
        let identity = Identity::new(caller_at(&client_address), scope, client_address);
        self.0.insert(address, identity.clone());
        identity
    }
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

/// The session of an address; whatever else a client can choose, such as its user agent, does not make a new one.
fn caller_at(client_address: &str) -> Caller {
    let session_id = format!("anon-{client_address}");
    Caller {
        scope: None,
        principal: session_id.clone(),
        user_type: UserType::anonymous(),
        session_id,
        actor: None,
        source: Source::Address,
    }
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
        user_type: UserType::new(user_type).expect("a valid user type"),
        session_id: session_id.to_owned(),
        actor: None,
        source: Source::Address,
    };
    let scope = gateway.scopes().default_scope().clone();
    Identity::new(caller, scope, "nowhere".into())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

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
