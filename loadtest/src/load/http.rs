//! How calls are sent: kept-alive HTTP/1.1 connections, as few instructions per call as a correct client needs.
//!
//! Responsible for one exchange and for what came of it, in the words of a record. Must never try another gateway or
//! send anything twice: what a client does about a failure is decided elsewhere, and is another call.
//!
//! There is no task per connection. A connection is driven by the call that uses it, on the thread of the load, so an
//! exchange wakes nothing but itself. `https` goes through the client that the rest of the workspace uses.

mod answer;
mod connection;
mod failure;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::connection::{Connection, Exchanged};
use self::failure::Failure;
use self::tls::TlsClient;
use super::population::Credential;
use super::targets::{Target, Targets};
use crate::error::HarnessError;
use crate::record::Outcome;

const TASKS: &str = "/v1/tasks";
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A submission as it is sent.
#[derive(Debug)]
pub(super) struct Submission<'a> {
    /// Who sends it.
    pub(super) credential: &'a Credential,
    /// The whole body, JSON.
    pub(super) body: &'a Bytes,
    /// `X-Request-Id`.
    pub(super) request_id: String,
    /// `Idempotency-Key`.
    pub(super) idempotency_key: Option<String>,
}

/// When an exchange is given up.
#[derive(Debug)]
pub(super) struct Bounds<'a> {
    /// By the client itself.
    pub(super) deadline: Instant,
    /// Because the run is over.
    pub(super) cut: &'a CancellationToken,
}

/// A client with its idle connections. Of these there are never more than calls were in flight at once.
#[derive(Debug)]
pub(super) struct HttpClient {
    targets: Targets,
    idle: Mutex<Idle>,
    /// Only where a target needs it: loading the machine's roots of trust takes as long as many calls.
    tls: Option<TlsClient>,
    path: Uri,
}

#[derive(Debug, Default)]
struct Idle {
    version: u64,
    by_url: HashMap<Arc<str>, Vec<Connection>>,
}

impl HttpClient {
    /// A client without connections.
    pub(super) fn new(targets: Targets) -> Result<Self, HarnessError> {
        let secure = targets.present().iter().any(Target::is_secure);
        let tls = secure.then(TlsClient::new).transpose()?;
        Ok(Self { targets, idle: Mutex::default(), tls, path: Uri::from_static(TASKS) })
    }

    /// Submits a task to this gateway.
    pub(super) async fn submit(&self, to: &Target, submission: Submission<'_>, bounds: &Bounds<'_>) -> Outcome {
        let exchanged = match &self.tls {
            Some(tls) if to.is_secure() => tls.exchange(to, submission, bounds).await,
            _ => self.exchange(to, submission, bounds).await,
        };
        match exchanged {
            Ok(answered) => Outcome::Answered(answered),
            Err(Failure { why, sent }) => Outcome::Failed { why: why.to_owned(), sent },
        }
    }

    async fn exchange(&self, to: &Target, submission: Submission<'_>, bounds: &Bounds<'_>) -> Exchanged {
        let authority = to.url.strip_prefix("http://").ok_or(Failure::unsent("not a URL"))?;
        let mut request = self.request(authority, submission)?;
        // A connection that the server has just closed gives the request back untouched, as idle ones may all do.
        while let Some(mut connection) = self.take_idle(to) {
            match bounds.hold(true, connection.exchange(request)).await? {
                Ok(exchanged) => return self.keep(to, connection, exchanged),
                Err(untouched) => request = untouched,
            }
        }
        let mut connection = bounds.hold(false, Connection::open(authority)).await??;
        match bounds.hold(true, connection.exchange(request)).await? {
            Ok(exchanged) => self.keep(to, connection, exchanged),
            Err(_) => Err(Failure::unsent("connection closed")),
        }
    }

    fn request(&self, authority: &str, submission: Submission<'_>) -> Result<Request<Full<Bytes>>, Failure> {
        let body = Full::new(submission.body.clone());
        let host = HeaderValue::try_from(authority).map_err(|_| Failure::unsent("not a URL"))?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, host);
        submission.headers(request.headers_mut());
        Ok(request)
    }

    fn take_idle(&self, to: &Target) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.targets.version();
        if idle.version != version {
            let present = self.targets.present();
            idle.by_url.retain(|url, _| present.iter().any(|target| target.url == *url));
            idle.version = version;
        }
        // The one used last is the least likely to have been closed for its silence.
        idle.by_url.get_mut(&to.url)?.pop()
    }

    fn keep(&self, to: &Target, connection: Connection, exchanged: Exchanged) -> Exchanged {
        if exchanged.is_ok() && connection.is_open() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.by_url.entry(Arc::clone(&to.url)).or_default().push(connection);
        }
        exchanged
    }
}

impl Submission<'_> {
    fn headers(self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let credential = self.credential;
        let made = [(REQUEST_ID, Some(self.request_id)), (IDEMPOTENCY_KEY, self.idempotency_key)];
        let made = made.map(|(name, text)| (name, text.and_then(|text| HeaderValue::try_from(text).ok())));
        let given =
            [(AUTHORIZATION, credential.authorization.clone()), (FORWARDED_FOR, credential.forwarded_for.clone())];
        for (name, value) in given.into_iter().chain(made) {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

impl Bounds<'_> {
    /// What `work` gives, unless it is given up before; `sent` says what that leaves open.
    async fn hold<T>(&self, sent: bool, work: impl Future<Output = T>) -> Result<T, Failure> {
        let work = self.cut.run_until_cancelled(timeout_at(self.deadline, work));
        match work.await {
            Some(Ok(done)) => Ok(done),
            Some(Err(_)) => Err(Failure { why: "timeout", sent }),
            None => Err(Failure { why: "cut off at the end", sent }),
        }
    }
}
