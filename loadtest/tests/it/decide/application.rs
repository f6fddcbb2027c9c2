//! An application that says what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use http_body_util::{BodyExt, Collected};
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

/// 200, or what a path ending in a status says.
async fn answer(State(arrived): State<Arrived>, request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let path = parts.uri.to_string();
    let status = path.rsplit('/').next().and_then(|last| StatusCode::from_bytes(last.as_bytes()).ok());
    let seen = Seen { method: parts.method.to_string(), path, headers: parts.headers, body };
    arrived.lock().expect("unbroken").push(seen);
    (status.unwrap_or(StatusCode::OK), "the application")
}
