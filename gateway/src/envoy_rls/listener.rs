//! The listener of the rate limit service: HTTP/2 without TLS, as Envoy speaks it inside a cluster.
//!
//! Responsible for its connections, their bounds and their end. Must never know what is asked.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::RateLimitService;

/// Connections open at once: an Envoy has one for each of its threads.
const MAX_CONNECTIONS: usize = 4096;
/// Questions at once on one connection.
const MAX_STREAMS: u32 = 1024;
/// Largest head of a question, bytes.
const MAX_HEAD_BYTES: u32 = 16 * 1024;
/// How often a silent connection is asked whether it still stands, and how long it may take to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, which means the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener being served. Dropping it ends every connection at once.
#[derive(Debug)]
pub(crate) struct RlsServer {
    closing: CancellationToken,
    /// The listener and its connections, as one task that owns the others.
    running: JoinSet<()>,
}

impl RlsServer {
    /// Starts accepting.
    pub(crate) fn start(listener: TcpListener, service: RateLimitService) -> Self {
        let (closing, mut running) = (CancellationToken::new(), JoinSet::new());
        running.spawn(run(listener, service, closing.clone()));
        Self { closing, running }
    }

    /// Closes the listener and waits for questions to be answered, at most `limit`; whether they were.
    pub(crate) async fn finish(mut self, limit: Duration) -> bool {
        self.closing.cancel();
        timeout(limit, self.running.join_next()).await.is_ok()
    }
}

/// Accepts until told to close, then waits for the connections that are left.
async fn run(listener: TcpListener, service: RateLimitService, closing: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    // Answers are small; waiting to fill a segment only delays them.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream, service.clone(), closing.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of the rate limit service");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            () = closing.cancelled() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection; once the listener closes, what has been asked is answered and nothing more is taken.
async fn serve(stream: TcpStream, service: RateLimitService, closing: CancellationToken) {
    let service = service_fn(move |request| {
        let service = service.clone();
        async move { service.call(request).await }
    });
    let mut connection = std::pin::pin!(
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_BYTES)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_ANSWER)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        // How it ends does not matter here.
        _ = connection.as_mut() => return,
        () = closing.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
