//! Connections that finish, and connections that are cut.

use std::sync::Arc;

use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;

/// A server whose `/held` answers when told to, after saying that it was reached.
struct Fixture {
    server: Server,
    address: SocketAddr,
    reached: Arc<Notify>,
    answer: Arc<Notify>,
}

async fn fixture() -> Fixture {
    let (reached, answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let held = {
        let (reached, answer) = (reached.clone(), answer.clone());
        move || async move {
            reached.notify_one();
            answer.notified().await;
            "done"
        }
    };
    let router = Router::new().route("/held", get(held));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Fixture { server: Server::start(listener, router), address, reached, answer }
}

async fn send(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_request_that_runs_is_finished_and_an_idle_connection_closed() {
    let Fixture { server, address, reached, answer } = fixture().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut held = send(address, "/held").await;
    reached.notified().await;
    let (finished, text) = tokio::join!(server.finish(Duration::from_secs(30)), async {
        // The idle connection closing shows that the server has begun to finish.
        assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        answer.notify_one();
        let mut text = String::new();
        held.read_to_string(&mut text).await.unwrap();
        text
    });
    assert!(finished);
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("done"), "{text}");
    assert!(TcpStream::connect(address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_request_that_does_not_finish_in_time_is_reported_and_cut() {
    let Fixture { server, address, reached, answer: _ } = fixture().await;
    let mut held = send(address, "/held").await;
    reached.notified().await;
    assert!(!server.finish(Duration::from_millis(1)).await);
    let mut text = String::new();
    assert!(held.read_to_string(&mut text).await.is_err() || text.is_empty());
}

#[tokio::test]
async fn dropping_the_server_cuts_every_connection() {
    let Fixture { server, address, reached, answer: _ } = fixture().await;
    let mut held = send(address, "/held").await;
    reached.notified().await;
    drop(server);
    let mut text = String::new();
    assert!(held.read_to_string(&mut text).await.is_err() || text.is_empty());
}

/// Answers with the address of the connection.
#[derive(Clone)]
struct Mirror;

impl Serve for Mirror {
    async fn serve(&self, _: hyper::Request<Incoming>, peer: SocketAddr) -> Response {
        peer.to_string().into_response()
    }
}

/// A connection to a mirror, and the mirror.
async fn mirrored() -> (TcpStream, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (send(address, "/").await, Server::start(listener, Mirror))
}

async fn read(stream: &mut TcpStream) -> String {
    let mut answer = vec![0; 512];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

#[tokio::test]
async fn a_request_knows_where_its_connection_came_from() {
    let (mut stream, server) = mirrored().await;
    let text = read(&mut stream).await;
    assert!(text.ends_with(&stream.local_addr().unwrap().to_string()), "{text}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_kept_for_as_long_as_a_balancer_keeps_it_and_then_closed() {
    let (mut stream, server) = mirrored().await;
    assert!(read(&mut stream).await.starts_with("HTTP/1.1 200"));
    let silent_since = Instant::now();
    // The clock runs on by itself while nothing else happens.
    assert_eq!(read(&mut stream).await, "");
    let silent = silent_since.elapsed();
    assert!(silent >= Duration::from_secs(60) && silent <= IDLE + 2 * LOOK, "{silent:?}");
    drop(server);
}
