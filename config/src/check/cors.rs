//! Origins: whether a browser could ever send one, and whether the list opens more than its author meant.
//!
//! Responsible for finding entries that match nothing, and those that would let any page act for whoever looks at it.
//! Must never repair an entry: what is matched is what is written.

use super::Findings;
use crate::fault::Path;
use crate::policy::Policy;

/// Checks the list of origins.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    let (cors, place) = (&policy.cors, Path::of("cors"));
    let origins = place.key("allowed_origins");
    for (index, origin) in cors.allowed_origins.iter().enumerate() {
        if let Some(fault) = fault(origin) {
            findings.error(&[origins.index(index)], fault);
        }
    }
    if cors.allows_any() && cors.allow_credentials {
        let message = "must be false where allowed_origins has \"*\": any page could act for whoever looks at it";
        findings.error(&[place.key("allow_credentials"), origins.clone()], message);
    }
    if cors.allows_any() && cors.allowed_origins.len() > 1 {
        findings.error(&[origins], "\"*\" is every origin: leave the others out, or leave \"*\" out");
    }
}

/// Why no browser sends this as its origin (RFC 6454 §6.2), or it must not be allowed.
fn fault(origin: &str) -> Option<String> {
    if origin == "*" {
        return None;
    }
    if origin == "null" {
        return Some("is what any page can make its browser send, from inside a sandbox".to_owned());
    }
    let Some((scheme, host_and_port)) = origin.split_once("://") else {
        return Some("must be a scheme and a host, such as https://app.example.com".to_owned());
    };
    let of_scheme = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '+' | '-' | '.');
    if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.chars().all(of_scheme) {
        return Some("must begin with a scheme in lower case, such as https".to_owned());
    }
    let (host, port) = match host_and_port.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (host_and_port, None),
    };
    let of_host =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '_' | '[' | ']' | ':');
    if host.is_empty() || !host.chars().all(of_host) {
        return Some(
            "must end with a host in lower case (an international one in its xn-- form), without a path, a slash, a \
             pattern or a user name"
                .to_owned(),
        );
    }
    match (scheme, port) {
        ("https", Some("443")) | ("http", Some("80")) => {
            Some("must leave out the port that its scheme has anyway, as browsers do".to_owned())
        }
        (_, Some(port)) if port.starts_with('0') || port.parse::<u16>().is_err() => {
            Some("must have a port from 1 to 65535".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_as_browsers_write_them_are_sound() {
        let sound = [
            "*",
            "https://app.example.com",
            "http://localhost:3000",
            "https://xn--bcher-kva.example",
            "http://[::1]:8080",
            "http://[::1]",
            "chrome-extension://abcdefghijklmnop",
        ];
        for origin in sound {
            assert_eq!(fault(origin), None, "{origin}");
        }
    }

    #[test]
    fn what_no_browser_sends_or_nobody_should_allow_is_a_fault() {
        let faulty = [
            "",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://*.example.com",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://b\u{fc}cher.example",
            "https://user@app.example.com",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://app.example.com:0",
            "https://app.example.com:99999",
            "https://a.example https://b.example",
        ];
        for origin in faulty {
            assert!(fault(origin).is_some(), "{origin}");
        }
    }
}
