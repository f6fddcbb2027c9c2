//! A listener and its connections: HTTP/1.1, with a bound on everything a client could draw out.
//!
//! Responsible for accepting, for timeouts before a request has a handler, and for letting connections finish. Must
//! never know what is served: it is given a router.

mod idle_timer;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use idle_timer::{IdleTimer, LOOK};

/// Connections open at once on one listener; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;

/// Longest time for a request's head to arrive, and for a kept connection to be silent; noticed up to [`LOOK`] later.
/// Longer than the 60 s after which balancers give a connection up: whoever closes first must not be the server, or a
/// request may be lost.
const IDLE: Duration = Duration::from_secs(75);

/// Largest head of a request, bytes: as much as common balancers pass on.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Pause after a failed `accept`, which means the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Whoever answers the requests of a listener.
pub(crate) trait Serve: Clone + Send + Sync + 'static {
    /// The answer to a request that came over a connection from `peer`.
    fn serve(&self, request: hyper::Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

/// For routes that do not ask where a request comes from.
impl Serve for Router {
    async fn serve(&self, request: hyper::Request<Incoming>, _: SocketAddr) -> Response {
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
    closing: CancellationToken,
    /// The listener and its connections, as one task that owns the others.
    running: JoinSet<()>,
}

impl Server {
    /// Starts accepting.
    pub(crate) fn start(listener: TcpListener, service: impl Serve) -> Self {
        let (closing, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(run(listener, service, closing.clone()));
        Self { closing, running }
    }

    /// Closes the listener and waits for requests to finish, at most `limit`; whether they did.
    pub(crate) async fn finish(mut self, limit: Duration) -> bool {
        self.closing.cancel();
        timeout(limit, self.running.join_next()).await.is_ok()
    }
}

/// Accepts until told to close, then waits for the connections that are left.
async fn run(listener: TcpListener, service: impl Serve, closing: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next() => note(ended),
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    // Answers are small and written in one piece; waiting to fill a segment only delays them.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, peer, service.clone(), closing.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            () = closing.cancelled() => break,
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        note(ended);
    }
}

/// How a connection ends is its client's affair, unless it is ours.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection was cut by a panic");
    }
}

/// Serves one connection; once the listener closes, the request being served is the last.
async fn serve(stream: TcpStream, peer: SocketAddr, service: impl Serve, closing: CancellationToken) {
    let service = service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, std::convert::Infallible>(service.serve(request, peer).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(IdleTimer)
            .header_read_timeout(IDLE)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    // Polled when they are woken, not whenever the connection is: that has a few turns for every request.
    let look = || sleep(LOOK).map(|()| Sign::Look);
    let mut signs = FuturesUnordered::from_iter([closing.cancelled().map(|()| Sign::Close).left_future()]);
    signs.push(look().right_future());
    loop {
        tokio::select! {
            biased;
            // How it ends does not matter here.
            _ = connection.as_mut() => return,
            Some(sign) = signs.next() => match sign {
                Sign::Close => connection.as_mut().graceful_shutdown(),
                // The connection is polled again, and notices how long it has been silent.
                Sign::Look => signs.push(look().right_future()),
            },
        }
    }
}

/// What a connection is told beside its requests.
#[derive(Clone, Copy, Debug)]
enum Sign {
    /// The listener has closed.
    Close,
    /// Time to look how long it has been silent.
    Look,
}

#[cfg(test)]
mod tests;
