//! Whether an identity document makes sense, and what it comes to.
//!
//! Responsible for finding every fault that its types cannot say, each with its place, and for reading the secrets it
//! names. Must never quote a secret or what might be one, and never let pass what would believe more people than the
//! author meant: an issuer without an audience, two issuers whose users could be taken for each other.

use portcullis_config::Fault;

use crate::identity::document::checks::Checks;
use crate::identity::document::written::Document;
use crate::identity::document::{DocumentSource, Identity, entries, issuer};
use crate::identity::egress::Egress;
use crate::identity::ip_allow::IpAllow;

/// What a document comes to, or every fault of it.
pub(super) fn check(document: &Document, env: &dyn Fn(&str) -> Option<String>) -> Result<Identity, Vec<Fault>> {
    let mut checks = Checks { faults: Vec::new(), env };
    let egress = Egress::new(document.egress_allow.iter().cloned());
    checks.hosts(&document.egress_allow);
    let issuers = issuer::issuers(&mut checks, &document.issuers, &egress);
    let alb = document.alb.as_ref().map(|entry| entries::alb(&mut checks, entry, &egress));
    if let Some(alb) = &alb {
        let prefixes = document.issuers.iter().map(|issuer| issuer.principal_prefix.as_str());
        if prefixes.into_iter().any(|prefix| prefix == alb.principal_prefix) {
            checks.fault("alb.principal_prefix", "is an issuer's too: their users could be taken for each other");
        }
    }
    let identity = Identity {
        issuers,
        alb,
        api_keys: entries::api_keys(&mut checks, &document.api_keys),
        internal: document.internal.as_ref().and_then(|entry| entries::internal(&mut checks, entry)),
        cookie_secure: document.cookies.secure,
        sessions: document.sessions,
        ip_allow: IpAllow {
            public: checks.networks("ip_allow.public", &document.ip_allow.public),
            admin: checks.networks("ip_allow.admin", &document.ip_allow.admin),
        },
        failed_attempts_per_minute: document.failed_attempts.per_minute,
        anonymous: entries::anonymous(&mut checks, &document.anonymous),
        delegation: entries::delegation(&mut checks, &document.delegation),
        egress,
        source: DocumentSource::default(),
    };
    if checks.faults.is_empty() { Ok(identity) } else { Err(checks.faults) }
}
