//! Everything that proves who a caller is, made from one document.
//!
//! Responsible for what a gateway needs of identity in one place, and for how those who publish keys are doing. Must
//! never decide which credential counts or what becomes of a caller: that is the session step's.

use std::sync::Arc;

use portcullis_config::Scope;

use crate::background::Background;
use crate::degraded::Fallback;
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
    /// Whether they should have been fetched again by now.
    pub(crate) overdue: bool,
    /// How fetching them has gone.
    pub(crate) outcomes: Outcomes,
}

impl Provider {
    /// What its users are believed by instead of keys that are fresh.
    pub(crate) fn fallback(&self) -> Option<Fallback> {
        let (error_ms, _) = self.outcomes.last_error?;
        let failing = self.outcomes.last_ok_ms.is_none_or(|ok_ms| ok_ms <= error_ms);
        match self.keys {
            0 => failing.then_some(Fallback::IssuerKeysMissing),
            _ => (failing && self.overdue).then_some(Fallback::IssuerKeysStale),
        }
    }

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
    use crate::identity::FetchFault;
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
    async fn keys_that_cannot_be_fetched_are_missing_or_stale_until_they_can_be_again() {
        let text =
            "issuers: [{issuer: 'https://i.example', audiences: [a], algorithms: [RS256], principal_prefix: 'i:'}]";
        let provider = providers(text).publishing().remove(0);
        let of = |keys, overdue, last_ok_ms, error_ms: Option<u64>| {
            let last_error = error_ms.map(|at_ms| (at_ms, FetchFault::Timeout));
            Provider { keys, overdue, outcomes: Outcomes { last_ok_ms, last_error }, ..provider.clone() }.fallback()
        };
        assert_eq!(of(0, false, None, None), None, "nobody has needed them");
        assert_eq!(of(0, false, None, Some(5)), Some(Fallback::IssuerKeysMissing));
        assert_eq!(of(2, false, Some(1), Some(5)), None, "a look for a name that is not there");
        assert_eq!(of(2, true, Some(1), Some(5)), Some(Fallback::IssuerKeysStale));
        assert_eq!(of(0, false, Some(1), Some(5)), Some(Fallback::IssuerKeysMissing), "they have grown too old");
        assert_eq!(of(2, true, Some(6), Some(5)), None);
        assert_eq!(of(2, true, Some(6), None), None, "a fetch is under way");
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
