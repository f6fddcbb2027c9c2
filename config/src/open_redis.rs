//! Whether a Redis would be open to whoever reaches its network.
//!
//! Responsible for judging a URL as the client reads it: the password of its authority, its host, and the further nodes
//! of its query. Must never take a user name, or the password of a Sentinel, for a password of Redis. Servers that a
//! cluster or a Sentinel names later are not known here.

use std::net::IpAddr;

use url::Url;

/// The first host off loopback of a URL without a password. A URL that cannot be read leads nowhere.
#[must_use]
pub fn open_redis(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    if url.password().is_some_and(|password| !password.is_empty()) {
        return None;
    }
    let nodes = url.query_pairs().filter(|(name, _)| name == "node").map(|(_, node)| node.into_owned());
    let nodes = nodes.map(|node| node.rsplit_once(':').map(|(host, _)| host.to_owned()).unwrap_or(node));
    let mut hosts = url.host_str().map(str::to_owned).into_iter().chain(nodes);
    hosts.find(|host| !is_loopback(host))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<IpAddr>();
    bare.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_on_loopback_or_with_a_password_is_not_open() {
        for url in [
            "redis://127.0.0.1:6379",
            "redis://127.8.9.1",
            "redis://localhost:6379/1",
            "redis://LocalHost:6379",
            "rediss://[::1]:6379",
            "redis://[::ffff:127.0.0.1]:6379",
            "redis://:secret@db.internal:6379",
            "redis://user:secret@[2001:db8::7]:6379/2",
            "redis://user:se%2Fcret%40@10.0.0.1:6379",
            "redis-cluster://127.0.0.1:7000?node=127.0.0.1:7001&node=localhost:7002",
            "redis-cluster://:secret@10.0.0.1:7000?node=10.0.0.2:7000",
            "redis-sentinel://:secret@10.0.0.1:26379?node=10.0.0.2:26379&sentinelServiceName=main",
            "not a url",
            "",
        ] {
            assert_eq!(open_redis(url), None, "{url}");
        }
    }

    #[test]
    fn one_off_loopback_without_a_password_is_named() {
        for (url, host) in [
            ("redis://db.internal:6379", "db.internal"),
            ("redis://10.0.0.1", "10.0.0.1"),
            ("rediss://[2001:db8::7]:6379", "[2001:db8::7]"),
            ("redis://localhost.evil:6379", "localhost.evil"),
            ("redis://127.0.0.1.evil:6379", "127.0.0.1.evil"),
            ("redis://0.0.0.0:6379", "0.0.0.0"),
            ("redis://user@db:6379", "db"),
            ("redis://user:@db:6379", "db"),
            ("redis://127.0.0.1@db:6379", "db"),
            ("redis-cluster://127.0.0.1:7000?node=127.0.0.1:7001&node=10.0.0.2:7000", "10.0.0.2"),
            ("redis-sentinel://127.0.0.1:26379?node=10.0.0.2:26379&sentinelServiceName=main", "10.0.0.2"),
            ("redis-sentinel://10.0.0.1:26379?sentinelServiceName=main&sentinelPassword=secret", "10.0.0.1"),
            ("redis://db:6379/0?password=secret", "db"),
        ] {
            assert_eq!(open_redis(url).as_deref(), Some(host), "{url}");
        }
    }
}
