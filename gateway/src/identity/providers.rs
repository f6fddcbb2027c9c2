//! Everything that proves who a caller is, made from one document.
//!
//! Responsible for what a gateway needs of identity in one place, and for how those who publish keys are doing. Must
//! never decide which credential counts or what becomes of a caller: that is the session step's.

use std::sync::Arc;

use portcullis_config::Scope;

use crate::background::Background;
use crate::identity::alb::AlbVerifier;
use crate::identity::document::Identity;
use crate::identity::fetch::Fetcher;
use crate::identity::fetch_record::{FetchWitness, Outcomes};
use crate::identity::jwt::{JwtVerifier, Place};

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

/// Somebody who publishes keys that callers are believed by, as this gateway has found it.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    /// An issuer's `iss`, the load balancer's ARN.
    pub(crate) issuer: String,
    /// The class of the credentials: `jwt` or `alb`.
    pub(crate) kind: &'static str,
    /// Where its users are.
    pub(crate) place: Place,
    /// How many of its keys are held.
    pub(crate) keys: usize,
    /// How fetching them has gone.
    pub(crate) outcomes: Outcomes,
}

impl Provider {
    /// Whether callers of this scope may be its users; `default` is the scope of those of whom it names none.
    pub(crate) fn serves(&self, scope: &Scope, default: &Scope) -> bool {
        match &self.place {
            Place::Fixed(fixed) => fixed.as_ref().unwrap_or(default) == scope,
            Place::Claims { .. } => true,
        }
    }
}

impl Providers {
    /// From this document. Fetches that nobody waits for belong to `background`; `witness` is told of those that the
    /// rules forbid. `None` when keys are to be fetched and TLS cannot be set up on this machine.
    pub(crate) fn set_up(
        identity: Identity,
        background: &Background,
        witness: impl FetchWitness + 'static,
    ) -> Option<Arc<Self>> {
        let witness: Arc<dyn FetchWitness> = Arc::new(witness);
        let providers = Self::new(identity, background, &witness);
        providers
            .inspect_err(|error| tracing::error!(error, "no provider of identities can be asked"))
            .ok()
            .map(Arc::new)
    }

    fn new(identity: Identity, background: &Background, witness: &Arc<dyn FetchWitness>) -> Result<Self, String> {
        let keys_are_fetched = !identity.issuers.is_empty() || identity.alb.is_some();
        let fetcher = if keys_are_fetched { Some(Fetcher::new(identity.egress.clone())?) } else { None };
        let jwt = fetcher.as_ref().filter(|_| !identity.issuers.is_empty());
        let jwt = jwt.map(|fetcher| JwtVerifier::new(identity.issuers.clone(), fetcher, background, witness));
        let alb = identity.alb.clone().zip(fetcher);
        let alb = alb.map(|(settings, fetcher)| AlbVerifier::new(settings, fetcher, background, witness));
        Ok(Self { jwt, alb, identity })
    }

    /// All who publish keys, by name.
    pub(crate) fn publishing(&self) -> Vec<Provider> {
        let issuers = self.jwt.iter().flat_map(JwtVerifier::providers);
        let mut all: Vec<Provider> = issuers.chain(self.alb.iter().map(AlbVerifier::provider)).collect();
        all.sort_by(|one, other| one.issuer.cmp(&other.issuer));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::document::parse;
    use crate::identity::test_issuer::nobody;

    fn providers(text: &str) -> Providers {
        Providers::new(parse(text, &|_| None).unwrap(), &Background::default(), &nobody()).unwrap()
    }

    #[tokio::test]
    async fn without_a_document_nobody_is_believed() {
        let providers = providers("");
        assert!(!providers.identity.has_provider());
        assert!(providers.jwt.is_none() && providers.alb.is_none());
        assert!(providers.identity.api_keys.verify(b"gk_").is_err());
        assert!(providers.publishing().is_empty());
    }

    #[tokio::test]
    async fn whoever_publishes_keys_is_listed_for_the_scopes_it_may_have_users_in() {
        let place = |name: &str, place: &str| {
            format!(
                "  - {{issuer: 'https://{name}.example', audiences: [a], algorithms: [RS256], \
                 principal_prefix: '{name}:', {place}}}\n"
            )
        };
        let claims = "tenant_claim: t, project_claim: p";
        let entries =
            [place("two", "scope: {tenant: globex, project: shop}"), place("three", claims), place("one", "")];
        let all = providers(&format!("issuers:\n{}", entries.concat())).publishing();
        let (default, other) = (Scope::new("acme", "demo").unwrap(), Scope::new("globex", "shop").unwrap());
        let of = |scope: &Scope| -> Vec<&str> {
            all.iter().filter(|each| each.serves(scope, &default)).map(|each| each.issuer.as_str()).collect()
        };
        assert_eq!(of(&default), ["https://one.example", "https://three.example"]);
        assert_eq!(of(&other), ["https://three.example", "https://two.example"]);
        assert!(all.iter().all(|each| (each.kind, each.keys, each.outcomes) == ("jwt", 0, Outcomes::default())));
    }
}
