//! Callers whom somebody else vouches for: an identity provider, a balancer, the operator's list of keys.
//!
//! Responsible for which verifier a credential goes to, by its place and shape, and for what it proves in the words of
//! this gateway. Must never look at a credential itself: the verifiers do.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use portcullis_lua::Member;

use crate::caller::{Caller, Source, session_of};
use crate::credential::{Credential, Presented, SessionResolver, Unproven};
use crate::identity::{self, Proven, Providers, api_key};

/// Asks the providers of the identity document.
#[derive(Debug)]
pub(crate) struct Vouchers(Arc<Providers>);

impl Vouchers {
    pub(crate) fn new(providers: Arc<Providers>) -> Self {
        Self(providers)
    }

    async fn proven(&self, credential: &Credential<'_>, peer: SocketAddr) -> Option<Result<Proven, identity::Unproven>> {
        let providers = &self.0;
        match credential {
            Credential::Bearer(text) | Credential::QueryToken(text) if text.starts_with(api_key::PREFIX) => {
                Some(providers.api_key(text.as_bytes()))
            }
            Credential::ApiKey(bytes) => Some(providers.api_key(bytes)),
            Credential::Bearer(text) | Credential::QueryToken(text) => Some(providers.jwt(text).await),
            Credential::InternalToken(bytes) => Some(providers.internal(bytes)),
            Credential::BalancerData(bytes) => providers.alb(peer, bytes).await,
            Credential::Foreign | Credential::Bound(_) | Credential::SessionCookie(_) => None,
        }
    }
}

#[async_trait]
impl SessionResolver for Vouchers {
    async fn resolve(&self, presented: &Presented<'_>) -> Result<Option<Caller>, Unproven> {
        match Box::pin(self.proven(&presented.credential, presented.peer)).await {
            None => Ok(None),
            Some(Ok(proven)) => Ok(Some(caller_of(proven))),
            Some(Err(unproven)) if unproven.unavailable => Err(Unproven::Provider),
            Some(Err(unproven)) => Err(Unproven::Failed(unproven.cause)),
        }
    }
}

fn caller_of(proven: Proven) -> Caller {
    let session_id = session_of(&proven.principal);
    let mut members = vec![Member::Principal(&proven.principal).to_string(), Member::Session(&session_id).to_string()];
    let source = match proven.class {
        "jwt" => Source::Jwt,
        "alb" => Source::Balancer,
        "api_key" => Source::ApiKey,
        _ => Source::InternalToken,
    };
    if source == Source::ApiKey {
        members.push(Member::Token(&proven.issuer).to_string());
    }
    Caller {
        scope: proven.scope,
        rights: (!proven.scopes.is_empty()).then(|| proven.scopes.into()),
        members: members.into(),
        issued_at_ms: proven.issued_at_ms,
        expires_at_ms: proven.expires_at_ms,
        ..Caller::new(proven.principal, proven.user_type, session_id, source)
    }
}
