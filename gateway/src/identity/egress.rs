//! Where the gateway may connect to for an issuer's keys.
//!
//! Responsible for keeping a URL in a document from becoming a way into the operator's own network: the scheme, the
//! form and a literal address are checked when the document is read and again at each fetch; a name's addresses are
//! checked when it is resolved, and the connection goes to the very addresses that were checked. Must never trust a
//! name because it was harmless before: DNS answers change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

/// Hosts that may have addresses which are not public.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    allow: Vec<String>,
}

impl Egress {
    /// Lets these hosts (names or addresses, without a port) have addresses that are not public.
    pub fn new(allow: impl IntoIterator<Item = String>) -> Self {
        Self { allow: allow.into_iter().map(|host| normal(&host)).collect() }
    }

    /// The URL, if nothing about it is wrong that shows without asking DNS; else what is.
    ///
    /// # Errors
    ///
    /// The reason, fit to stand in a fault.
    pub fn check_url(&self, text: &str) -> Result<Url, &'static str> {
        let url = Url::parse(text).map_err(|_| "is not a URL")?;
        let host = normal(url.host_str().ok_or("names no host")?);
        let literal = host.parse::<IpAddr>().ok();
        let loopback = is_localhost(&host) || literal.is_some_and(|address| address.to_canonical().is_loopback());
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err("must be https (http only to a loopback address)"),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user name or password");
        }
        if url.fragment().is_some() {
            return Err("must not have a fragment");
        }
        let private = is_localhost(&host) || literal.is_some_and(|address| !is_public(address));
        if private && !self.allows(&host) {
            return Err("leads to an address that is not public; name its host in egress_allow if that is meant");
        }
        Ok(url)
    }

    /// Whether a connection for this host may go to this address.
    #[must_use]
    pub fn permits(&self, host: &str, address: IpAddr) -> bool {
        is_public(address) || self.allows(&normal(host))
    }

    fn allows(&self, host: &str) -> bool {
        self.allow.iter().any(|allowed| allowed == host)
    }
}

/// The one spelling of a host: without brackets, the root's dot and capitals.
fn normal(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

/// RFC 6761 §6.3: these names are loopback whatever DNS says.
fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Whether an address can be reached from everywhere (IANA's special-purpose registries, RFC 6890 and later).
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224.., ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

/// Only `2000::/3` is given out, and not all of it: an IPv4 address in an IPv6 one (6to4, Teredo, NAT64) would lead to
/// whatever that is.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        let public =
            ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "2001:4860::1"];
        for address in public {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        let other = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "3fff::1",
        ];
        for address in other {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_url_that_shows_its_danger_is_refused_at_once() {
        let egress = Egress::default();
        assert!(egress.check_url("https://issuer.example/keys?x=1").is_ok());
        let refused = [
            "",
            "keys",
            "http://issuer.example/keys",
            "ftp://issuer.example/",
            "file:///etc/passwd",
            "https://user@issuer.example/",
            "https://u:p@issuer.example/",
            "https://issuer.example/#x",
            "https://169.254.169.254/latest",
            "https://[::ffff:169.254.169.254]/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://a.localhost/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://10.0.0.1:8443/",
            "http://127.0.0.1/",
        ];
        for url in refused {
            assert!(egress.check_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_host_that_is_named_may_be_private_and_plain_only_on_loopback() {
        let egress = Egress::new(["127.0.0.1".to_owned(), "Keys.Internal".to_owned(), "10.0.0.1".to_owned()]);
        assert!(egress.check_url("http://127.0.0.1:9000/keys").is_ok());
        assert!(egress.check_url("https://10.0.0.1/keys").is_ok());
        assert!(egress.check_url("http://10.0.0.1/keys").is_err());
        assert!(egress.check_url("http://keys.internal/").is_err());
        let private = "10.0.0.7".parse().unwrap();
        assert!(egress.permits("keys.internal.", private));
        assert!(!egress.permits("other.internal", private));
    }
}
