//! A listener and its connections: HTTP/1.1 and HTTP/2, with a bound on everything a client could draw out.
//!
//! Responsible for accepting, for the order in which a listener goes, and for letting connections finish. Must never
//! know what is served: it is given a service.

mod activity;
mod patience;
mod protocol;
mod stream;
mod connection;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use connection::Terms;

/// Connections open at once on one listener; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;

/// Pause after a failed `accept`, which means the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whoever answers the requests of a listener.
pub(crate) trait Serve: Clone + Send + Sync + Unpin + 'static {
    /// The answer to a request that came over a connection from `peer`.
    fn serve(&self, request: hyper::Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

/// How long a client may leave an answer lying that others are read beside, said by the answer; left out: as long as it
/// may a connection. Answers that hold something while they last say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestStall(pub(crate) Duration);

/// For routes that ask where a request comes from by its extensions.
impl Serve for Router {
    async fn serve(&self, mut request: hyper::Request<Incoming>, peer: SocketAddr) -> Response {
        request.extensions_mut().insert(ConnectInfo(peer));
        route(self, request.map(Body::new)).await
    }
}

/// A router's answer.
pub(crate) async fn route(router: &Router, request: hyper::Request<Body>) -> Response {
    match TowerToHyperService::new(router.clone()).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A listener being served. Dropping it ends every connection at once.
#[derive(Debug)]
pub(crate) struct Server {
    terms: Terms,
    /// Ends when nothing is accepted any more.
    deaf: CancellationToken,
    /// The listener and its connections, as one task that owns the others.
    running: JoinSet<()>,
}

impl Server {
    /// Starts accepting. A connection may be silent for `keep_alive`.
    pub(crate) fn start(listener: TcpListener, service: impl Serve, keep_alive: Duration) -> Self {
        let terms = Terms { keep_alive, leaving: CancellationToken::new(), closing: CancellationToken::new() };
        let (deaf, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(run(listener, service, terms.clone(), deaf.clone()));
        Self { terms, deaf, running }
    }

    /// Asks clients to go elsewhere, as far as their protocol can be told; they are served meanwhile. Answers of
    /// HTTP/1.1 have to say so themselves, with `Connection: close`.
    pub(crate) fn leave(&self) {
        self.terms.leaving.cancel();
    }

    /// Closes the listener. Whoever is connected by then is still served, once.
    pub(crate) async fn close(&self) {
        self.terms.closing.cancel();
        self.deaf.cancelled().await;
    }

    /// Closes the listener and waits for requests to finish, at most `limit`; whether they did.
    pub(crate) async fn finish(mut self, limit: Duration) -> bool {
        self.terms.closing.cancel();
        timeout(limit, self.running.join_next()).await.is_ok()
    }
}

/// Accepts until told to close, then waits for the connections that are left.
async fn run(listener: TcpListener, service: impl Serve, terms: Terms, deaf: CancellationToken) {
    let mut connections = JoinSet::new();
    // However this ends, nobody waits for it in vain.
    let deaf = deaf.drop_guard();
    let serve = |connections: &mut JoinSet<()>, stream: TcpStream, peer| {
        // Answers are small and written in one piece; waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        connections.spawn(connection::serve(stream, peer, service.clone(), terms.clone()));
    };
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => note(ended),
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => serve(&mut connections, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            () = terms.closing.cancelled() => break,
        }
    }
    for (stream, peer) in last_accepted(listener) {
        serve(&mut connections, stream, peer);
    }
    drop(deaf);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

/// Closes the listener, taking along who is connected but not accepted: their request may be on its way already, and
/// the kernel would reset it.
fn last_accepted(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    // It does not block: Tokio has made it so.
    let accepted = std::iter::from_fn(|| listener.accept().ok()).take(MAX_CONNECTIONS);
    let served = accepted.filter_map(|(stream, peer)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    });
    served.collect()
}

/// How a connection ends is its client's affair, unless it is ours.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        // Not what the panic says: that may quote a request.
        tracing::error!(task = %error.id(), "a connection was cut by a panic");
    }
}

#[cfg(test)]
mod tests;
