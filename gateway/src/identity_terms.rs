//! Whom a gateway believes, ready for use.
//!
//! Responsible for putting the identity document and the keys of its delegations together, or saying all that is wrong
//! with them. Must never be changed while a gateway runs: whom to believe is decided at its start.

use std::path::Path;
use std::sync::Arc;

use portcullis_config::Fault;

use crate::delegation_terms::DelegationTerms;
use crate::identity::document::Identity;
use crate::identity::ip_allow::IpAllow;

/// Whom a gateway believes about who a caller is.
#[derive(Clone, Debug)]
pub struct IdentityTerms {
    pub(crate) document: Identity,
    /// `None`: this deployment does not delegate.
    pub(crate) delegation: Option<Arc<DelegationTerms>>,
}

impl IdentityTerms {
    /// Those of the file at this path, or without one the shipped ones; and what `env` says of the internal token.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with its place.
    pub fn load(path: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Fault>> {
        let document = crate::identity::load(path, env)?;
        let delegation = document.delegation.as_ref().map(DelegationTerms::new).transpose();
        let delegation = delegation.map_err(|message| vec![Fault { path: "delegation.keys".to_owned(), message }])?;
        Ok(Self { document, delegation: delegation.map(Arc::new) })
    }

    /// Whether sessions go over plain HTTP.
    #[must_use]
    pub fn has_insecure_cookie(&self) -> bool {
        !self.document.cookie_secure
    }

    /// The addresses that are listened to.
    #[must_use]
    pub fn ip_allow(&self) -> &IpAllow {
        &self.document.ip_allow
    }

    /// Whether a caller can be anybody but an address.
    #[must_use]
    pub fn has_provider(&self) -> bool {
        self.document.has_provider() || self.delegation.is_some()
    }
}

#[cfg(test)]
pub(crate) fn shipped() -> IdentityTerms {
    IdentityTerms::load(None, &|_| None).expect("the shipped terms are sound")
}
