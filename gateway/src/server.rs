//! A listener and its connections: HTTP/1.1, with a bound on everything a client could draw out.
//!
//! Responsible for accepting, for timeouts before a request has a handler, and for letting connections finish. Must
//! never know what is served: it is given a router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Connections open at once on one listener; more wait to be accepted.
const MAX_CONNECTIONS: usize = 16_384;

/// Longest time for a request's head to arrive, and for a kept connection to be silent. Longer than the 60 s after
/// which balancers give a connection up: whoever closes first must not be the server, or a request may be lost.
const IDLE: Duration = Duration::from_secs(75);

/// Largest head of a request, bytes: as much as common balancers pass on.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Pause after a failed `accept`, which means the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The address a request's connection came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A listener being served. Dropping it ends every connection at once.
#[derive(Debug)]
pub(crate) struct Server {
    closing: CancellationToken,
    tasks: TaskTracker,
    _ends_when_dropped: DropGuard,
}

impl Server {
    /// Starts accepting.
    pub(crate) fn start(listener: TcpListener, router: Router) -> Self {
        let (closing, ended, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let server =
            Self { closing: closing.clone(), tasks: tasks.clone(), _ends_when_dropped: ended.clone().drop_guard() };
        let accepting = {
            let (tasks, ended) = (tasks.clone(), ended.clone());
            async move {
                tokio::select! {
                    () = accept(listener, router, &tasks, &closing, &ended) => {}
                    () = closing.cancelled() => {}
                    () = ended.cancelled() => {}
                }
            }
        };
        tasks.spawn(accepting);
        server
    }

    /// Closes the listener and waits for requests to finish, at most `limit`; whether they did.
    pub(crate) async fn finish(self, limit: Duration) -> bool {
        self.closing.cancel();
        self.tasks.close();
        timeout(limit, self.tasks.wait()).await.is_ok()
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    tasks: &TaskTracker,
    closing: &CancellationToken,
    ended: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and written in one piece; waiting to fill a segment only delays them.
                let _ = stream.set_nodelay(true);
                let (router, closing, ended) = (router.clone(), closing.clone(), ended.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = serve(stream, peer, router, &closing) => {}
                        () = ended.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection; once the listener closes, the request being served is the last.
async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, closing: &CancellationToken) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        router.call(request)
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(IDLE)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    // How a connection ends is its client's affair.
    let closed = tokio::select! {
        _ = connection.as_mut() => true,
        () = closing.cancelled() => false,
    };
    if !closed {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

#[cfg(test)]
mod tests;
