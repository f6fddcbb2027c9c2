//! Addresses that are listened to at all.
//!
//! Responsible for the answer before anything else is done, Redis included. Must never take an unknown address for an
//! allowed one: a proxy that does not say where a request came from does not open the door.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::client_address::ClientAddress;

/// What `lan` stands for: addresses of private, loopback and link-local networks (RFC 1918, 1122, 3927, 4193, 4291).
/// A list of its own, because the standard library's idea of private leaves some out and lets others in.
#[must_use]
pub fn lan() -> Vec<IpNet> {
    let v4 = [
        ([10, 0, 0, 0], 8),
        ([172, 16, 0, 0], 12),
        ([192, 168, 0, 0], 16),
        ([127, 0, 0, 0], 8),
        ([169, 254, 0, 0], 16),
    ];
    let v6 = [
        (Ipv6Addr::LOCALHOST, 128),
        (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    ];
    let v4 = v4.into_iter().filter_map(|(address, length)| Ipv4Net::new(Ipv4Addr::from(address), length).ok());
    let v6 = v6.into_iter().filter_map(|(address, length)| Ipv6Net::new(address, length).ok());
    v4.map(IpNet::V4).chain(v6.map(IpNet::V6)).collect()
}

/// Who is listened to, by listener.
#[derive(Clone, Debug, Default)]
pub struct IpAllow {
    /// On the public listener; empty: everybody.
    pub public: Vec<IpNet>,
    /// On the admin listener; empty: everybody.
    pub admin: Vec<IpNet>,
}

impl IpAllow {
    /// Whether the public listener answers this address; if not, 403 `ip_refused`.
    #[must_use]
    pub fn public_admits(&self, address: ClientAddress) -> bool {
        admits(&self.public, address)
    }

    /// Whether the admin listener answers this address.
    #[must_use]
    pub fn admin_admits(&self, address: ClientAddress) -> bool {
        admits(&self.admin, address)
    }
}

fn admits(networks: &[IpNet], address: ClientAddress) -> bool {
    networks.is_empty()
        || match address {
            ClientAddress::Known(address) => contains(networks, address),
            ClientAddress::Unknown => false,
        }
}

/// Whether one of the networks holds the address; an IPv4 address written as IPv6 is that IPv4 address.
#[must_use]
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(address: &str) -> ClientAddress {
        ClientAddress::Known(address.parse().unwrap())
    }

    #[test]
    fn lan_is_exactly_the_networks_it_says() {
        let allow = IpAllow { public: lan(), admin: Vec::new() };
        let inside = [
            "10.1.2.3",
            "172.31.255.255",
            "192.168.0.1",
            "127.0.0.9",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ];
        for address in inside {
            assert!(allow.public_admits(known(address)), "{address}");
        }
        let outside = [
            "8.8.8.8",
            "172.32.0.1",
            "203.0.113.9",
            "192.0.2.1",
            "198.18.0.1",
            "240.0.0.1",
            "0.0.0.0",
            "100.64.0.1",
            "2001:db8::1",
            "::",
            "::2",
            "::ffff:8.8.8.8",
        ];
        for address in outside {
            assert!(!allow.public_admits(known(address)), "{address}");
        }
    }

    #[test]
    fn an_unknown_address_is_refused_wherever_there_is_a_list() {
        let allow = IpAllow { public: lan(), admin: Vec::new() };
        assert!(!allow.public_admits(ClientAddress::Unknown));
        assert!(allow.admin_admits(ClientAddress::Unknown), "there is none");
        assert!(allow.admin_admits(known("8.8.8.8")));
    }
}
