//! Who operates: the bearer of the admin token, or a privileged caller of a scope.
//!
//! Responsible for how far each of them reaches: the token everywhere, a caller in the scope it is a caller of, and
//! nowhere else, where there is nothing for it. Must never take a name from anything but the token that was compared or
//! the credential that was verified.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use portcullis_config::Scope;
use portcullis_lua::ScopeStore;

use crate::admission::session::{self, Identity};
use crate::admission::writes;
use crate::bearer_token::BearerToken;
use crate::caller::Source;
use crate::dev_token;
use crate::refusal::Refused;
use crate::right;
use crate::state::Gateway;

/// The user type whose callers may operate their scope.
const PRIVILEGED: &str = "privileged";

/// Whoever got past the token layer.
#[derive(Clone, Debug)]
pub(crate) enum Operator {
    /// The bearer of the admin token.
    Token,
    /// A privileged caller whose credential was given for `admin`, and neither is a development token nor came of one.
    Caller(Identity),
}

impl Operator {
    /// Who a request is from, if it may operate at all. Whatever is wrong with its credential is told alike: 401.
    pub(crate) async fn of(gateway: &Gateway, token: &BearerToken, parts: &Parts) -> Result<Self, Refused> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let peer = peer.ok_or_else(Refused::unauthenticated)?;
        let address = session::client_address(gateway, parts, peer)?;
        let door = gateway.door();
        door.admit_operator(address)?;
        if parts.headers.contains_key(AUTHORIZATION) {
            // Before the token is compared: whoever keeps guessing does not get to know when it was right.
            door.hear(address)?;
        }
        if token.admits(&parts.headers) {
            return Ok(Self::Token);
        }
        let identity = session::resolve_admitted(gateway, parts, peer, address).await?;
        // Every process and web page of a machine reaches loopback, where a development token makes anyone anybody, and
        // then opens sessions and delegates as that.
        let somebody = !matches!(identity.source(), Source::DevToken | Source::Vouched | Source::Address);
        if somebody
            && !dev_token::names(identity.principal())
            && identity.user_type().as_str() == PRIVILEGED
            && identity.may(right::ADMIN)
        {
            return Ok(Self::Caller(identity));
        }
        Err(Refused::unauthenticated())
    }

    /// Who it is in records of what was changed.
    pub(crate) fn actor(&self) -> String {
        match self {
            Self::Token => "admin_token".to_owned(),
            Self::Caller(identity) => writes::actor(identity),
        }
    }

    /// The store, for what it changes.
    pub(crate) fn store(&self, store: &ScopeStore) -> ScopeStore {
        match self {
            Self::Token => store.clone(),
            Self::Caller(identity) => writes::store_for(store, identity),
        }
    }

    /// Counts a change it is about to make, or refuses it. The bearer of the token is not counted.
    pub(crate) async fn count_write(&self, gateway: &Gateway) -> Result<(), Refused> {
        match self {
            Self::Token => Ok(()),
            Self::Caller(identity) => writes::count(gateway, identity).await,
        }
    }

    /// Whether an agent acts, who has to say what it has seen before it changes anything.
    pub(crate) fn is_agent(&self) -> bool {
        matches!(self, Self::Caller(identity) if identity.actor().is_some())
    }

    /// What it is about unless it says otherwise; `None`: the gateway's default scope.
    pub(crate) fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Token => None,
            Self::Caller(identity) => Some(identity.scope().store().scope()),
        }
    }

    /// Whether this scope is there for it.
    pub(crate) fn reaches(&self, scope: &Scope) -> bool {
        match self {
            Self::Token => true,
            Self::Caller(identity) => identity.scope().store().scope() == scope,
        }
    }

    /// Whether it may see what belongs to the process and to no scope.
    pub(crate) fn reaches_everything(&self) -> bool {
        matches!(self, Self::Token)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Refused;

    /// Closed by default: a route outside the token layer has no operator.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refused::unauthenticated)
    }
}
