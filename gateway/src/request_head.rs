//! Whether the head of a request says one thing only about whom it is for.
//!
//! Responsible for what the HTTP library leaves to its user: RFC 9112 §3.2, one `Host`. Must never choose between two
//! readings: whoever stands in front may have chosen the other one, and a request that two hops understand differently
//! is how one client's request becomes another's.

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Version};

use crate::refusal::{Refused, RequestFault};

/// Refuses a request that names no host, two, or one that is none.
pub(crate) fn check(parts: &Parts) -> Result<(), Refused> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let fault = if another.is_some() {
        "must be given once"
    } else if host.is_none() && parts.version == Version::HTTP_11 {
        "is required"
    } else if host.is_some_and(|host| !is_host(host)) {
        "must be a host, and its port if need be"
    } else if host.is_some_and(|host| parts.uri.authority().is_some_and(|target| !same(target, host))) {
        "must be the host of the request's target"
    } else {
        return Ok(());
    };
    Err(Refused::invalid(vec![RequestFault::new("Host", fault)]))
}

/// A host and maybe a port, without a user name, and not two of them joined; empty for a target without a host.
fn is_host(host: &HeaderValue) -> bool {
    let bytes = host.as_bytes();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    // Most are, and are not copied to be read.
    bytes.iter().all(is_name)
        || (!bytes.iter().any(|byte| matches!(byte, b'@' | b',')) && Authority::try_from(bytes).is_ok())
}

fn same(target: &Authority, host: &HeaderValue) -> bool {
    target.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn sound(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let request = Request::builder().version(version).uri(uri);
        let request = hosts.iter().fold(request, |request, host| request.header("host", *host));
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn one_host_is_named() {
        for host in ["h", "example.com:8080", "127.0.0.1", "[::1]:80", ""] {
            assert!(sound(Version::HTTP_11, "/", &[host]), "{host:?}");
        }
        assert!(!sound(Version::HTTP_11, "/", &[]));
        assert!(sound(Version::HTTP_10, "/", &[]), "which knew of none");
        assert!(sound(Version::HTTP_2, "http://h/", &[]), "which names it elsewhere");
        for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
            assert!(!sound(version, "/", &["a", "a"]));
        }
    }

    #[test]
    fn a_host_is_nothing_else() {
        for host in ["a b", "a/b", "user@h", "h?x", "h,i", "http://h"] {
            assert!(!sound(Version::HTTP_11, "/", &[host]), "{host:?}");
        }
    }

    #[test]
    fn whatever_is_taken_for_a_name_at_once_is_a_host() {
        for first in b'!'..=b'~' {
            for text in [vec![first], vec![b'.', first], vec![first, b'-', b'8']] {
                let expected = !matches!(first, b'@' | b',') && Authority::try_from(&text[..]).is_ok();
                let host = HeaderValue::from_bytes(&text).unwrap();
                assert_eq!(is_host(&host), expected, "{host:?}");
            }
        }
    }

    #[test]
    fn the_target_and_the_host_agree() {
        assert!(sound(Version::HTTP_11, "http://Example.com/x", &["example.COM"]));
        assert!(!sound(Version::HTTP_11, "http://inner/x", &["outer"]));
        assert!(!sound(Version::HTTP_2, "http://inner/x", &["outer"]));
    }
}
