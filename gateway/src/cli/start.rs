//! The refusals to start: what would leave a gateway open to the world.
//!
//! Responsible for the rules below, each checked before any socket is bound and each named by the setting that breaks
//! it. Must never be softened by a default: whoever wants less safety has to write so.
//!
//! - The admin listener needs a token, on loopback too, because every user and web page of a machine reaches loopback;
//!   and no token may be one that can be guessed.
//! - Serving anonymous callers only has to be asked for. Development tokens count as a credential provider.
//! - A Redis off loopback has to ask for a password, unless that is said to be meant: who reaches it is everybody.
//! - Session cookies go over plain HTTP on loopback only.
//! - An identity document must not let in whom its author does not know, nor a policy the pages of anybody with the
//!   cookies of their readers: see [`lets_in`].
//! - Development tokens let anyone be anyone, so they stay on loopback listeners.
//! - Whoever reaches Envoy's rate limit service may describe any caller, so off loopback it needs a token.
//! - Operators have a listener of their own, and so has Envoy's rate limit service: what is open to the public must not
//!   be where they are asked.
//! - A listener off loopback needs a proxy in front that speaks TLS: a gateway speaks plain HTTP. Where there is a list
//!   of addresses it listens to, that proxy has to be known, or whoever reaches the listener would choose his own.

use std::net::{IpAddr, SocketAddr};

use portcullis_config::{Fault, weakness};
use secrecy::{ExposeSecret, SecretString};

use crate::identity::ip_allow::IpAllow;

/// Bearer token of the admin listener.
pub(crate) const ADMIN_TOKEN: &str = "PORTCULLIS_ADMIN_TOKEN";
/// Bearer token of the listener of Envoy's rate limit service.
pub(crate) const RLS_TOKEN: &str = "PORTCULLIS_RLS_TOKEN";

/// The settings that decide whether a gateway would be open.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, on or off")]
pub(crate) struct Exposure {
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Of Envoy's rate limit service, if it is served.
    pub(crate) rls: Option<SocketAddr>,
    pub(crate) admin_token: Option<SecretString>,
    pub(crate) rls_token: Option<SecretString>,
    pub(crate) dev_tokens: bool,
    /// Whether somebody can be identified by a credential.
    pub(crate) has_provider: bool,
    /// Whether session cookies go over plain HTTP.
    pub(crate) insecure_cookie: bool,
    /// Where Redis is, if it is off loopback, asks for no password, and nobody said that this is meant.
    pub(crate) open_redis: Option<String>,
    pub(crate) allow_anonymous_only: bool,
    pub(crate) trusted_proxy_count: u8,
    /// Whether the proxies are known by their addresses.
    pub(crate) knows_proxies: bool,
    pub(crate) ip_allow: IpAllow,
}

impl Exposure {
    /// Why this gateway must not start, a line for each reason; empty if it may.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        if self.admin_token.is_none() {
            refusals.push("PORTCULLIS_ADMIN_TOKEN is not set: the admin listener needs a token".to_owned());
        }
        refusals.extend(self.weak_tokens());
        if !self.dev_tokens && !self.has_provider && !self.allow_anonymous_only {
            refusals.push(
                "PORTCULLIS_ALLOW_ANONYMOUS_ONLY is not set and no credential provider is configured: every caller \
                 would be anonymous (PORTCULLIS_IDENTITY_PATH names providers; on loopback, --dev-tokens is one)"
                    .to_owned(),
            );
        }
        if let Some(host) = &self.open_redis {
            refusals.push(format!(
                "PORTCULLIS_ALLOW_OPEN_REDIS is not set and REDIS_URL has no password while Redis is at {host}: \
                 whoever reaches it can do anything"
            ));
        }
        if self.insecure_cookie && !self.public.ip().to_canonical().is_loopback() {
            refusals.push(format!(
                "cookies.secure is false while PORTCULLIS_LISTEN is {}: sessions would go over plain HTTP",
                self.public
            ));
        }
        if let Some(address) = self.rls.filter(|rls| !rls.ip().to_canonical().is_loopback())
            && self.rls_token.is_none()
        {
            refusals.push(format!(
                "{RLS_TOKEN} is not set while PORTCULLIS_RLS_LISTEN is {address}: who asks there says who the caller is"
            ));
        }
        refusals.extend(self.shared_listeners());
        refusals.extend(self.reachable_listeners());
        refusals
    }

    /// Listeners that would be at the same address, a line for each.
    fn shared_listeners(&self) -> impl Iterator<Item = String> {
        let admin = ("PORTCULLIS_ADMIN_LISTEN", Some(self.admin), "PORTCULLIS_LISTEN", self.public);
        let rls = |setting, address| ("PORTCULLIS_RLS_LISTEN", self.rls, setting, address);
        let pairs = [admin, rls("PORTCULLIS_LISTEN", self.public), rls("PORTCULLIS_ADMIN_LISTEN", self.admin)];
        pairs.into_iter().filter_map(|(setting, address, other, taken)| {
            let address = address.filter(|address| meet(*address, taken))?;
            Some(format!("{setting} is {address} while {other} is {taken}: each needs an address of its own"))
        })
    }

    /// What is wrong with the listeners off loopback, a line for each reason.
    fn reachable_listeners(&self) -> Vec<String> {
        let mut refusals = Vec::new();
        let listeners = [
            ("PORTCULLIS_LISTEN", self.public, "public", &self.ip_allow.public),
            ("PORTCULLIS_ADMIN_LISTEN", self.admin, "admin", &self.ip_allow.admin),
        ];
        for (setting, address, list, listened_to) in listeners {
            if address.ip().to_canonical().is_loopback() {
                continue;
            }
            if self.dev_tokens {
                refusals.push(format!(
                    "--dev-tokens is set while {setting} is {address}: development tokens are for loopback listeners"
                ));
            }
            if self.trusted_proxy_count == 0 {
                refusals.push(format!(
                    "TRUSTED_PROXY_COUNT is 0 while {setting} is {address}: off loopback, a proxy with TLS must stand \
                     in front"
                ));
            } else if !self.knows_proxies && !listened_to.is_empty() {
                refusals.push(format!(
                    "TRUSTED_PROXY_CIDRS is not set while {setting} is {address} and ip_allow.{list} is: whoever \
                     reaches it would choose the address that is looked for on the list"
                ));
            }
        }
        refusals
    }

    /// Tokens that somebody could guess, a line for each.
    fn weak_tokens(&self) -> impl Iterator<Item = String> {
        let given = [(ADMIN_TOKEN, &self.admin_token), (RLS_TOKEN, &self.rls_token)];
        given
            .into_iter()
            .filter_map(|(setting, token)| Some(format!("{setting} {}", weakness(token.as_ref()?.expose_secret())?)))
    }
}

/// Whether a connection to one of these addresses could be one to the other. Port 0 is a port of its own each time.
fn meet(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
    let both = ip == other_ip || takes_in(ip, other_ip) || takes_in(other_ip, ip);
    one.port() != 0 && one.port() == other.port() && both
}

/// Whether a listener there hears what is sent to the other address. `::` takes IPv4 in (RFC 3493, section 5.3), unless
/// its machine is told otherwise, which is not known here; `0.0.0.0` takes no IPv6 in.
fn takes_in(everywhere: IpAddr, other: IpAddr) -> bool {
    everywhere.is_unspecified() && (everywhere.is_ipv6() || other.is_ipv4())
}

/// Whether a fault of a document would have let somebody in who should not be: tokens for others, keys that can be
/// guessed, a service that is nobody, pages of any origin. Anything else that is wrong with it is bad configuration.
pub(crate) fn lets_in(fault: &Fault) -> bool {
    let names: Vec<&str> = fault.path.split('.').map(|name| name.split('[').next().unwrap_or(name)).collect();
    matches!(
        names[..],
        ["issuers", "audiences" | "client_ids" | "algorithms", ..]
            | ["alb", "signer" | "subnets", ..]
            | ["internal", "tokens" | "principal", ..]
            | ["cors", "allow_credentials"]
    )
}

#[cfg(test)]
mod tests {
    use portcullis_config::{Component, LoadError, open_redis};

    use super::*;
    use crate::identity::{self, ip_allow};

    /// On loopback with development tokens: nothing to refuse.
    fn safe() -> Exposure {
        Exposure {
            public: "127.0.0.1:8080".parse().unwrap(),
            admin: "[::1]:8081".parse().unwrap(),
            rls: Some("127.0.0.1:8083".parse().unwrap()),
            rls_token: None,
            admin_token: Some("0123456789abcdef0123456789abcdef".into()),
            dev_tokens: true,
            has_provider: false,
            insecure_cookie: false,
            open_redis: None,
            allow_anonymous_only: false,
            trusted_proxy_count: 0,
            knows_proxies: false,
            ip_allow: IpAllow::default(),
        }
    }

    fn settings(exposure: &Exposure) -> Vec<String> {
        let first_word = |line: String| line.split(' ').next().unwrap().to_owned();
        exposure.refusals().into_iter().map(first_word).collect()
    }

    #[test]
    fn a_gateway_on_loopback_with_a_provider_starts() {
        assert_eq!(safe().refusals(), Vec::<String>::new());
        let anonymous_only = Exposure { dev_tokens: false, allow_anonymous_only: true, ..safe() };
        assert_eq!(anonymous_only.refusals(), Vec::<String>::new());
        let mapped = Exposure { public: "[::ffff:127.0.0.1]:8080".parse().unwrap(), ..safe() };
        assert_eq!(mapped.refusals(), Vec::<String>::new());
    }

    #[test]
    fn each_way_to_be_open_is_refused_by_the_name_of_its_setting() {
        let off_loopback: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let [admin, rls]: [SocketAddr; 2] = ["0.0.0.0:8081", "0.0.0.0:8083"].map(|address| address.parse().unwrap());
        let anonymous = Exposure { dev_tokens: false, allow_anonymous_only: true, ..safe() };
        let table = [
            (Exposure { admin_token: None, ..safe() }, vec!["PORTCULLIS_ADMIN_TOKEN"]),
            (Exposure { dev_tokens: false, ..safe() }, vec!["PORTCULLIS_ALLOW_ANONYMOUS_ONLY"]),
            (Exposure { public: off_loopback, ..safe() }, vec!["--dev-tokens", "TRUSTED_PROXY_COUNT"]),
            (Exposure { admin, trusted_proxy_count: 1, ..safe() }, vec!["--dev-tokens"]),
            (Exposure { public: off_loopback, ..anonymous.clone() }, vec!["TRUSTED_PROXY_COUNT"]),
            (Exposure { admin, ..anonymous.clone() }, vec!["TRUSTED_PROXY_COUNT"]),
            (Exposure { public: off_loopback, trusted_proxy_count: 1, ..anonymous }, vec![]),
            (Exposure { rls: Some(rls), ..safe() }, vec!["PORTCULLIS_RLS_TOKEN"]),
            (Exposure { rls: Some(rls), rls_token: safe().admin_token, ..safe() }, vec![]),
            (Exposure { rls: None, ..safe() }, vec![]),
        ];
        for (exposure, expected) in table {
            assert_eq!(settings(&exposure), expected, "{exposure:?}");
        }
    }

    #[test]
    fn listeners_have_addresses_of_their_own() {
        let at = |address: &str| address.parse::<SocketAddr>().unwrap();
        let table = [
            (Exposure { admin: safe().public, ..safe() }, vec!["PORTCULLIS_ADMIN_LISTEN"]),
            (Exposure { admin: at("[::ffff:127.0.0.1]:8080"), ..safe() }, vec!["PORTCULLIS_ADMIN_LISTEN"]),
            (Exposure { rls: Some(safe().public), ..safe() }, vec!["PORTCULLIS_RLS_LISTEN"]),
            (Exposure { rls: Some(safe().admin), ..safe() }, vec!["PORTCULLIS_RLS_LISTEN"]),
            (Exposure { public: at("127.0.0.1:0"), admin: at("127.0.0.1:0"), ..safe() }, vec![]),
            (Exposure { admin: at("127.0.0.2:8080"), ..safe() }, vec![]),
        ];
        for (exposure, expected) in table {
            assert_eq!(settings(&exposure), expected, "{exposure:?}");
        }
        let pairs = [
            ("0.0.0.0", "127.0.0.1", true),
            ("[::]", "127.0.0.1", true),
            ("[::]", "[::1]", true),
            ("[::]", "0.0.0.0", true),
            ("0.0.0.0", "[::ffff:127.0.0.1]", true),
            ("0.0.0.0", "[::1]", false),
            ("127.0.0.1", "[::1]", false),
        ];
        for (one, other, expected) in pairs {
            let [one, other] = [one, other].map(|ip| at(&format!("{ip}:8080")));
            assert_eq!((meet(one, other), meet(other, one)), (expected, expected), "{one} and {other}");
        }
    }

    #[test]
    fn everything_that_is_open_is_named_at_once() {
        let open = Exposure { public: "192.0.2.1:80".parse().unwrap(), admin_token: None, dev_tokens: false, ..safe() };
        let expected = ["PORTCULLIS_ADMIN_TOKEN", "PORTCULLIS_ALLOW_ANONYMOUS_ONLY", "TRUSTED_PROXY_COUNT"];
        assert_eq!(settings(&open), expected);
    }

    #[test]
    fn a_weak_token_is_refused_and_never_shown() {
        let with = |token: &str| Exposure { admin_token: Some(token.into()), rls_token: Some(token.into()), ..safe() };
        for token in ["short", &"x".repeat(40), "0123456789abcdef 0123456789abcdef", &"change-me-".repeat(4)] {
            let exposure = with(token);
            assert_eq!(settings(&exposure), ["PORTCULLIS_ADMIN_TOKEN", "PORTCULLIS_RLS_TOKEN"], "{token}");
            assert!(exposure.refusals().iter().all(|line| !line.contains(token)), "{token}");
        }
        assert!(!format!("{:?}", safe()).contains("0123456789abcdef"));
    }

    #[test]
    fn sessions_over_plain_http_stay_on_loopback() {
        let public: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let insecure = Exposure { insecure_cookie: true, ..safe() };
        assert_eq!(insecure.refusals(), Vec::<String>::new());
        let behind_a_proxy =
            Exposure { public, dev_tokens: false, has_provider: true, trusted_proxy_count: 1, ..insecure };
        assert_eq!(settings(&behind_a_proxy), ["cookies.secure"]);
        let secure = Exposure { insecure_cookie: false, ..behind_a_proxy };
        assert_eq!(settings(&secure), Vec::<String>::new());
    }

    #[test]
    fn a_list_of_addresses_is_of_no_use_where_anybody_may_say_what_his_is() {
        let off_loopback: SocketAddr = "0.0.0.0:8080".parse().unwrap();
        let admin_off_loopback: SocketAddr = "0.0.0.0:8081".parse().unwrap();
        let behind_a_proxy = || Exposure { dev_tokens: false, has_provider: true, trusted_proxy_count: 1, ..safe() };
        let lan = ip_allow::lan;
        let public = || IpAllow { public: lan(), ..IpAllow::default() };
        let admin = || IpAllow { admin: lan(), ..IpAllow::default() };
        let table = [
            (Exposure { public: off_loopback, ip_allow: public(), ..behind_a_proxy() }, 1),
            (Exposure { admin: admin_off_loopback, ip_allow: admin(), ..behind_a_proxy() }, 1),
            (Exposure { public: off_loopback, ip_allow: public(), knows_proxies: true, ..behind_a_proxy() }, 0),
            (Exposure { public: off_loopback, ip_allow: admin(), ..behind_a_proxy() }, 0),
            (Exposure { public: off_loopback, ..behind_a_proxy() }, 0),
            (Exposure { ip_allow: public(), ..behind_a_proxy() }, 0),
        ];
        for (exposure, refusals) in table {
            assert_eq!(settings(&exposure), vec!["TRUSTED_PROXY_CIDRS"; refusals], "{exposure:?}");
        }
    }

    #[test]
    fn a_redis_that_anybody_can_use_is_refused_unless_that_is_meant() {
        let open = Exposure { open_redis: open_redis("redis://10.0.0.1"), ..safe() };
        assert_eq!(settings(&open), ["PORTCULLIS_ALLOW_OPEN_REDIS"]);
        assert!(open.refusals()[0].contains("10.0.0.1"));
    }

    #[test]
    fn pages_of_any_origin_with_the_cookies_of_their_readers_are_refused_as_open() {
        let faults = |cors: &str| {
            let document = format!("{{tenant: a, project: b, cors: {cors}}}");
            match portcullis_config::parse(&document, Component::Ingress, &|_| None).unwrap_err() {
                LoadError::Invalid { faults, .. } => faults,
                error @ LoadError::Unreadable { .. } => panic!("{error}"),
            }
        };
        assert!(faults("{allowed_origins: ['*'], allow_credentials: true}").iter().all(lets_in));
        assert!(!faults("{allowed_origins: ['null'], allow_credentials: true}").iter().any(lets_in));
    }

    #[test]
    fn faults_that_let_somebody_in_are_told_from_others() {
        let faults = |text: &str| identity::document::parse(text, &|_| None).unwrap_err();
        let issuer =
            "issuers: [{issuer: 'https://i.example', jwks_url: 'https://i.example/k', principal_prefix: 'i:', ";
        for open in [
            format!("{issuer} algorithms: [RS256]}}]"),
            format!("{issuer} algorithms: [RS256], audiences: [a], token_use: [access]}}]"),
            format!("{issuer} algorithms: [none], audiences: [a]}}]"),
            format!("{issuer} algorithms: [HS256], audiences: [a]}}]"),
            format!("{issuer} algorithms: [], audiences: [a]}}]"),
            "internal: {tokens: [], principal: p}".to_owned(),
            "internal: {tokens: ['env:UNSET'], principal: p}".to_owned(),
            "internal: {}".to_owned(),
        ] {
            let faults = faults(&open);
            assert!(faults.iter().all(lets_in), "{open}: {faults:?}");
        }
        for wrong in [
            "issuer: []".to_owned(),
            format!("{issuer} algorithms: [RS256], audiences: [a], colour: red}}]"),
            "api_keys: [{id: short, sha256: '', owner: o, user_type: paid}]".to_owned(),
            "sessions: {max_age_seconds: 1}".to_owned(),
        ] {
            let faults = faults(&wrong);
            assert!(!faults.iter().any(lets_in), "{wrong}: {faults:?}");
        }
    }
}
