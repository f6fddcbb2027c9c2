//! Callers without a credential, and the places callers come from.
//!
//! Responsible for the identity of the former: the address they come from and nothing that a client can choose. Must
//! never hold one that a credential made.

use std::sync::Arc;

use ipnet::IpNet;
use portcullis_config::UserType;
use quick_cache::sync::Cache;

use super::identity::{Identity, Place};
use crate::caller::{Caller, Source};
use crate::client_address::ClientAddress;
use crate::digest::{self, HashKey};
use crate::identity::document::Anonymous;
use crate::identity::ip_allow::contains;
use crate::scope::ServedScope;

/// Addresses remembered at once. At about 600 bytes each this is 6 MB; more only means digests made again.
const MAX_STRANGERS: usize = 10_000;

/// Callers without a credential, by the address they come from. Who comes from one address is one caller, so the
/// digests are made once, not for every request.
#[derive(Debug)]
pub(crate) struct Strangers {
    user_type: UserType,
    external_networks: Vec<IpNet>,
    /// What digests of addresses are keyed with; `None`: they can be found by trying.
    key: Option<HashKey>,
    known: Cache<(ClientAddress, bool), Identity>,
    places: Cache<ClientAddress, Place>,
}

impl Strangers {
    /// Knows nobody yet.
    pub(crate) fn new(terms: &Anonymous) -> Self {
        Self {
            user_type: terms.user_type.clone(),
            external_networks: terms.external_networks.clone(),
            key: terms.secret.as_ref().map(HashKey::of),
            known: Cache::new(MAX_STRANGERS),
            places: Cache::new(MAX_STRANGERS),
        }
    }

    /// Whoever comes from this address, in the scope of those who name none: always the same of a gateway.
    pub(super) fn from(&self, address: ClientAddress, scope: &Arc<ServedScope>) -> Identity {
        let external = self.is_external(address);
        let key = (address.network(), external);
        if let Some(known) = self.known.get(&key) {
            return known;
        }
        let place = self.place(address);
        let user_type = if external { UserType::external() } else { self.user_type.clone() };
        let identity = Identity::new(caller_at(&place.digest, user_type), scope.clone(), place);
        self.known.insert(key, identity.clone());
        identity
    }

    /// This address as it may be kept, whoever comes from there.
    pub(super) fn place(&self, address: ClientAddress) -> Place {
        let network = address.network();
        if let Some(known) = self.places.get(&network) {
            return known;
        }
        let fingerprint = network.fingerprint();
        let parts = ["anonymous", &fingerprint];
        let digest = self.key.as_ref().map_or_else(|| digest::short_hex(&parts), |key| key.short_hex(&parts));
        let digest: Arc<str> = digest.into();
        let place = Place { digest, network: network.truncated().map(Into::into) };
        self.places.insert(network, place.clone());
        place
    }

    fn is_external(&self, address: ClientAddress) -> bool {
        matches!(address, ClientAddress::Known(address) if contains(&self.external_networks, address))
    }
}

/// The session of an address; whatever else a client can choose, such as its user agent, does not make a new one.
fn caller_at(digest: &str, user_type: UserType) -> Caller {
    let session_id = format!("anon-{digest}");
    Caller::new(session_id.clone(), user_type, session_id, Source::Address)
}
