//! What is decided about a request by the address it comes from, before its credential is looked at.
//!
//! Responsible for the lists of addresses, for those that keep failing, and for whether strangers are let in at all.
//! Must never ask Redis: who is turned away here costs nothing.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::client_address::ClientAddress;
use crate::identity::document;
use crate::identity::failed_attempts::FailedAttempts;
use crate::identity::ip_allow::{IpAllow, contains};
use crate::refusal::{Cause, Refused};

/// The name under which a refusal says which limit it is about.
const FAILED_ATTEMPTS: &str = "failed_authentications";

/// Who is let as far as the credentials.
#[derive(Debug)]
pub(crate) struct Door {
    addresses: IpAllow,
    balancers: Vec<IpNet>,
    strangers: bool,
    failed_attempts: FailedAttempts,
}

impl Door {
    pub(crate) fn new(identity: &document::Identity) -> Self {
        Self {
            addresses: identity.ip_allow.clone(),
            balancers: identity.alb.as_ref().map(|alb| alb.subnets.clone()).unwrap_or_default(),
            strangers: identity.anonymous.enabled,
            failed_attempts: FailedAttempts::new(identity.failed_attempts_per_minute),
        }
    }

    /// Refuses whoever comes from elsewhere than the public listener listens to.
    pub(crate) fn admit(&self, address: ClientAddress) -> Result<(), Refused> {
        if self.addresses.public_admits(address) { Ok(()) } else { Err(refused()) }
    }

    /// Refuses whoever comes from elsewhere than the admin listener listens to.
    pub(crate) fn admit_operator(&self, address: ClientAddress) -> Result<(), Refused> {
        if self.addresses.admin_admits(address) { Ok(()) } else { Err(refused()) }
    }

    /// Refuses to look at another credential from an address where too many were worth nothing.
    pub(crate) fn hear(&self, address: ClientAddress) -> Result<(), Refused> {
        let Some(wait) = self.failed_attempts.refused_for(address) else { return Ok(()) };
        let detail = "Too many credentials from this address were not accepted. Wait for Retry-After.";
        Err(Refused {
            retry_after_ms: (wait.as_millis() as u64).max(1),
            name: Some(FAILED_ATTEMPTS.into()),
            ..Refused::new(Cause::FailedAttempts, "Too many failed attempts", detail)
        })
    }

    /// A credential from this address was worth nothing.
    pub(crate) fn note_failure(&self, address: ClientAddress) {
        self.failed_attempts.record(address);
    }

    /// Whether this peer is a balancer that logs callers in.
    pub(crate) fn is_balancer(&self, peer: SocketAddr) -> bool {
        !self.balancers.is_empty() && contains(&self.balancers, peer.ip())
    }

    /// Whether who presents nothing is served.
    pub(crate) fn lets_strangers_in(&self) -> bool {
        self.strangers
    }
}

fn refused() -> Refused {
    Refused::new(Cause::AddressRefused, "Address refused", "Requests from this address are not served.")
}
