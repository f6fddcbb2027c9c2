//! Askers: the operator's own proxies and applications, which may hold a place for a request and end it.
//!
//! Responsible for telling them by the address of their connection. Must never go by what a request says, nor take
//! whoever stands in front of this gateway for one of them: through a balancer every client has its address.

use std::net::SocketAddr;

use ipnet::IpNet;

/// Whose word counts about how long a request takes a place and how it ended.
#[derive(Clone, Debug, Default)]
pub enum DecideAskers {
    /// Whoever is on this machine.
    #[default]
    Loopback,
    /// Peers in one of these networks; without any, nobody.
    Within(Vec<IpNet>),
}

impl DecideAskers {
    /// The networks that were named. Where none was: loopback, if no proxy stands in front (`proxies` is 0), else
    /// nobody, because the proxy may be on this machine.
    #[must_use]
    pub fn named(networks: Vec<IpNet>, proxies: u8) -> Self {
        if networks.is_empty() && proxies == 0 { Self::Loopback } else { Self::Within(networks) }
    }

    /// Whether this peer is one of them.
    pub(crate) fn include(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        match self {
            Self::Loopback => peer.is_loopback(),
            Self::Within(networks) => networks.iter().any(|network| network.contains(&peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn includes(networks: &[&str], proxies: u8, peer: &str) -> bool {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        DecideAskers::named(networks, proxies).include(SocketAddr::new(peer.parse().unwrap(), 4000))
    }

    #[test]
    fn unless_named_they_are_on_this_machine_and_nobody_behind_a_proxy_is_one() {
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert!(includes(&[], 0, local), "{local}");
            assert!(!includes(&[], 1, local), "{local}: it may be the proxy in front");
        }
        for remote in ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"] {
            assert!(!includes(&[], 0, remote) && !includes(&[], 1, remote), "{remote}");
        }
    }

    #[test]
    fn who_is_named_is_one_and_nobody_else_is() {
        let named = ["10.1.0.0/16", "2001:db8::7/128"];
        for proxies in [0, 1] {
            for asker in ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7"] {
                assert!(includes(&named, proxies, asker), "{asker}");
            }
            for other in ["10.2.0.1", "2001:db8::8", "127.0.0.1", "::1"] {
                assert!(!includes(&named, proxies, other), "{other}");
            }
        }
    }
}
