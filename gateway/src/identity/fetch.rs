//! Fetching keys over HTTP.
//!
//! Responsible for the bounds of a fetch: no redirect, no proxy of the environment, a time, a size, and only addresses
//! that were checked. Must never keep a connection: the next fetch resolves and checks anew.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};

use crate::identity::egress::Egress;

/// Longest time of one fetch.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer, bytes.
const MAX_BYTES: usize = 64 * 1024;

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
    #[error("the URL {0}")]
    Forbidden(&'static str),
    /// The server says there is no such thing.
    #[error("the server answered {0}")]
    Absent(StatusCode),
    /// The server cannot be reached, or its answer is none.
    #[error("{0}")]
    Failed(String),
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
        let url = self.egress.check_url(url).map_err(FetchError::Forbidden)?;
        let failed = |error: reqwest::Error| FetchError::Failed(said(&error));
        let mut answer = self.client.get(url).send().await.map_err(failed)?;
        let status = answer.status();
        if status != StatusCode::OK {
            let absent = matches!(status.as_u16(), 403 | 404 | 410);
            let error = format!("the server answered {status}");
            return Err(if absent { FetchError::Absent(status) } else { FetchError::Failed(error) });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::Failed(format!("the answer is larger than {MAX_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What went wrong, to the innermost cause.
fn said(error: &reqwest::Error) -> String {
    let mut said = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        said = format!("{said}: {inner}");
        cause = inner.source();
    }
    said
}

/// Resolves names, and hands on only the addresses that are permitted.
struct CheckedResolver(Egress);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let permitted: Vec<SocketAddr> = found.filter(|address| egress.permits(&host, address.ip())).collect();
            if permitted.is_empty() {
                let refused = io::Error::new(io::ErrorKind::PermissionDenied, "has no address that is permitted");
                return Err(refused.into());
            }
            let addresses: Addrs = Box::new(permitted.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::test_issuer::{Answer, TestServer};

    fn loopback() -> Fetcher {
        Fetcher::new(Egress::new(["127.0.0.1".to_owned()])).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_fetched_up_to_its_bound() {
        let server = TestServer::start().await;
        server.answer("/fits", Answer::ok(vec![b'x'; MAX_BYTES]));
        server.answer("/larger", Answer::ok(vec![b'x'; MAX_BYTES + 1]));
        assert_eq!(loopback().get(&server.url("/fits")).await.unwrap().len(), MAX_BYTES);
        assert!(matches!(loopback().get(&server.url("/larger")).await, Err(FetchError::Failed(_))));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let server = TestServer::start().await;
        server.answer("/there", Answer::ok(b"secret".to_vec()));
        server.answer("/here", Answer::redirect(&server.url("/there")));
        assert!(matches!(loopback().get(&server.url("/here")).await, Err(FetchError::Failed(_))));
        assert_eq!(server.asked("/there"), 0);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_from_what_cannot_be_had() {
        let server = TestServer::start().await;
        server.answer("/broken", Answer::status(500));
        assert!(matches!(loopback().get(&server.url("/none")).await, Err(FetchError::Absent(_))));
        assert!(matches!(loopback().get(&server.url("/broken")).await, Err(FetchError::Failed(_))));
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
