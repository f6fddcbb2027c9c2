//! Callers without a credential.
//!
//! Responsible for their identity: the address they come from and nothing that a client can choose. Must never hold one
//! that a credential made.

use std::sync::Arc;

use portcullis_config::UserType;
use quick_cache::sync::Cache;

use super::identity::{Identity, Place};
use crate::client_address::ClientAddress;
use crate::caller::{Caller, Source};
use crate::digest;
use crate::scope::ServedScope;

/// Addresses remembered at once. At about 600 bytes each this is 6 MB; more only means digests made again.
const MAX_STRANGERS: usize = 10_000;

/// Callers without a credential, by the address they come from. Who comes from one address is one caller, so the
/// digests are made once, not for every request.
#[derive(Debug)]
pub(crate) struct Strangers(Cache<ClientAddress, Identity>);

impl Strangers {
    /// Knows nobody yet.
    pub(crate) fn new() -> Self {
        Self(Cache::new(MAX_STRANGERS))
    }

    /// Whoever comes from this address, in the scope of those who name none: always the same of a gateway.
    pub(super) fn from(&self, address: ClientAddress, scope: &Arc<ServedScope>) -> Identity {
        let address = address.network();
        if let Some(known) = self.0.get(&address) {
            return known;
        }
        let digest: Arc<str> = digest::short_hex(&["anonymous", &address.fingerprint()]).into();
        let place = Place { digest: digest.clone(), network: address.truncated().map(Into::into) };
        let identity = Identity::new(caller_at(&digest), scope.clone(), place);
        self.0.insert(address, identity.clone());
        identity
    }
}

/// The session of an address; whatever else a client can choose, such as its user agent, does not make a new one.
fn caller_at(client_address: &str) -> Caller {
    let session_id = format!("anon-{client_address}");
    Caller::new(session_id.clone(), UserType::anonymous(), session_id, Source::Address)
}
