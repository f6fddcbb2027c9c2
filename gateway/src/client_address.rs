//! Which address a request came from, through the proxies the operator vouches for.
//!
//! Responsible for reading `X-Forwarded-For` from the right, because everything left of the operator's own proxies was
//! written by the client. Must never believe the header without being told how many proxies stand in front, nor from a
//! peer that is not one of them; what cannot be read becomes [`ClientAddress::Unknown`], which shares one session
//! rather than getting a fresh one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;

/// Whom to believe about `X-Forwarded-For`.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Proxies between the client and this gateway; 0: the header means nothing.
    pub count: u8,
    /// Addresses of the last proxy; empty: any peer.
    pub networks: Vec<IpNet>,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// From here.
    Known(IpAddr),
    /// The proxies did not say, or not in a way that could be read.
    Unknown,
}

/// More addresses, or more bytes of them, than any chain of proxies writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbsurdForwarding;

const MAX_ENTRIES: usize = 32;
const MAX_BYTES: usize = 2048;

impl TrustedProxies {
    /// The client's address behind `peer`.
    pub(crate) fn client_address(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
    ) -> Result<ClientAddress, AbsurdForwarding> {
        if !self.believes(peer) {
            return Ok(ClientAddress::Known(peer.ip().to_canonical()));
        }
        let lines: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
        let entries: Vec<&[u8]> = lines.iter().flat_map(|line| line.split(|&byte| byte == b',')).collect();
        if entries.len() > MAX_ENTRIES || lines.iter().map(|line| line.len()).sum::<usize>() > MAX_BYTES {
            return Err(AbsurdForwarding);
        }
        let entry = entries.len().checked_sub(usize::from(self.count)).map(|index| entries[index]);
        let address = entry.and_then(|entry| std::str::from_utf8(entry).ok()).and_then(parse_entry);
        Ok(address.map_or(ClientAddress::Unknown, ClientAddress::Known))
    }

    /// Whether this peer is one of the operator's proxies.
    pub(crate) fn believes(&self, peer: SocketAddr) -> bool {
        let peer = peer.ip().to_canonical();
        self.count > 0 && (self.networks.is_empty() || self.networks.iter().any(|network| network.contains(&peer)))
    }

    /// The addresses that the operator's proxies wrote, the client's first and the peer's own last. An entry that
    /// cannot be read is `unknown`, as in RFC 7239 §6.2.
    pub(crate) fn way(&self, peer: SocketAddr, headers: &HeaderMap) -> String {
        let mut way = String::new();
        if self.believes(peer) {
            let lines = headers.get_all("x-forwarded-for").iter();
            let entries: Vec<&[u8]> = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).collect();
            let written = entries.len().checked_sub(usize::from(self.count)).map_or(&[][..], |from| &entries[from..]);
            for entry in written {
                match std::str::from_utf8(entry).ok().and_then(parse_entry) {
                    Some(address) => way.push_str(&address.to_string()),
                    None => way.push_str("unknown"),
                }
                way.push_str(", ");
            }
        }
        way.push_str(&peer.ip().to_canonical().to_string());
        way
    }
}

/// `1.2.3.4`, `1.2.3.4:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    // Only what RFC 9110 §5.6.3 calls white space: other blanks are somebody's junk.
    let entry = entry.trim_matches([' ', '\t']);
    let address = if let Some(rest) = entry.strip_prefix('[') {
        let (inside, after) = rest.split_once(']')?;
        let port_is_one = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        inside.parse::<Ipv6Addr>().ok().filter(|_| port_is_one).map(IpAddr::V6)
    } else if let Some((host, port)) = entry.split_once(':').filter(|(host, _)| host.contains('.')) {
        host.parse::<Ipv4Addr>().ok().filter(|_| is_port(port)).map(IpAddr::V4)
    } else {
        entry.parse().ok()
    };
    address.map(|address| address.to_canonical())
}

/// Digits only: the standard library would let a sign pass.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

impl ClientAddress {
    /// What tells one caller without a credential from another: the address, of IPv6 only the /64, because a client
    /// may choose any address inside its own.
    pub(crate) fn network(self) -> Self {
        match self {
            Self::Known(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self::Known(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            Self::Known(IpAddr::V4(_)) | Self::Unknown => self,
        }
    }

    /// Where it is, as far as records may say: of IPv4 the /24, of IPv6 the /48. `None` where nobody knows.
    pub(crate) fn truncated(self) -> Option<String> {
        match self {
            Self::Known(IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Some(format!("{a}.{b}.{c}.0/24"))
            }
            Self::Known(IpAddr::V6(address)) => {
                let [a, b, c, ..] = address.segments();
                Some(format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
            }
            Self::Unknown => None,
        }
    }

    /// The [`network`](Self::network) as text.
    pub(crate) fn fingerprint(self) -> String {
        match self.network() {
            Self::Known(IpAddr::V4(address)) => address.to_string(),
            Self::Known(IpAddr::V6(address)) => format!("{address}/64"),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::test_issuer::fuzz_cases;

    /// The fingerprint for a peer, a proxy count, trusted networks and the lines of the header.
    fn client(peer: &str, count: u8, networks: &[&str], lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let peer = SocketAddr::new(peer.parse().unwrap(), 4000);
        match (TrustedProxies { count, networks }).client_address(peer, &headers) {
            Ok(address) => address.fingerprint(),
            Err(AbsurdForwarding) => "absurd".to_owned(),
        }
    }

    #[test]
    fn without_proxies_the_header_means_nothing() {
        assert_eq!(client("8.8.8.8", 0, &[], &["127.0.0.1"]), "8.8.8.8");
        assert_eq!(client("8.8.8.8", 0, &[], &["junk"]), "8.8.8.8");
    }

    #[test]
    fn entries_are_counted_from_the_right() {
        let cases: [(u8, &[&str], &str); 9] = [
            (1, &["9.9.9.9"], "9.9.9.9"),
            (1, &["1.1.1.1, 9.9.9.9"], "9.9.9.9"),
            (2, &["1.1.1.1, 9.9.9.9"], "1.1.1.1"),
            (2, &["6.6.6.6, 1.1.1.1, 9.9.9.9"], "1.1.1.1"),
            (2, &["6.6.6.6", "1.1.1.1 ,9.9.9.9"], "1.1.1.1"),
            (1, &[], "unknown"),
            (2, &["9.9.9.9"], "unknown"),
            (1, &[""], "unknown"),
            (1, &["1.1.1.1,"], "unknown"),
        ];
        for (count, lines, expected) in cases {
            assert_eq!(client("10.0.0.1", count, &[], lines), expected, "{count} {lines:?}");
        }
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_read() {
        let cases = [
            ("9.9.9.9:443", "9.9.9.9"),
            ("[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::/64"),
            ("[2001:db8:1:2::1]", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("::ffff:9.9.9.9", "9.9.9.9"),
            ("unknown", "unknown"),
            ("_hidden", "unknown"),
            ("fe80::1%eth0", "unknown"),
            ("9.9.9.9:http", "unknown"),
            ("[::1]x", "unknown"),
            ("9.9.9", "unknown"),
            ("9.9.9.9:+443", "unknown"),
            ("9.9.9.9:", "unknown"),
            ("9.9.9.9:65536", "unknown"),
            ("09.9.9.9", "unknown"),
            ("[9.9.9.9]", "unknown"),
            ("[::1%25eth0]:80", "unknown"),
            ("[::ffff:9.9.9.9]:80", "9.9.9.9"),
            (" \t9.9.9.9\t", "9.9.9.9"),
            ("for=9.9.9.9", "unknown"),
            ("\"9.9.9.9\"", "unknown"),
        ];
        for (entry, expected) in cases {
            assert_eq!(client("10.0.0.1", 1, &[], &[entry]), expected, "{entry}");
        }
    }

    #[test]
    fn only_a_vouched_peer_is_believed() {
        assert_eq!(client("10.0.0.1", 1, &["10.0.0.0/8"], &["9.9.9.9"]), "9.9.9.9");
        assert_eq!(client("11.0.0.1", 1, &["10.0.0.0/8"], &["9.9.9.9"]), "11.0.0.1");
        assert_eq!(client("::ffff:10.0.0.1", 1, &["10.0.0.0/8"], &["9.9.9.9"]), "9.9.9.9");
    }

    #[test]
    fn the_way_has_what_the_proxies_wrote_and_nothing_before_it() {
        let way = |count, line: &'static str| {
            let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), HeaderValue::from_static(line))]);
            TrustedProxies { count, networks: Vec::new() }.way("10.0.0.1:4000".parse().unwrap(), &headers)
        };
        assert_eq!(way(0, "6.6.6.6"), "10.0.0.1");
        assert_eq!(way(1, "6.6.6.6, 9.9.9.9:80"), "9.9.9.9, 10.0.0.1");
        assert_eq!(way(2, "6.6.6.6, 9.9.9.9, _hidden"), "9.9.9.9, unknown, 10.0.0.1");
        assert_eq!(way(2, "9.9.9.9"), "10.0.0.1");
    }

    #[test]
    fn absurd_headers_are_refused() {
        let many = vec!["1.1.1.1"; 33].join(",");
        assert_eq!(client("10.0.0.1", 1, &[], &[&many]), "absurd");
        assert_eq!(client("10.0.0.1", 1, &[], &[&" ".repeat(2049)]), "absurd");
        assert_eq!(client("10.0.0.1", 0, &[], &[&many]), "10.0.0.1");
    }

    #[test]
    fn one_v6_network_is_one_caller() {
        assert_eq!(client("2001:db8::1", 0, &[], &[]), client("2001:db8::ffff:2", 0, &[], &[]));
        assert_ne!(client("2001:db8::1", 0, &[], &[]), client("2001:db8:0:1::1", 0, &[], &[]));
    }

    #[test]
    fn other_headers_and_bytes_that_are_no_text_say_nothing() {
        let peer = "10.0.0.1:4000".parse().unwrap();
        let proxies = TrustedProxies { count: 1, networks: Vec::new() };
        let address = |name: &'static str, value: &[u8]| {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_bytes(value).unwrap())]);
            proxies.client_address(peer, &headers).unwrap()
        };
        for name in ["forwarded", "x-real-ip", "cf-connecting-ip", "true-client-ip"] {
            assert_eq!(address(name, b"127.0.0.1"), ClientAddress::Unknown, "{name}");
        }
        for value in [&b"\xff\xfe"[..], "9.9.9.9\u{a0}".as_bytes()] {
            assert_eq!(address("x-forwarded-for", value), ClientAddress::Unknown);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(fuzz_cases()))]

        #[test]
        fn no_lines_make_it_panic_or_believe_more_than_the_proxies_wrote(
            junk in proptest::collection::vec("[ -~\\t]{0,60}", 0..4),
            bytes in proptest::collection::vec(0x80..=0xff_u8, 0..40),
            count in 0..=8_u8,
        ) {
            let peer: SocketAddr = "10.0.0.1:4000".parse().unwrap();
            let proxies = TrustedProxies { count, networks: Vec::new() };
            let mut headers = HeaderMap::new();
            headers.append("x-forwarded-for", HeaderValue::from_bytes(&bytes).unwrap());
            for line in &junk {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            let address = proxies.client_address(peer, &headers);
            _ = proxies.way(peer, &headers);
            if count == 0 {
                prop_assert_eq!(address, Ok(ClientAddress::Known(peer.ip())));
            } else {
                // What the operator's own proxies append decides, whatever stands before it.
                let own: Vec<String> = (1..=count).map(|number| format!("192.0.2.{number}")).collect();
                headers.append("x-forwarded-for", own.join(", ").parse().unwrap());
                let expected = ClientAddress::Known("192.0.2.1".parse().unwrap());
                let address = proxies.client_address(peer, &headers);
                prop_assert!(address == Ok(expected) || address == Err(AbsurdForwarding));
            }
        }
    }
}
