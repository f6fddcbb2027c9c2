//! The keys of a test issuer, over HTTP on a free loopback port.
//!
//! Responsible for publishing and counting. Must never be asked by anything but a gateway.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

#[derive(Default)]
struct Published {
    /// `None`: the issuer is out of order.
    keys: Mutex<Option<Vec<Value>>>,
    fetches: AtomicUsize,
}

/// An issuer's key set.
pub(super) struct KeyServer {
    url: String,
    published: Arc<Published>,
    _serving: JoinSet<()>,
}

impl KeyServer {
    /// Publishes these keys.
    pub(super) async fn start(keys: Vec<Value>) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port"), keys)
    }

    fn on(listener: TcpListener, keys: Vec<Value>) -> Self {
        let published = Arc::new(Published { keys: Mutex::new(Some(keys)), fetches: AtomicUsize::new(0) });
        let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
        let routes = Router::new().route("/keys", get(answer)).with_state(published.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { drop(axum::serve(listener, routes).await) });
        Self { url, published, _serving: serving }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Publishes these keys instead; `None`: answers with errors from now on.
    pub(super) fn publish(&self, keys: Option<Vec<Value>>) {
        *self.published.keys.lock().expect("no panic") = keys;
    }

    /// How often the keys were asked for.
    pub(super) fn fetches(&self) -> usize {
        self.published.fetches.load(Ordering::SeqCst)
    }
}

/// An issuer whose discovery document says that its keys are elsewhere.
pub(super) struct Misleading {
    issuer: String,
    _serving: JoinSet<()>,
}

impl Misleading {
    /// Says that they are there.
    pub(super) async fn start(keys_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let issuer = format!("http://{}", listener.local_addr().expect("an address"));
        let document = json!({ "issuer": issuer, "jwks_uri": keys_url }).to_string();
        let routes = Router::new().route("/.well-known/openid-configuration", get(async || document));
        let mut serving = JoinSet::new();
        serving.spawn(async move { drop(axum::serve(listener, routes).await) });
        Self { issuer, _serving: serving }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// The address of an issuer to be: nobody else gets it, and until it is opened nobody listens.
pub(super) struct Reserved(TcpSocket);

impl Reserved {
    pub(super) fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
        Self(socket)
    }

    /// Where the keys will be.
    pub(super) fn url(&self) -> String {
        format!("http://{}/keys", self.0.local_addr().expect("an address"))
    }

    /// Publishes these keys.
    pub(super) fn open(self, keys: Vec<Value>) -> KeyServer {
        KeyServer::on(self.0.listen(128).expect("a listener"), keys)
    }
}

async fn answer(State(published): State<Arc<Published>>) -> Result<String, StatusCode> {
    published.fetches.fetch_add(1, Ordering::SeqCst);
    let keys = published.keys.lock().expect("no panic").clone();
    keys.map(|keys| json!({ "keys": keys }).to_string()).ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The address of an issuer that nobody reaches.
pub(super) async fn unreachable_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}/keys", listener.local_addr().expect("an address"))
}
