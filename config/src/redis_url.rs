//! Credentials in URLs: in the one that a policy has, and in those that programs are given.
//!
//! Responsible for knowing and hiding them. Must never let one out: neither shown, nor stored where every replica and
//! every backup of Redis would hold it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::secret_name::is_secret_parameter;

/// Where Redis is. Prints without its credentials.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// With its credentials.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", masked(&self.0))
    }
}

/// A URL without the password that may stand between the scheme and the last `@`, and without secret parameters. Where
/// a password may stand because it is no URL, nothing of it is shown.
#[must_use]
pub fn masked(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (userinfo, rest) = rest.rsplit_once('@').map_or((None, rest), |(userinfo, rest)| (Some(userinfo), rest));
    let user = |userinfo: &str| userinfo.split_once(':').map_or("", |(user, _)| user).to_owned();
    let userinfo = userinfo.map(|userinfo| format!("{}:***@", user(userinfo))).unwrap_or_default();
    let Some((address, query)) = rest.split_once('?') else { return format!("{scheme}{userinfo}{rest}") };
    let mask = |parameter: &str| {
        let name = parameter.split('=').next().unwrap_or_default();
        if is_secret_parameter(name) { format!("{name}=***") } else { parameter.to_owned() }
    };
    let query: Vec<String> = query.split('&').map(mask).collect();
    format!("{scheme}{userinfo}{address}?{}", query.join("&"))
}

/// A text with every URL in it masked.
#[must_use]
pub fn masked_words(text: &str) -> String {
    let word = |word: &str| if word.contains("://") { masked(word) } else { word.to_owned() };
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

/// Whether a URL carries credentials: user information, or a query parameter named like a secret.
pub(crate) fn has_credentials(url: &str) -> bool {
    let is_named = |parameter: &str| is_secret_parameter(parameter.split('=').next().unwrap_or_default());
    url.contains('@') || url.split_once('?').is_some_and(|(_, query)| query.split('&').any(is_named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_found_wherever_they_stand() {
        for url in [
            "redis://user:wo?rd@db",
            "redis://user:word@db:6379",
            "redis://:wo/rd@db",
            "user@db",
            "redis-sentinel://a:1?sentinelPassword=word",
            "redis://db?x=1&token=word",
        ] {
            assert!(has_credentials(url), "{url}");
        }
        for url in ["redis://db:6379/1", "redis-sentinel://a:1,b:2?sentinelServiceName=main", ""] {
            assert!(!has_credentials(url), "{url}");
        }
    }

    #[test]
    fn it_prints_without_its_password() {
        let url = RedisUrl("redis://user:canary@db".to_owned());
        assert_eq!((format!("{url:?}").as_str(), url.expose()), (r#""redis://user:***@db""#, "redis://user:canary@db"));
    }

    #[test]
    fn the_password_is_masked_and_the_rest_stays() {
        assert_eq!(masked("redis://user:p@ss@host:6379/1"), "redis://user:***@host:6379/1");
        assert_eq!(
            masked("redis-sentinel://a:1,b:2?sentinelServiceName=m&sentinelPassword=word"),
            "redis-sentinel://a:1,b:2?sentinelServiceName=m&sentinelPassword=***"
        );
        assert_eq!(masked("redis://host:6379"), "redis://host:6379");
        assert_eq!(masked("user:word@host"), "user:***@host");
        assert_eq!(masked("ftp://host/run?api_key=word&x=1"), "ftp://host/run?api_key=***&x=1");
        let said = "error: unexpected argument 'redis://user:word@host' found\n\nUsage: program";
        assert_eq!(masked_words(said), said.replace(":word", ":***"));
    }
}
