//! One connection, from its first byte to its last.
//!
//! Responsible for driving it, for the bounds of each protocol, and for ending it when its listener goes or its client
//! is too slow. Must never set a timer for a request: a connection is looked at every few seconds, and a request is
//! many times shorter.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Counted, Watched};
use super::patience::{LOOK, Patience, Verdict};
use super::protocol::{Protocol, first_bytes};
use super::stream::Streams;
use super::{LongestStall, Serve};

/// Largest head of a request, bytes: as much as common balancers pass on.
const MAX_HEAD_BYTES: u32 = 64 * 1024;

/// Requests at once on one connection of HTTP/2: as many as an Application Load Balancer sends.
const MAX_STREAMS: u32 = 128;

/// What of an answer waits in memory for a client of HTTP/2 to read, and what of a request for somebody to take it,
/// bytes per stream.
const STREAM_BYTES: u32 = 64 * 1024;

/// What of all its requests waits for somebody to take it, bytes per connection.
const CONNECTION_BYTES: u32 = 1024 * 1024;

/// Requests that a client may withdraw before they were looked at. RFC 9113 §10.5: who opens and resets streams without
/// an end wants no answers ("rapid reset").
const MAX_WITHDRAWN: usize = 20;

/// How long somebody who is connected, and has not said anything when the listener closes, may still begin to.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The answer to a head that did not come to its end. There is no request whose id it could carry.
const HEAD_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What holds for the connections of a listener.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// How long a connection may be silent.
    pub(super) keep_alive: Duration,
    /// Ends when clients are asked to go elsewhere.
    pub(super) leaving: CancellationToken,
    /// Ends when the listener closes.
    pub(super) closing: CancellationToken,
}

/// Serves one connection; once the listener closes, the request being served is the last.
pub(super) async fn serve(mut stream: TcpStream, peer: SocketAddr, service: impl Serve, terms: Terms) {
    let first = tokio::select! {
        biased;
        first = timeout(terms.keep_alive, first_bytes(&mut stream)) => first,
        () = last_call(&terms) => return,
    };
    // Silent for too long, broken, or gone.
    let Ok(Ok(Some((protocol, first)))) = first else { return };
    let activity = Arc::<Activity>::default();
    let io = TokioIo::new(Counted::new(stream, first, activity.clone()));
    let answers = {
        let activity = activity.clone();
        service_fn(move |request| {
            let (service, running) = (service.clone(), activity.begin());
            async move {
                let (parts, body) = service.serve(request, peer).await.into_parts();
                let longest_stall = parts.extensions.get::<LongestStall>().map(|longest| longest.0);
                Ok::<_, Infallible>(Response::from_parts(parts, Watched::new(body, running, longest_stall)))
            }
        })
    };
    match protocol {
        Protocol::Http1 => serve_http1(io, answers, &activity, &terms).await,
        Protocol::Http2 => serve_http2(io, answers, &activity, &terms).await,
    }
}

/// Over when nobody who has only just connected is waited for any longer.
async fn last_call(terms: &Terms) {
    terms.closing.cancelled().await;
    sleep(LAST_CALL).await;
}

/// What both protocols need of whoever answers.
trait Answers: HttpService<Incoming, ResBody = Watched, Error = Infallible, Future: Send + 'static> + Unpin {}

impl<S> Answers for S where
    S: HttpService<Incoming, ResBody = Watched, Error = Infallible, Future: Send + 'static> + Unpin
{
}

async fn serve_http1<S: Answers + Send + 'static>(
    io: TokioIo<Counted>,
    answers: S,
    activity: &Activity,
    terms: &Terms,
) {
    let mut builder = http1::Builder::new();
    // Silence and slowness are noticed here.
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES as usize);
    let mut connection = builder.serve_connection(io, answers).with_upgrades();
    let mut patience = Patience::new(terms.keep_alive, true, Instant::now());
    let judge = |now| patience.judge(activity.glance(), now);
    let verdict = drive(&mut connection, judge, &terms.closing, |connection| {
        Pin::new(connection).graceful_shutdown();
    });
    if verdict.await == Verdict::SlowHead
        && let Some(parts) = connection.into_parts()
    {
        // A client that is slow in this as well is not waited for.
        parts.io.into_inner().try_write(HEAD_TIMEOUT);
    }
}

async fn serve_http2<S: Answers + Send + 'static>(
    io: TokioIo<Counted>,
    answers: S,
    activity: &Activity,
    terms: &Terms,
) {
    let ended = CancellationToken::new();
    let _ends_its_streams = ended.clone().drop_guard();
    let streams = Streams::new(ended);
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES)
        .max_send_buf_size(STREAM_BYTES as usize)
        .initial_stream_window_size(STREAM_BYTES)
        .initial_connection_window_size(CONNECTION_BYTES)
        .max_pending_accept_reset_streams(MAX_WITHDRAWN);
    let mut connection = builder.serve_connection(io, answers);
    let mut patience = Patience::new(terms.keep_alive, false, Instant::now());
    let judge = |now| {
        streams.cut_stalled(now);
        patience.judge(activity.glance(), now)
    };
    // GOAWAY is what `Connection: close` is to HTTP/1.1, and belongs to no answer.
    drive(&mut connection, judge, &terms.leaving, |connection| {
        Pin::new(connection).graceful_shutdown();
    })
    .await;
}

/// Drives a connection to its end, judged now and then and told once when it is time to `go`; what ended it, where it
/// did not end by itself.
async fn drive<C: Future + Unpin>(
    connection: &mut C,
    mut judge: impl FnMut(Instant) -> Verdict,
    time_to_go: &CancellationToken,
    go: impl Fn(&mut C),
) -> Verdict {
    let (mut look, mut told) = (interval_at(Instant::now() + LOOK, LOOK), false);
    loop {
        tokio::select! {
            biased;
            // How it ends does not matter here.
            _ = &mut *connection => return Verdict::Keep,
            () = time_to_go.cancelled(), if !told => {
                told = true;
                go(connection);
            }
            _ = look.tick() => match judge(Instant::now()) {
                Verdict::Keep => {}
                verdict => return verdict,
            }
        }
    }
}
