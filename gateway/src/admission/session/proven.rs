//! Callers whom somebody else vouches for: an identity provider, a balancer, the operator's list of keys.
//!
//! Responsible for which verifier a credential goes to, by its place and shape, and for what it proves in the words of
//! this gateway. Must never look at a credential itself: the verifiers do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use portcullis_lua::Member;

use crate::caller::{Caller, Source, session_of};
use crate::credential::{Credential, Presented, SessionResolver, Unproven};
use crate::identity::{self, LEEWAY_SECONDS, Proven, Providers, api_key};

/// Asks the providers of the identity document.
#[derive(Debug)]
pub(crate) struct Vouchers(Arc<Providers>);

impl Vouchers {
    pub(crate) fn new(providers: Arc<Providers>) -> Arc<Self> {
        Arc::new(Self(providers))
    }

    /// What the credential proves; `None` where nobody is asked about such a one.
    async fn proven(
        &self,
        credential: &Credential<'_>,
        peer: SocketAddr,
    ) -> Result<Option<Proven>, identity::Unproven> {
        let (providers, now) = (&self.0, SystemTime::now());
        let nobody = identity::Unproven::because("no_provider");
        match credential {
            Credential::Bearer(text) | Credential::QueryToken(text) if text.starts_with(api_key::PREFIX) => {
                providers.identity.api_keys.verify(text.as_bytes()).map(Some)
            }
            Credential::ApiKey(bytes) => providers.identity.api_keys.verify(bytes).map(Some),
            Credential::Bearer(text) | Credential::QueryToken(text) => match &providers.jwt {
                Some(verifier) => verifier.verify(text, now).await.map(Some),
                None => Err(nobody),
            },
            Credential::InternalToken(bytes) => {
                providers.identity.internal.as_ref().ok_or(nobody)?.verify(bytes).map(Some)
            }
            Credential::BalancerData(bytes) => match &providers.alb {
                Some(verifier) => verifier.verify(peer.ip(), bytes, now).await,
                None => Ok(None),
            },
            Credential::Foreign | Credential::Bound(_) | Credential::SessionCookie(_) => Ok(None),
        }
    }
}

#[async_trait]
impl SessionResolver for Vouchers {
    async fn resolve(&self, presented: &Presented<'_>) -> Result<Option<Caller>, Unproven> {
        match Box::pin(self.proven(&presented.credential, presented.peer)).await {
            Ok(proven) => Ok(proven.map(caller_of)),
            Err(unproven) if unproven.unavailable => Err(Unproven::Provider),
            Err(unproven) => Err(Unproven::Failed(unproven.cause)),
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
        rights: proven.scopes.map(Into::into),
        members: members.into(),
        // As early as the issuer's clock allows: what was issued before a revocation must not look as if after it.
        issued_at_ms: proven.issued_at_ms.saturating_sub(LEEWAY_SECONDS * 1000),
        expires_at_ms: proven.expires_at_ms,
        ..Caller::new(proven.principal, proven.user_type, session_id, source)
    }
}

#[cfg(test)]
mod tests {
    use portcullis_config::UserType;

    use super::*;

    #[test]
    fn a_token_is_as_old_as_its_issuers_clock_allows() {
        let proven = |issued_at_ms| Proven {
            principal: "acme:ada".to_owned(),
            user_type: UserType::new("paid").unwrap(),
            scopes: None,
            scope: None,
            issued_at_ms,
            expires_at_ms: None,
            class: "jwt",
            issuer: "https://one.test".to_owned(),
        };
        // Issued at 100 s by a clock that is 30 s ahead: a revocation at 110 s is later.
        assert_eq!(caller_of(proven(130_000)).issued_at_ms, 100_000);
        assert_eq!(caller_of(proven(0)).issued_at_ms, 0);
    }
}
