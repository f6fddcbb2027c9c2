//! What the application is told about the way a request came: `X-Forwarded-For`, `-Proto`, `-Host` and `X-Real-IP`.
//!
//! Responsible for handing on what the operator's own proxies wrote, and nothing that stood there before them. Must
//! never hand on what a client wrote: applications read the leftmost address. So the host is always the one that was
//! asked for: common balancers pass a client's `X-Forwarded-Host` on as it is.

use std::net::SocketAddr;

use axum::http::header::HOST;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::client_address::{ClientAddress, TrustedProxies};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The way of one request, read before its fields are rewritten.
#[derive(Debug)]
pub(in crate::proxy) struct Forwarded {
    way: String,
    client: ClientAddress,
    proto: &'static str,
    /// What the client asked for.
    host: Option<HeaderValue>,
}

impl Forwarded {
    /// Of a request that arrived from `peer`. The target's authority goes before `Host` (RFC 9112 §3.2.2).
    pub(in crate::proxy) fn of(proxies: &TrustedProxies, peer: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Self {
        let authority = uri.authority().and_then(|authority| {
            // User and password are no part of a host.
            let text = authority.as_str();
            HeaderValue::from_str(text.rsplit_once('@').map_or(text, |(_, host)| host)).ok()
        });
        let last = headers.get_all(FORWARDED_PROTO).iter().next_back().and_then(|value| value.to_str().ok());
        let proto = last.and_then(|line| line.rsplit(',').next()).filter(|_| proxies.believes(peer));
        let https = proto.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"));
        Self {
            way: proxies.way(peer, headers),
            // Whose way is absurd was refused in the session step.
            client: proxies.client_address(peer, headers).unwrap_or(ClientAddress::Unknown),
            proto: if https { "https" } else { "http" },
            host: authority.or_else(|| headers.get(HOST).cloned()),
        }
    }

    /// Writes it into fields that have none of it.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        // Addresses and commas.
        if let Ok(way) = HeaderValue::from_str(&self.way) {
            headers.insert(FORWARDED_FOR, way);
        }
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(self.proto));
        if let ClientAddress::Known(address) = self.client
            && let Ok(address) = HeaderValue::from_str(&address.to_string())
        {
            headers.insert(REAL_IP, address);
        }
        if let Some(host) = self.host {
            headers.insert(FORWARDED_HOST, host.clone());
            headers.insert(HOST, host);
        }
    }
}
