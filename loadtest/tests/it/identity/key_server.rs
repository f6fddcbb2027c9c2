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
use tokio::net::TcpListener;
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
        let published = Arc::new(Published { keys: Mutex::new(Some(keys)), fetches: AtomicUsize::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
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
