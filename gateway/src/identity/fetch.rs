//! Fetching keys over HTTP.
//!
//! Responsible for the bounds of a fetch: no redirect, no proxy of the environment, a time, a size, and only addresses
//! that were checked. Must never keep a connection: the next fetch resolves and checks anew.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use schemars::JsonSchema;
use serde::Serialize;

use crate::identity::egress::Egress;

/// Longest time of one fetch.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer, bytes.
const MAX_BYTES: usize = 64 * 1024;

/// Longest name of a host that is told of, characters (RFC 1035 §2.3.4); others may have chosen it.
const MAX_HOST: usize = 255;

/// Fetches from where the rules permit.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    client: Client,
    egress: Egress,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The rules forbid it.
    #[error("{0}")]
    Forbidden(Forbidden),
    /// The server says there is no such thing.
    #[error("the server answered {0}")]
    Absent(StatusCode),
    /// The server cannot be reached, or its answer is none.
    #[error("{1}")]
    Failed(FetchFault, String),
}

impl FetchError {
    /// The same in a word.
    pub(crate) fn fault(&self) -> FetchFault {
        match self {
            Self::Forbidden(_) => FetchFault::AddressRefused,
            Self::Absent(_) => FetchFault::Status,
            Self::Failed(fault, _) => *fault,
        }
    }
}

/// A place that must not be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{host:?} {reason}")]
pub(crate) struct Forbidden {
    /// The host of the URL; empty where it names none.
    pub(crate) host: String,
    /// The address it stands for, or the first that its name has; `None` where it was not asked for.
    pub(crate) address: Option<IpAddr>,
    /// What is wrong with it, said of the host or of the URL.
    pub(crate) reason: &'static str,
}

impl Forbidden {
    fn url(text: &str, reason: &'static str) -> Self {
        let url = Url::parse(text).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        Self { host: host.chars().take(MAX_HOST).collect(), address, reason }
    }
}

/// Why a fetch brought no key, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FetchFault {
    /// No connection, or it broke off.
    Unreachable,
    /// No whole answer in time.
    Timeout,
    /// An answer with another status than 200.
    Status,
    /// An answer that is too large.
    TooLarge,
    /// An answer that leads elsewhere.
    Redirected,
    /// A URL or an address that the rules for where keys may come from forbid.
    AddressRefused,
    /// An answer that is no key set, no discovery document of the issuer's, or no key.
    Malformed,
    /// A key set without a key that is believed.
    NoUsableKey,
}

impl Fetcher {
    /// Fetches by these rules.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up on this machine.
    pub(crate) fn new(egress: Egress) -> Result<Self, String> {
        let client = Client::builder()
            .dns_resolver(CheckedResolver(egress.clone()))
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| said(&error))?;
        Ok(Self { client, egress })
    }

    /// The body behind this URL.
    pub(crate) async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let forbidden = |reason| FetchError::Forbidden(Forbidden::url(url, reason));
        let url = self.egress.check_url(url).map_err(forbidden)?;
        let mut answer = self.client.get(url).send().await.map_err(|error| failed(&error))?;
        let status = answer.status();
        if status != StatusCode::OK {
            let absent = matches!(status.as_u16(), 403 | 404 | 410);
            let fault = if status.is_redirection() { FetchFault::Redirected } else { FetchFault::Status };
            let error = format!("the server answered {status}");
            return Err(if absent { FetchError::Absent(status) } else { FetchError::Failed(fault, error) });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| failed(&error))? {
            if body.len() + chunk.len() > MAX_BYTES {
                let error = format!("the answer is larger than {MAX_BYTES} bytes");
                return Err(FetchError::Failed(FetchFault::TooLarge, error));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What became of a fetch that was begun.
fn failed(error: &reqwest::Error) -> FetchError {
    let refused = causes(error).find_map(|cause| cause.downcast_ref::<Forbidden>());
    if let Some(forbidden) = refused {
        return FetchError::Forbidden(forbidden.clone());
    }
    let fault = if error.is_timeout() { FetchFault::Timeout } else { FetchFault::Unreachable };
    FetchError::Failed(fault, said(error))
}

/// What an error came of, and what that came of, to the innermost.
fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// What went wrong, to the innermost cause.
fn said(error: &reqwest::Error) -> String {
    causes(error).fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

/// Resolves names, and hands on only the addresses that are permitted.
struct CheckedResolver(Egress);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let (permitted, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|address| egress.permits(&host, address.ip()));
            if permitted.is_empty() {
                let address = refused.first().map(SocketAddr::ip);
                return Err(Forbidden { host, address, reason: "has no address that is permitted" }.into());
            }
            let addresses: Addrs = Box::new(permitted.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::identity::test_issuer::{Answer, TestServer};

    fn loopback() -> Fetcher {
        Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap()
    }

    async fn fault(url: &str) -> FetchFault {
        loopback().get(url).await.unwrap_err().fault()
    }

    #[tokio::test]
    async fn a_body_is_fetched_up_to_its_bound() {
        let server = TestServer::start().await;
        server.answer("/fits", Answer::ok(vec![b'x'; MAX_BYTES]));
        server.answer("/larger", Answer::ok(vec![b'x'; MAX_BYTES + 1]));
        assert_eq!(loopback().get(&server.url("/fits")).await.unwrap().len(), MAX_BYTES);
        assert_eq!(fault(&server.url("/larger")).await, FetchFault::TooLarge);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let server = TestServer::start().await;
        server.answer("/there", Answer::ok(b"secret".to_vec()));
        server.answer("/here", Answer::redirect(&server.url("/there")));
        assert_eq!(fault(&server.url("/here")).await, FetchFault::Redirected);
        assert_eq!(server.asked("/there"), 0);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_from_what_cannot_be_had() {
        let server = TestServer::start().await;
        server.answer("/broken", Answer::status(500));
        assert!(matches!(loopback().get(&server.url("/none")).await, Err(FetchError::Absent(_))));
        assert!(matches!(loopback().get(&server.url("/broken")).await, Err(FetchError::Failed(FetchFault::Status, _))));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(fault(&format!("http://{closed}/")).await, FetchFault::Unreachable);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_when_it_is_resolved() {
        let resolve =
            |egress: Egress| async move { CheckedResolver(egress).resolve("localhost".parse().unwrap()).await };
        let Err(refused) = resolve(Egress::default()).await else { panic!("a loopback address was handed on") };
        assert!(refused.to_string().contains("no address that is permitted"), "{refused}");
        let mut addresses = resolve(Egress::new(["localhost".to_owned()])).await.unwrap();
        assert!(addresses.all(|address| address.ip().is_loopback()));
    }

    #[tokio::test]
    async fn a_name_that_has_come_to_lead_inside_is_told_from_a_server_that_is_down() {
        let strict = Fetcher::new(Egress::default()).unwrap();
        // The URL passes, as one did whose name was harmless when it was checked.
        let fetcher = Fetcher { egress: Egress::new(["localhost".to_owned()]), ..strict };
        let Err(FetchError::Forbidden(forbidden)) = fetcher.get("http://localhost:1/keys").await else {
            panic!("it was not refused as such")
        };
        assert_eq!(forbidden.host, "localhost");
        assert!(forbidden.address.unwrap().is_loopback());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        assert_eq!(fault(&url).await, FetchFault::Timeout);
    }

    #[tokio::test]
    async fn where_a_forbidden_url_leads_is_told_and_nothing_else_of_it() {
        let strict = Fetcher::new(Egress::default()).unwrap();
        let long = format!("https://u:secret@{}/path?token=secret", "x".repeat(400));
        for (url, host, address) in [
            ("https://[fe80::1]:8443/keys", "[fe80::1]", Some("fe80::1")),
            ("https://0x7f.1/", "127.0.0.1", Some("127.0.0.1")),
            ("nonsense", "", None),
            (&long, &"x".repeat(MAX_HOST), None),
        ] {
            let Err(FetchError::Forbidden(forbidden)) = strict.get(url).await else { panic!("{url} was permitted") };
            let found = forbidden.address.map(|address| address.to_string());
            assert_eq!((forbidden.host.as_str(), found.as_deref()), (host, address));
            assert!(!forbidden.to_string().contains("secret"), "{forbidden}");
        }
    }

    #[tokio::test]
    async fn the_rules_are_asked_at_each_fetch() {
        let server = TestServer::start().await;
        server.answer("/keys", Answer::ok(b"{}".to_vec()));
        let strict = Fetcher::new(Egress::default()).unwrap();
        for url in [server.url("/keys"), "https://169.254.169.254/latest/meta-data/".to_owned()] {
            assert!(matches!(strict.get(&url).await, Err(FetchError::Forbidden(_))), "{url}");
        }
        assert_eq!(server.asked("/keys"), 0);
    }
}
