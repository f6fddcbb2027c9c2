//! Requests that go on for long after their caller was resolved: event streams and WebSockets.
//!
//! Responsible for what becomes of them when the credential is taken back. Must never conclude from time: they are read
//! to their end.

use portcullis_loadtest::client::Submission;
use portcullis_lua::{Grounds, Member, Revocation};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::terms::{Terms, api_key, with_api_key};
use crate::fixture::{Fixture, PATIENCE, accepted, start};

const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// An application that agrees to every WebSocket and echoes what it is sent; its URL.
async fn echo(running: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    running.spawn(async move {
        let mut sockets = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            sockets.spawn(async move {
                until_head_is_over(&mut stream).await;
                let (mut from, mut to) = stream.split();
                if to.write_all(SWITCH).await.is_ok() {
                    drop(tokio::io::copy(&mut from, &mut to).await);
                }
            });
        }
    });
    url
}

async fn until_head_is_over(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the rest of the head"));
    }
    String::from_utf8(head).expect("text")
}

/// A WebSocket of the bearer of this token, open.
async fn tunnel(cluster: &Fixture, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(cluster.public_address(0)).await.expect("a connection");
    let head = format!(
        "GET /socket HTTP/1.1\r\nHost: shop.example\r\nAuthorization: Bearer {token}\r\n\
         Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let answer = until_head_is_over(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    echoes(&mut stream).await;
    stream
}

async fn echoes(stream: &mut TcpStream) {
    let mut echoed = [0; 4];
    stream.write_all(b"ping").await.expect("sent");
    timeout(PATIENCE, stream.read_exact(&mut echoed)).await.expect("in time").expect("an echo");
    assert_eq!(&echoed, b"ping");
}

/// It is ended by the gateway.
async fn is_ended(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    // A connection that is reset has ended, too.
    assert!(ended.is_ok() && rest.is_empty(), "it goes on");
}

#[tokio::test]
async fn what_a_caller_has_open_ends_when_its_credential_is_taken_back() {
    let mut running = JoinSet::new();
    let terms = Terms::new().api_key("adaskey1", "acme:ada", "paid").api_key("bobskey1", "acme:bob", "paid");
    // Nothing here ends because nothing was said on it.
    let policy = json!({ "proxy": { "idle_timeout_ms": 600_000 } });
    let upstream = echo(&mut running).await;
    let mut cluster = start(terms.cluster().env("UPSTREAM_URL", &upstream).policy(policy)).await;
    cluster.stand_in(100).await.expect("capacity");
    let anyone = cluster.gateway(0);
    let opened = with_api_key(&anyone, "adaskey1").post("/v1/sessions", &json!({})).await.expect("an answer");
    let token = opened.body["token"].as_str().expect("a token").to_owned();
    let (session, bob) = (anyone.bearer(&token), with_api_key(&anyone, "bobskey1"));
    let (adas, bobs) = (Submission::new("demo", json!(1)), Submission::new("demo", json!(2)));
    let mut adas_events = session.events(&accepted(&session, &adas).await, None).await.expect("a stream");
    let mut bobs_events = bob.events(&accepted(&bob, &bobs).await, None).await.expect("a stream");
    for events in [&mut adas_events, &mut bobs_events] {
        assert_eq!(events.next().await.expect("an event").map(|event| event.name).as_deref(), Some("status"));
    }
    let of_session = tunnel(&cluster, &token).await;
    let mut of_key = tunnel(&cluster, &api_key("adaskey1")).await;
    let mut of_bob = tunnel(&cluster, &api_key("bobskey1")).await;

    assert_eq!(session.delete("/v1/sessions/current").await.expect("an answer").status, 204);
    is_ended(of_session).await;
    let rest = timeout(PATIENCE, adas_events.next()).await.expect("the stream does not go on");
    assert_eq!(rest.expect("no fault"), None, "it has ended");
    echoes(&mut of_key).await;

    let member = Member::Principal("acme:ada").to_string();
    let revocation = Revocation { member, lasts_ms: 3_600_000, spares_later: false };
    let grounds = Grounds { by: "test", reason: "left", max_audit_events: 100 };
    cluster.store().await.expect("a store").revoke(&[revocation], grounds).await.expect("an answer");
    is_ended(of_key).await;
    echoes(&mut of_bob).await;
    drop(bobs_events);
}
