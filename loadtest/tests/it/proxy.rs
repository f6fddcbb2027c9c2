//! The proxy in front of an application that behaves badly: what reaches it, what comes back, and what is left of a
//! request when it is over, however that came about.
//!
//! Responsible for what only real connections on both sides can show. Must never conclude from time: the application
//! says what has reached it, and Redis what is in flight.

mod application;
mod class;
mod field;
mod streaming;
mod http2;
mod failure;
mod breaker;
mod leaving;
mod mended;
mod goodput;

use portcullis_loadtest::cluster::Builder;
use portcullis_lua::QueueView;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::fixture::{Fixture, PATIENCE, cluster, start, until};

use application::Application;

/// Gateways in front of this application, under this policy.
fn before(application: &Application, policy: Value) -> Builder {
    cluster().env("UPSTREAM_URL", &application.url()).policy(policy)
}

/// One gateway in front of an application of its own. Guards everything below `/guarded/` in a pool of `places`, and
/// what else this policy says.
async fn guarded(places: u64, policy: &Value) -> (Fixture, Application) {
    let application = Application::start().await;
    let mut document = json!({ "route_classes": { "work": { "patterns": ["/guarded/"], "max_concurrent": places } } });
    merge(&mut document, policy);
    (start(before(&application, document)).await, application)
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (name, value) in patch {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

/// What is in flight by Redis's account.
async fn view(cluster: &Fixture) -> QueueView {
    let store = cluster.store().await.expect("a store");
    store.queues(&cluster.compiled_policy()).await.expect("an answer")
}

/// Waits until this many requests are in flight in the pool `work`.
async fn until_in_flight(cluster: &Fixture, count: u64) {
    let store = cluster.store().await.expect("a store");
    until(&format!("{count} requests are in flight"), || async {
        let view = store.queues(&cluster.compiled_policy()).await.ok()?;
        (view.pools.get("work").map_or(0, |pool| pool.in_flight) == count).then_some(())
    })
    .await;
}

/// A connection to the gateway on which this has been sent.
async fn send(cluster: &Fixture, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.public_address(0)).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    stream
}

/// The request line, and the fields of a paid caller.
fn head(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer dev:paid:ada\r\n")
}

/// Reads until this has come; everything up to its end.
async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&read).contains(what) {
        let length = stream.read(&mut piece).await.expect("more to come");
        assert!(length > 0, "ended without {what:?}: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Reads until the other side ends the connection, which it must not break; everything that came.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut read)).await.expect("it is ended in time");
    let read = String::from_utf8_lossy(&read).into_owned();
    ended.unwrap_or_else(|error| panic!("not ended but broken ({error}) after: {read}"));
    read
}
