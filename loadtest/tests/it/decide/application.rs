//! An application that says what it was sent, sends without an end, or goes on with a WebSocket.
//!
//! Responsible for what has reached it. Must never wait for more of a request than its path asks for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Collected};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Seen {
    /// A field's value; empty if it is not there.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

type Arrived = Arc<Mutex<Vec<Seen>>>;

/// A running application. It ends with its handle.
pub(super) struct Application {
    address: SocketAddr,
    arrived: Arrived,
    _server: JoinSet<()>,
}

impl Application {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (address, arrived) = (listener.local_addr().expect("an address"), Arrived::default());
        let router = Router::new().fallback(answer).with_state(arrived.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            // It serves until it is dropped.
            let _ = axum::serve(listener, router).await;
        });
        Self { address, arrived, _server: server }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests that have arrived.
    pub(super) fn count(&self) -> usize {
        self.arrived.lock().expect("unbroken").len()
    }

    /// The latest of them.
    pub(super) fn latest(&self) -> Seen {
        self.arrived.lock().expect("unbroken").last().expect("it was asked").clone()
    }
}

/// A WebSocket where a path ends in `socket`, a piece and no end where it ends in `endless`; else 200, or what a path
/// ending in a status says. Where it ends in `pieces` the request has arrived with the first piece of its body.
async fn answer(State(arrived): State<Arrived>, request: Request) -> Response {
    let path = request.uri().to_string();
    let last = path.rsplit('/').next().unwrap_or_default();
    if last == "socket" {
        return switch(request);
    }
    if last == "endless" {
        let pieces = stream::once(async { Ok::<_, Infallible>("a piece") }).chain(stream::pending());
        return Response::new(Body::from_stream(pieces));
    }
    let (parts, mut body) = request.into_parts();
    let seen = |body| Seen { method: parts.method.to_string(), path: path.clone(), headers: parts.headers, body };
    if last == "pieces" {
        let first = body.frame().await.and_then(|frame| frame.ok()?.into_data().ok()).unwrap_or_default();
        arrived.lock().expect("unbroken").push(seen(first));
        let _ = body.collect().await;
    } else {
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        arrived.lock().expect("unbroken").push(seen(body));
    }
    let status = StatusCode::from_bytes(last.as_bytes()).unwrap_or(StatusCode::OK);
    (status, "the application").into_response()
}

/// Each byte comes back, until the other side ends.
fn switch(mut request: Request) -> Response {
    let asked = request.headers().get("upgrade").is_some_and(|protocol| protocol == "websocket");
    if !asked {
        return (StatusCode::UPGRADE_REQUIRED, "no WebSocket").into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let stream = TokioIo::new(upgrade.await.expect("a stream"));
        let (mut from, mut to) = tokio::io::split(stream);
        // Whoever breaks it off has seen enough.
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
    (StatusCode::SWITCHING_PROTOCOLS, fields).into_response()
}
