//! Everything that proves who a caller is, made from one document.
//!
//! Responsible for what a gateway needs of identity in one place. Must never decide which credential counts or what
//! becomes of a caller: that is the session step's.

use crate::background::Background;
use crate::identity::alb::AlbVerifier;
use crate::identity::document::Identity;
use crate::identity::fetch::Fetcher;
use crate::identity::jwt::JwtVerifier;

/// What proves who callers are.
#[derive(Debug)]
pub struct Providers {
    /// JSON Web Tokens; `None`: no issuer is believed.
    pub jwt: Option<JwtVerifier>,
    /// The load balancer's users; `None`: none is believed.
    pub alb: Option<AlbVerifier>,
    /// The document: API keys and the internal token verify by themselves, the rest are terms.
    pub identity: Identity,
}

impl Providers {
    /// From this document. Fetches that nobody waits for belong to `background`.
    ///
    /// # Errors
    ///
    /// When keys are to be fetched and TLS cannot be set up on this machine.
    pub fn new(identity: Identity, background: &Background) -> Result<Self, String> {
        let keys_are_fetched = !identity.issuers.is_empty() || identity.alb.is_some();
        let fetcher = if keys_are_fetched { Some(Fetcher::new(identity.egress.clone())?) } else { None };
        let jwt = fetcher.as_ref().filter(|_| !identity.issuers.is_empty());
        let jwt = jwt.map(|fetcher| JwtVerifier::new(identity.issuers.clone(), fetcher, background));
        let alb = identity.alb.clone().zip(fetcher);
        let alb = alb.map(|(settings, fetcher)| AlbVerifier::new(settings, fetcher, background));
        Ok(Self { jwt, alb, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::document::parse;

    #[tokio::test]
    async fn without_a_document_nobody_is_believed() {
        let identity = parse("", &|_| None).unwrap();
        assert!(!identity.has_provider());
        let providers = Providers::new(identity, &Background::default()).unwrap();
        assert!(providers.jwt.is_none() && providers.alb.is_none());
        assert!(providers.identity.api_keys.verify(b"gk_").is_err());
    }
}
