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
pub(crate) mod door;
pub(crate) mod strangers;
pub(crate) mod proven;
pub(crate) mod opened;
pub(crate) mod delegated;
pub(crate) mod lowered;
mod standing;
mod unspent;
mod vouched;

use std::net::SocketAddr;
use std::sync::LazyLock;

use axum::http::request::Parts;
use portcullis_config::UserType;
use portcullis_lua::Step;
use tokio::time::Instant;

use super::circuit_breaker;
use crate::caller::Caller;
#[cfg(test)]
use crate::caller::Source;
use crate::client_address::{AbsurdForwarding, ClientAddress};
use crate::credential::{AmbiguousCredential, Presented, Unproven, presented, proof, query_token};
use crate::decide;
use crate::metric;
use crate::page;
use crate::refusal::{Cause, Refused, RequestFault};
use crate::state::Gateway;

pub(crate) use identity::Identity;
pub(crate) use unspent::Unspent;
pub(crate) use vouched::{Vouched, resolve_vouched};

/// The label of callers that could not be resolved.
static NOBODY: LazyLock<UserType> =
    LazyLock::new(|| UserType::new("unresolved").unwrap_or_else(|_| UserType::anonymous()));

/// Where a request came from that arrived from `peer`, if the public listener listens to it.
pub(crate) fn admit_address(gateway: &Gateway, parts: &Parts, peer: SocketAddr) -> Result<ClientAddress, Refused> {
    let address = client_address(gateway, parts, peer)?;
    gateway.door().admit(address)?;
    Ok(address)
}

/// Where a request came from.
pub(crate) fn client_address(gateway: &Gateway, parts: &Parts, peer: SocketAddr) -> Result<ClientAddress, Refused> {
    let address = gateway.trusted_proxies().client_address(peer, &parts.headers);
    address.map_err(|AbsurdForwarding| {
        unattributable("X-Forwarded-For", "more addresses than any chain of proxies writes")
    })
}

/// Resolves the caller of a request from an address that its listener listens to; its proof is spent.
pub(crate) async fn resolve_admitted(
    gateway: &Gateway,
    parts: &Parts,
    peer: SocketAddr,
    address: ClientAddress,
) -> Result<Identity, Refused> {
    let (identity, mut proof) = resolve_unspent(gateway, parts, peer, address).await?;
    proof.spend(gateway, &identity).await?;
    Ok(identity)
}

/// The same, and what it still has to spend before anything is done for it.
pub(crate) async fn resolve_unspent(
    gateway: &Gateway,
    parts: &Parts,
    peer: SocketAddr,
    address: ClientAddress,
) -> Result<(Identity, Unspent), Refused> {
    let door = gateway.door();
    let twice = |AmbiguousCredential(name)| unattributable(name, "is given more than once");
    let query_token = query_token(parts).map_err(twice)?;
    let cookie = gateway.session_terms().cookie_name();
    let credential = presented(&parts.headers, query_token.as_deref(), cookie, door.is_balancer(peer));
    let (identity, mut proof) = match credential.map_err(twice)? {
        Some(credential) => {
            door.hear(address)?;
            let proof = proof(&parts.headers).map_err(twice)?;
            let about = proof.and_then(|_| decide::asked_about(parts));
            let (method, uri) = about.as_ref().map_or((&parts.method, &parts.uri), |(method, uri)| (method, uri));
            let presented = Presented { credential, method, uri, peer, proof };
            let known = Box::pin(known(gateway, &presented, address)).await;
            known.map_err(|unproven| turned_away(gateway, &unproven, address))?
        }
        None if door.lets_strangers_in() => {
            (gateway.strangers().from(address, gateway.scopes().default_scope()), Unspent::nothing())
        }
        None => return Err(Refused::unauthenticated()),
    };
    if identity.caller().ambient && !parts.method.is_safe() {
        // As for all answers to pages: it is the default scope that says which may ask.
        let policy = gateway.scopes().default_scope().policy();
        if !page::may_ask(&policy.policy().cors, parts, true) {
            return Err(Refused::forbidden("Pages of this origin may not ask with the credential of their reader."));
        }
    }
    let scope = identity.scope();
    scope.touch();
    // A user type without limits could not be decided about; a policy that forgets a type locks it out, not in.
    let known = scope.knows(identity.user_type()).await;
    if !known.map_err(|error| circuit_breaker::unavailable(&error))? {
        // The type may be back while the proof is fresh.
        proof.spend(gateway, &identity).await?;
        return Err(Refused { policy: Some(scope.policy()), ..Refused::unauthenticated() });
    }
    Ok((identity, proof))
}

/// Counts a request that was turned away before it had a caller: no event of its own tells of it.
pub(crate) fn count_unresolved(gateway: &Gateway, refused: &Refused) {
    let (step, code) = (refused.cause.step().map_or("", Step::as_str), refused.cause.code());
    metric::decision("refused", step, code, &NOBODY);
    gateway.scopes().default_scope().tally().count(code, &NOBODY, false);
}

/// The caller of this credential, if it still counts, and what it has to spend.
async fn known(
    gateway: &Gateway,
    presented: &Presented<'_>,
    address: ClientAddress,
) -> Result<(Identity, Unspent), Unproven> {
    // Before the check: all that takes time from here on is time in which a proof gets older.
    let checked = Instant::now();
    let mut caller = verified(gateway, presented).await?;
    let scope = match &caller.scope {
        Some(scope) => gateway.scopes().serve(scope).await?,
        None => gateway.scopes().default_scope().clone(),
    };
    gateway.lowered().note(&scope, &caller).await;
    standing::check(&scope, &mut caller).await?;
    caller.ambient = presented.credential.is_ambient();
    let proof = Unspent::new(caller.proof.take(), checked, address);
    Ok((Identity::new(caller, scope, gateway.strangers().place(address)), proof))
}

async fn verified(gateway: &Gateway, presented: &Presented<'_>) -> Result<Caller, Unproven> {
    for resolver in gateway.resolvers() {
        if let Some(caller) = resolver.resolve(presented).await? {
            return Ok(caller);
        }
    }
    Err(Unproven::Failed("unknown_kind"))
}

/// The refusal of a credential. Why it was refused is for this gateway's own log: callers are told all causes alike.
fn turned_away(gateway: &Gateway, unproven: &Unproven, address: ClientAddress) -> Refused {
    match unproven {
        Unproven::Failed(cause) => {
            tracing::debug!(cause, "a credential was refused");
            metric::credential_refused(cause);
            // What was good once is no guess: who goes on with it must not lock out others at its address.
            if !standing::ONCE_GOOD.contains(cause) && *cause != opened::STILL_UNKNOWN {
                gateway.door().note_failure(address);
            }
            Refused::unauthenticated()
        }
        Unproven::Store(error) => circuit_breaker::unavailable(error),
        Unproven::Provider | Unproven::Unknown => Refused::new(
            Cause::IdentityUnavailable,
            "Identity unavailable",
            "Whether this credential counts cannot be found out at the moment. It was neither accepted nor refused.",
        ),
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
    let user_type = portcullis_config::UserType::new(user_type).expect("a valid user type");
    known_for_tests(gateway, Caller::new(session_id.to_owned(), user_type, session_id.to_owned(), Source::Address))
}

/// This caller, in the default scope of a gateway.
#[cfg(test)]
pub(crate) fn known_for_tests(gateway: &Gateway, caller: Caller) -> Identity {
    let scope = gateway.scopes().default_scope().clone();
    Identity::new(caller, scope, identity::Place { digest: "nowhere".into(), network: None })
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts;
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
        let peer = SocketAddr::new(peer.parse().unwrap(), 4000);
        let address = admit_address(gateway, &parts, peer)?;
        resolve_admitted(gateway, &parts, peer, address).await
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
    async fn with_a_secret_nobody_finds_an_address_by_trying_them_all() {
        let with = |secret: Option<&str>| {
            let mut options = options_without_redis();
            options.identity.document.anonymous.secret = secret.map(Into::into);
            Gateway::new(options)
        };
        let session = async |gateway: &Gateway| {
            let stranger = identity(gateway, "203.0.113.7", None).await.unwrap();
            assert!(stranger.session_id().ends_with(stranger.client_address()));
            stranger.session_id().to_owned()
        };
        let tried =
            |last: u8| format!("anon-{}", crate::digest::short_hex(&["anonymous", &format!("203.0.113.{last}")]));
        let found = |session: &str| (0..=255).any(|last| tried(last) == session);
        let [plain, one, other] = [None, Some("one secret"), Some("another")].map(with);
        assert!(found(&session(&plain).await), "without one it is a matter of seconds");
        assert!(!found(&session(&one).await) && !found(&session(&other).await));
        assert_ne!(session(&one).await, session(&other).await);
        assert_eq!(session(&one).await, session(&with(Some("one secret"))).await, "the same at every gateway");
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

    #[tokio::test(start_paused = true)]
    async fn the_scope_of_who_names_none_is_in_use_like_any_other() {
        let gateway = Gateway::new(options_without_redis());
        for credential in [None, Some("dev:paid:ada")] {
            tokio::time::advance(std::time::Duration::from_secs(600)).await;
            let identity = identity(&gateway, "203.0.113.7", credential).await.unwrap();
            assert!(identity.scope().unused_for().is_zero(), "{credential:?}");
        }
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
