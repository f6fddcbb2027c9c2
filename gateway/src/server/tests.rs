//! Connections that finish, and connections that are cut.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, advance};

use super::patience::LOOK;
use super::*;

const KEEP_ALIVE: Duration = Duration::from_secs(75);

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
    Fixture { server: Server::start(listener, router, KEEP_ALIVE), address, reached, answer }
}

/// Has a paused clock stand still, even while everybody waits: what is on its way through the kernel takes real time.
fn hold_clock() -> std::sync::mpsc::Sender<()> {
    let (held, until_dropped) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || until_dropped.recv());
    held
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
    (send(address, "/").await, Server::start(listener, Mirror, KEEP_ALIVE))
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
    assert!(silent >= KEEP_ALIVE && silent <= KEEP_ALIVE + 2 * LOOK, "{silent:?}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_is_ever_said_is_closed_as_well() {
    let Fixture { server, address, .. } = fixture().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(read(&mut stream).await, "");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_is_answered_408() {
    let Fixture { server, address, .. } = fixture().await;
    let (mut stream, mut sending) = TcpStream::connect(address).await.unwrap().into_split();
    let trickle = tokio::spawn(async move {
        sending.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n").await.unwrap();
        while sending.write_all(b"X-Another: one\r\n").await.is_ok() {
            sleep(Duration::from_secs(5)).await;
        }
    });
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    let text = String::from_utf8_lossy(&text);
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("connection: close"), "{text}");
    trickle.abort();
    drop(server);
}

/// Answers without an end.
#[derive(Clone)]
struct Flood;

impl Serve for Flood {
    async fn serve(&self, _: hyper::Request<Incoming>, _: SocketAddr) -> Response {
        let piece = || Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16 * 1024]));
        Body::from_stream(futures_util::stream::repeat_with(piece)).into_response()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, Flood, KEEP_ALIVE);
    let held = hold_clock();
    let mut stream = send(address, "/").await;
    stream.readable().await.unwrap();
    drop(held);
    // Longer than a stalled client is put up with; what is in the kernel's buffers is all there is afterwards.
    sleep(Duration::from_secs(60)).await;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    assert!(text.starts_with(b"HTTP/1.1 200"));
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_left_lying_ends_and_those_that_are_read_beside_it_do_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, Flood, KEEP_ALIVE);
    let _held = hold_clock();
    let (mut client, _driven) = http2_client(address).await;
    let mut left = client.send_request(get_request("/")).await.unwrap();
    let mut read = client.send_request(get_request("/")).await.unwrap();
    for _ in 0..60 {
        // More than a client holds back of what it has read, or it would be left lying itself.
        for _ in 0..40 {
            read.frame().await.unwrap().unwrap();
        }
        advance(Duration::from_secs(1)).await;
    }
    // What was on its way to the client is still there.
    let mut ended = false;
    for _ in 0..10_000 {
        ended = left.frame().await.is_none_or(|frame| frame.is_err());
        if ended {
            break;
        }
    }
    assert!(ended);
    assert!(read.frame().await.unwrap().is_ok());
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_a_client_makes_no_room_for_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::start(listener, Flood, KEEP_ALIVE);
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.initial_stream_window_size(0).handshake(stream).await.unwrap();
    let mut driven = JoinSet::new();
    driven.spawn(async move { drop(connection.await) });
    let mut answer = client.send_request(get_request("/")).await.unwrap();
    let began = Instant::now();
    assert!(answer.frame().await.unwrap().is_err());
    assert!(began.elapsed() <= Duration::from_secs(60), "before its connection is given up as silent");
    drop(server);
}

/// A client of HTTP/2 without having asked, and its connection.
async fn http2_client(address: SocketAddr) -> (http2::SendRequest<Empty<Bytes>>, JoinSet<()>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (client, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut driven = JoinSet::new();
    driven.spawn(async move { drop(connection.await) });
    (client, driven)
}

fn get_request(path: &str) -> hyper::Request<Empty<Bytes>> {
    hyper::Request::get(format!("http://h{path}")).body(Empty::new()).unwrap()
}

async fn text(response: hyper::Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn http_2_is_spoken_to_whoever_begins_with_it() {
    let Fixture { server, address, reached, answer } = fixture().await;
    let (mut client, _driven) = http2_client(address).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(client.send_request(get_request("/held")));
        reached.notified().await;
    }
    // All of them run at the same time: each of these wakes another one.
    (0..8).for_each(|_| answer.notify_one());
    for response in held {
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));
        assert_eq!(text(response).await, "done");
    }
    drop(server);
}

#[tokio::test]
async fn clients_of_http_2_are_told_to_go_and_what_they_asked_for_is_finished() {
    let Fixture { server, address, reached, answer } = fixture().await;
    let (mut client, mut driven) = http2_client(address).await;
    let held = client.send_request(get_request("/held"));
    reached.notified().await;
    server.leave();
    let (response, ()) = tokio::join!(held, async {
        // What it asks for until it has read the GOAWAY is answered.
        while let Ok(response) = client.clone().send_request(get_request("/none")).await {
            assert_eq!(response.status().as_u16(), 404);
        }
        answer.notify_one();
    });
    assert_eq!(text(response.unwrap()).await, "done");
    driven.join_next().await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_ok(), "the listener is still open");
    assert!(server.finish(Duration::from_secs(30)).await);
}

#[tokio::test]
async fn who_is_connected_when_the_listener_closes_is_served_once() {
    let Fixture { server, address, .. } = fixture().await;
    let mut early = TcpStream::connect(address).await.unwrap();
    server.close().await;
    assert!(TcpStream::connect(address).await.is_err());
    early.write_all(b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut text = String::new();
    early.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 404"), "{text}");
    assert!(server.finish(Duration::from_secs(30)).await);
}
