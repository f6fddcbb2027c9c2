//! The application behind the gateway, and the connections to it.
//!
//! Responsible for reaching it: connections that are reused, one more try where a kept connection turned out to be
//! closed, and the two waits before an answer begins. Must never send a request twice that the application may have
//! acted on.

mod trust;
mod connection;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{Extensions, Method, Request, Response, Uri};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use tokio::time::{Instant, sleep};

use super::bounds::Bounds;
use super::failure::Failure;
use super::upload::{Progress, Upload};
use crate::background::Background;

use connection::{Connector, Executor, Served};

/// How long a connection is kept without use: less than the five seconds after which common servers close theirs, so
/// that a request seldom meets a connection that is just being closed.
const KEEP: Duration = Duration::from_secs(4);

/// How often it is logged that no connection can be opened, while that is so.
const COMPLAIN_AGAIN: Duration = Duration::from_secs(60);

/// Connections kept without use.
const MAX_KEPT: usize = 512;

/// Largest head of an answer, and most of a body that is read ahead, bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// Why an address cannot be that of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableUpstream(&'static str);

impl fmt::Display for UnusableUpstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UnusableUpstream {}

/// Where the application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUrl {
    scheme: Scheme,
    authority: Authority,
}

impl std::str::FromStr for UpstreamUrl {
    type Err = UnusableUpstream;

    /// `http://host` or `http://host:port`, or the same with `https`. A path would be no bound: `/app/../admin` is
    /// outside `/app`.
    fn from_str(text: &str) -> Result<Self, UnusableUpstream> {
        let uri: Uri = text.parse().map_err(|_| UnusableUpstream("is not a URL"))?;
        let known = uri.scheme().filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme)).cloned();
        let scheme = known.ok_or(UnusableUpstream("must be http://HOST or http://HOST:PORT, or https://"))?;
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err(UnusableUpstream("must not have a user: nobody would use it"))
            }
            Some(authority) if matches!(uri.path(), "" | "/") && uri.query().is_none() => {
                Ok(Self { scheme, authority: authority.clone() })
            }
            Some(_) => Err(UnusableUpstream("must not have a path or query: paths are passed on as they come")),
            None => Err(UnusableUpstream("must name a host")),
        }
    }
}

/// Where the application is, and how it is known to be the application.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    url: UpstreamUrl,
    /// `None`: it is not asked to prove it.
    tls: Option<ClientConfig>,
}

impl UpstreamOptions {
    /// The application at this address; `ca` are certificate authorities (PEM) to know it by instead of the system's.
    ///
    /// # Errors
    ///
    /// If it could never be known, or if it is never asked to prove anything and there are authorities nevertheless.
    pub fn new(url: UpstreamUrl, ca: Option<&[u8]>) -> Result<Self, UnusableUpstream> {
        if url.scheme == Scheme::HTTPS {
            return Ok(Self { tls: Some(trust::client_config(ca)?), url });
        }
        match ca {
            None => Ok(Self { url, tls: None }),
            Some(_) => Err(UnusableUpstream("is not https://, but has a certificate authority")),
        }
    }
}

/// The application.
#[derive(Clone)]
pub(crate) struct Upstream {
    url: UpstreamUrl,
    client: Client<Connector, Upload>,
    /// When it was last logged that there are no more connections to be had.
    complained: Arc<Mutex<Option<Instant>>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.url.authority.as_str()).finish()
    }
}

impl Upstream {
    /// Nothing is connected yet. Connections are among the tasks of `background`.
    pub(crate) fn new(options: UpstreamOptions, background: Background) -> Self {
        let client = Client::builder(Executor::new(background))
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(KEEP)
            .pool_max_idle_per_host(MAX_KEPT)
            .http1_max_buf_size(MAX_BUFFER)
            .retry_canceled_requests(true)
            .set_host(false)
            .build(Connector::new(options.tls));
        Self { url: options.url, client, complained: Arc::default() }
    }

    /// This path at the application.
    pub(super) fn target(&self, path: PathAndQuery) -> Option<Uri> {
        let UpstreamUrl { scheme, authority } = self.url.clone();
        Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build().ok()
    }

    /// The head of the answer. A failure of the client's is one of its body, not of the application.
    pub(super) async fn send(&self, request: Request<Upload>, bounds: &Bounds) -> Result<Response<Incoming>, Failure> {
        let again = repeatable(&request, bounds);
        match (self.attempt(request, bounds).await, again) {
            (Err(Attempt { failure: Failure::Unreachable, reused: true }), Some(again)) => {
                self.attempt(again, bounds).await.map_err(|attempt| attempt.failure)
            }
            (answer, _) => answer.map_err(|attempt| attempt.failure),
        }
    }

    async fn attempt(&self, mut request: Request<Upload>, bounds: &Bounds) -> Result<Response<Incoming>, Attempt> {
        let progress = request.body().progress();
        let mut captured = capture_connection(&mut request);
        let mut answer = std::pin::pin!(self.client.request(request));
        let failed = |error, captured: &CaptureConnection| {
            tracing::debug!(error = ?error, "the application did not answer");
            let failure = progress.fault().unwrap_or_else(|| Failure::of(&error));
            if failure == Failure::Exhausted {
                self.complain(&error);
            }
            Attempt { failure, reused: has_served(captured) }
        };
        let late = Attempt { failure: Failure::Late, reused: false };
        let early = tokio::select! {
            biased;
            answer = &mut answer => Some(answer),
            () = connected(&mut captured) => None,
            () = sleep(bounds.connect) => return Err(late),
        };
        let answer = if let Some(answer) = early {
            answer
        } else {
            progress.note_moved();
            answer_in_time(answer, &progress, bounds).await.ok_or(late)?
        };
        let answer = answer.map_err(|error| failed(error, &captured))?;
        if let Some(served) = answer.extensions().get::<Served>() {
            served.note();
        }
        Ok(answer)
    }

    /// Says that this gateway is at its end, which is an operator's to mend; once for many requests.
    fn complain(&self, error: &legacy::Error) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|last| last.elapsed() >= COMPLAIN_AGAIN) {
            *complained = Some(Instant::now());
            tracing::error!(error = ?error, "no further connection to the application can be opened");
        }
    }
}

/// How an attempt failed.
struct Attempt {
    failure: Failure,
    /// The connection had served another request before, so its end may have had nothing to do with this one.
    reused: bool,
}

async fn answer_in_time<T>(answer: impl Future<Output = T>, progress: &Progress, bounds: &Bounds) -> Option<T> {
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = progress.unanswered_for(bounds.response) => None,
    }
}

async fn connected(captured: &mut CaptureConnection) {
    captured.wait_for_connection_metadata().await;
}

fn has_served(captured: &CaptureConnection) -> bool {
    let mut extensions = Extensions::new();
    if let Some(connection) = captured.connection_metadata().as_ref() {
        connection.get_extras(&mut extensions);
    }
    extensions.get::<Served>().is_some_and(Served::any)
}

/// The request once more, if sending it twice does no more than sending it once (RFC 9110 §9.2.2).
fn repeatable(request: &Request<Upload>, bounds: &Bounds) -> Option<Request<Upload>> {
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    if !idempotent.contains(request.method()) || !request.body().is_end_stream() {
        return None;
    }
    let mut again = Request::new(Upload::new(axum::body::Body::empty(), bounds));
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

#[cfg(test)]
mod tests;
