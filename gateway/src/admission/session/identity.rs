//! A resolved caller, as every handler and step is given it.
//!
//! Responsible for what is known of a caller once it is known who it is. Must never be made anywhere but in the session
//! step: its fields are private, and so is its making.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::request::Parts;
use portcullis_config::UserType;
use portcullis_lua::Provenance;
use tokio::time::sleep;

use super::standing::STALENESS;
use crate::caller::{Caller, Source};
use crate::refusal::Refused;
use crate::right;
use crate::scope::ServedScope;

/// How often a request that goes on looks whether its caller was revoked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a caller comes from, as far as it may be kept.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Digest of the address, which it does not show; keyed where there is a secret to key it with.
    pub(super) digest: Arc<str>,
    /// Network of the address, truncated: of IPv4 a /24, of IPv6 a /48; `None`: unknown.
    pub(super) network: Option<Arc<str>>,
}

/// A resolved caller. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Identity(Arc<Resolved>);

#[derive(Debug)]
struct Resolved {
    caller: Caller,
    scope: Arc<ServedScope>,
    place: Place,
    /// `X-Session-ID` of an answer.
    session_header: Option<HeaderValue>,
}

impl Identity {
    pub(super) fn new(caller: Caller, scope: Arc<ServedScope>, place: Place) -> Self {
        // Names of sessions are made of letters, digits, '-' and '_', but for those that others vouch for.
        let session_header = HeaderValue::from_str(&caller.session_id).ok();
        Self(Arc::new(Resolved { caller, scope, place, session_header }))
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

    /// How it was identified.
    pub(crate) fn source(&self) -> Source {
        self.0.caller.source
    }

    /// What it knows of itself, as its credential says it.
    pub(crate) fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Whether its credential was given for this; see [`right`](crate::right).
    pub(crate) fn may(&self, needed: &str) -> bool {
        self.0.caller.rights.as_ref().is_none_or(|rights| rights.iter().any(|right| right::covers(right, needed)))
    }

    /// Refuses where it was not. For what names no object: who may not see an object is told that there is none.
    pub(crate) fn require(&self, needed: &str) -> Result<(), Refused> {
        if self.may(needed) { Ok(()) } else { Err(Refused::insufficient_scope(needed)) }
    }

    /// Whether its credential was taken back since it was resolved, as far as can be known: for what goes on long after
    /// its request. While Redis is away it is not known, and what has begun goes on.
    pub(crate) async fn is_revoked(&self) -> bool {
        let Resolved { caller, scope, .. } = &*self.0;
        if caller.members.is_empty() {
            return false;
        }
        let mut view = scope.revocations().load();
        if !view.is_fresh(STALENESS)
            && let Ok(newer) = Box::pin(scope.catch_up_with_revocations()).await
        {
            view = newer;
        }
        view.covers(&caller.members, caller.issued_at_ms).is_some()
    }

    /// Ends when its credential has been taken back.
    pub(crate) async fn revoked(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            if self.is_revoked().await {
                return;
            }
        }
    }

    /// What decisions are told of its credential.
    pub(crate) fn provenance(&self) -> Provenance {
        let caller = &self.0.caller;
        Provenance {
            source: caller.source.as_str(),
            network: self.0.place.network.as_deref().map(str::to_owned),
            hops: caller.hops.clone(),
            members: caller.members.clone(),
            issued_at_ms: Some(caller.issued_at_ms),
            ..Provenance::default()
        }
    }

    /// The scope everything it asks for happens in.
    pub(crate) fn scope(&self) -> &Arc<ServedScope> {
        &self.0.scope
    }

    /// `X-Session-ID` of an answer.
    pub(crate) fn session_header(&self) -> Option<&HeaderValue> {
        self.0.session_header.as_ref()
    }

    /// Where it comes from, for another identity from there.
    pub(super) fn place(&self) -> Place {
        self.0.place.clone()
    }

    /// Digest of the address it comes from, for limits per client address: it does not show the address.
    pub(crate) fn client_address(&self) -> &str {
        &self.0.place.digest
    }
}

impl<S: Sync> FromRequestParts<S> for Identity {
    type Rejection = Refused;

    /// Closed by default: a route outside the session layer has no caller.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refused::unauthenticated)
    }
}
