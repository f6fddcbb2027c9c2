//! Other proxies in front of an application, asking gateways: nginx, Caddy and `HAProxy` as they are, with the shipped
//! configurations; of Traefik, Envoy and Istio the requests that they are documented to send.
//!
//! Responsible for what holds between a gateway and a proxy that nobody here wrote. Must never test a configuration
//! that is not the shipped one: only addresses are put in.

mod application;
pub(crate) mod front;
mod asking;
mod through;
mod balanced;
mod shapes;
mod envoy;
mod place;
mod asker;
mod rls;

use portcullis_loadtest::client::{Client, http_client};
use portcullis_loadtest::cluster::Builder;
use serde_json::json;

use crate::fixture::cluster;

use front::Front;

/// Gateways behind one proxy. `/work/` is a class of its own for POST, where a paid caller has 3 requests; `/guarded/`
/// is always refused, because there is no processor.
fn asked() -> Builder {
    cluster().env("TRUSTED_PROXY_COUNT", "1").policy(json!({
        "rate_limits": { "roles": { "paid": { "burst": 3, "burst_window": 3600, "hourly": -1 } } },
        "guarded_rest_patterns": ["^/guarded/"],
        "route_classes": { "work": { "patterns": ["^/work/"], "methods": ["POST"], "max_concurrent": 100 } },
    }))
}

/// An anonymous client of a proxy.
fn client_of(front: &Front) -> Client {
    Client::new(http_client().expect("a client"), front.address())
}
