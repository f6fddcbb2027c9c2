//! The address that a proof was made for.
//!
//! Responsible for comparing addresses as RFC 9449 §4.3 wants it: without query and fragment, after the normalisation
//! of RFC 3986 §6.2.2 and §6.2.3. Must never be made from what a request says of its own host.

use std::str::FromStr;

/// Longest address, bytes.
const LENGTH_MAX: usize = 2048;

const DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// An `http` or `https` address in its normal form, without query and fragment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TargetUri(String);

/// A text that is no absolute `http` or `https` address, names a user, or steps up with `.` and `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an absolute http or https address without user and dot segments")]
pub struct NotTarget;

impl TargetUri {
    /// The normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TargetUri {
    type Err = NotTarget;

    fn from_str(text: &str) -> Result<Self, NotTarget> {
        if text.len() > LENGTH_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(NotTarget);
        }
        let text = text.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = text.split_once("://").ok_or(NotTarget)?;
        let scheme = scheme.to_ascii_lowercase();
        let default_port = match scheme.as_str() {
            "http" => ":80",
            "https" => ":443",
            _ => return Err(NotTarget),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let authority = authority.to_ascii_lowercase();
        let authority = authority.strip_suffix(default_port).unwrap_or(&authority);
        let authority = authority.strip_suffix(':').unwrap_or(authority);
        if authority.is_empty() || authority.contains(['@', '\\', '%']) {
            return Err(NotTarget);
        }
        let path = if path.is_empty() { "/".to_owned() } else { normal_path(path)? };
        // Whoever sends a request has resolved these; a proof that has not is for nowhere.
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err(NotTarget);
        }
        Ok(Self(format!("{scheme}://{authority}{path}")))
    }
}

/// The path with what need not be escaped unescaped, and what must be escaped in capitals.
fn normal_path(path: &str) -> Result<String, NotTarget> {
    let mut normal = String::with_capacity(path.len());
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            normal.push(letter);
            continue;
        }
        let mut digit = || letters.next().and_then(|letter| letter.to_digit(16)).ok_or(NotTarget);
        let byte = (digit()? * 16 + digit()?) as u8;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
            normal.extend(['%', high, low]);
        }
    }
    Ok(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_the_same_are_the_same() {
        let same = [
            ("HTTPS://GW.Example/v1/tasks", "https://gw.example/v1/tasks"),
            ("https://gw.example:443/v1/tasks?x=1#y", "https://gw.example/v1/tasks"),
            ("http://gw.example:80", "http://gw.example/"),
            ("https://gw.example:/", "https://gw.example/"),
            ("https://gw.example/%7euser/%2f", "https://gw.example/~user/%2F"),
            ("http://[::1]:8080/a", "http://[::1]:8080/a"),
        ];
        for (text, normal) in same {
            assert_eq!(text.parse::<TargetUri>().unwrap().as_str(), normal);
        }
    }

    #[test]
    fn addresses_that_mean_something_else_stay_different() {
        let target: TargetUri = "https://gw.example/v1/tasks".parse().unwrap();
        for other in [
            "http://gw.example/v1/tasks",
            "https://gw.example:80/v1/tasks",
            "https://gw.example/v1/tasks/",
            "https://gw.example/V1/tasks",
            "https://gw.example/v1%2Ftasks",
            "https://gw.example.evil/v1/tasks",
        ] {
            assert_ne!(other.parse::<TargetUri>().unwrap(), target, "{other}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "/v1/tasks",
            "ftp://gw.example/",
            "https:///v1",
            "https://u@gw.example/",
            "https://gw.example/a/../b",
            "https://gw.example/a/%2e%2E/b",
            "https://gw.example/%4",
            "https://gw.example/%zz",
            "https://gw.example/ x",
            "https://gw.example/é",
        ] {
            assert_eq!(text.parse::<TargetUri>(), Err(NotTarget), "{text}");
        }
    }
}
