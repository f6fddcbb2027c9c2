//! What goes through a proxy that asks: bodies piece by piece and of any length, `WebSocket`s, and no other protocol.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::application::Application;
use super::front::Front;
use super::{asked, client_of};
use crate::fixture::{PATIENCE, start, until};

/// Longer than what nginx takes unless told otherwise.
const LONG: usize = 3 << 20;

#[tokio::test]
async fn nginx_holds_nothing_back() {
    let (cluster, application) = (start(asked()).await, Application::start().await);
    let front = Front::nginx(cluster.public_address(0), application.address()).await;
    holds_nothing_back(&front, &application).await;
}

#[tokio::test]
async fn caddy_holds_nothing_back() {
    let (cluster, application) = (start(asked()).await, Application::start().await);
    let front = Front::caddy(cluster.public_address(0), application.address()).await;
    holds_nothing_back(&front, &application).await;
}

async fn holds_nothing_back(front: &Front, application: &Application) {
    let long = serde_json::Value::String("x".repeat(LONG));
    let answer = client_of(front).caller("paid", "ada").post("/free", &long).await.expect("an answer");
    assert_eq!((answer.status, application.latest().body.len()), (200, LONG + 2), "{}", front.words());

    let before = application.count();
    let mut stream = send(front, "POST", "/free/pieces", "Transfer-Encoding: chunked\r\n").await;
    stream.write_all(b"5\r\nfirst\r\n").await.expect("sent");
    until("the first piece has arrived", || async { (application.count() > before).then_some(()) }).await;
    assert_eq!(application.latest().body, "first");
    stream.write_all(b"0\r\n\r\n").await.expect("sent");
    read_until(&mut stream, "the application").await;

    let mut stream = send(front, "GET", "/free/endless", "").await;
    read_until(&mut stream, "a piece").await;

    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut stream = send(front, "GET", "/free/socket", websocket).await;
    let head = read_until(&mut stream, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    for word in ["to", "and", "fro"] {
        stream.write_all(word.as_bytes()).await.expect("sent");
        assert_eq!(read_until(&mut stream, word).await, word);
    }
    let mut stream = send(front, "GET", "/guarded/socket", websocket).await;
    let refused = read_until(&mut stream, "no_live_processors").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "a WebSocket is asked about like any request: {refused}");

    for protocols in ["Upgrade: h2c\r\n", "Upgrade: h2c\r\nUpgrade: websocket\r\n", "Upgrade: h2c, websocket\r\n"] {
        let fields = format!("Connection: Upgrade, HTTP2-Settings\r\n{protocols}HTTP2-Settings: AAMAAABk\r\n");
        let mut stream = send(front, "GET", "/free", &fields).await;
        assert!(read_until(&mut stream, "the application").await.starts_with("HTTP/1.1 200"));
        assert_eq!(application.latest().header("upgrade"), "", "behind {protocols:?} nobody would be asked");
    }
}

/// A connection on which this has been asked by a paid caller.
async fn send(front: &Front, method: &str, path: &str, fields: &str) -> TcpStream {
    let mut stream = TcpStream::connect(front.address()).await.expect("a connection");
    let caller = format!("Host: {}\r\nAuthorization: Bearer dev:paid:ada\r\n", front.address());
    let head = format!("{method} {path} HTTP/1.1\r\n{caller}{fields}\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream
}

/// Reads until this has come; all that came.
async fn read_until(stream: &mut TcpStream, what: &str) -> String {
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(what) {
        let came = timeout(PATIENCE, stream.read(&mut piece)).await;
        let length = came.map_or(0, |length| length.expect("more to come"));
        assert!(length > 0, "ended or stuck without {what:?}: {}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&read).into_owned()
}
