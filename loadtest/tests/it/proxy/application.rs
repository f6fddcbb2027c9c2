//! An application that does what the last segment of a path says, however bad that is.
//!
//! Responsible for being told exactly what to send: it writes bytes, not messages, because many of them are no HTTP. It
//! counts what reached it and what is still connected. Must never help a request to its end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A running application. It ends with its handle.
pub(super) struct Application {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    /// Every request's head, in the order in which they came.
    heads: Mutex<Vec<String>>,
    running: AtomicUsize,
    connections: AtomicUsize,
    written: AtomicU64,
    gate: Gate,
}

/// What held requests wait for.
struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

type Stream = BufReader<TcpStream>;

impl Application {
    pub(super) async fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().expect("an address")).await
    }

    async fn listen(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let (address, shared) = (listener.local_addr().expect("an address"), Arc::<Shared>::default());
        let (mut server, serving) = (JoinSet::new(), shared.clone());
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                serving.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(serve(stream, serving.clone()));
            }
        });
        Self { address, shared, server }
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Goes away with all its connections.
    pub(super) async fn vanish(&mut self) {
        self.server.shutdown().await;
    }

    /// The same application, back where it was.
    pub(super) async fn come_back(&mut self) {
        *self = Self::listen(self.address).await;
    }

    /// Requests that have reached it for paths that end in this.
    pub(super) fn seen(&self, end: &str) -> usize {
        let heads = self.shared.heads.lock().expect("unbroken");
        heads.iter().filter(|head| path(head).ends_with(end)).count()
    }

    /// The latest request for a path that ends in this.
    pub(super) fn head(&self, end: &str) -> String {
        let heads = self.shared.heads.lock().expect("unbroken");
        heads.iter().rev().find(|head| path(head).ends_with(end)).expect("it has been asked for").clone()
    }

    /// Requests it is at.
    pub(super) fn running(&self) -> usize {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// Connections it was ever sent.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes of its flood that somebody took.
    pub(super) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }

    /// Lets so many held requests, or pieces of them, go on.
    pub(super) fn release(&self, count: usize) {
        self.shared.gate.0.add_permits(count);
    }
}

fn path(head: &str) -> &str {
    let target = head.split(' ').nth(1).unwrap_or_default();
    target.split('?').next().unwrap_or_default()
}

struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).expect("a socket");
    let mut stream = BufReader::new(stream);
    while let Some(head) = read_head(&mut stream).await {
        shared.heads.lock().expect("unbroken").push(head.clone());
        shared.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(&shared);
        if answer(&mut stream, &head, &shared).await.is_none() {
            return;
        }
    }
}

async fn read_head(stream: &mut Stream) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

async fn write(stream: &mut Stream, text: &str) -> Option<()> {
    stream.write_all(text.as_bytes()).await.ok()
}

/// Waits until the other side has closed the connection, reading whatever it sends.
async fn until_closed(stream: &mut Stream) {
    let mut piece = [0; 4096];
    while matches!(stream.read(&mut piece).await, Ok(1..)) {}
}

async fn released(shared: &Shared) {
    shared.gate.0.acquire().await.expect("never closed").forget();
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Does what the path says; `None` ends the connection.
async fn answer(stream: &mut Stream, head: &str, shared: &Shared) -> Option<()> {
    let last = path(head).rsplit('/').next().unwrap_or_default();
    if let Some(status) = last.strip_prefix("status-") {
        return write(stream, &format!("HTTP/1.1 {status} As told\r\nContent-Length: 2\r\n\r\nno")).await;
    }
    match last {
        "held" => {
            tokio::select! {
                () = released(shared) => {}
                () = until_closed(stream) => return None,
            }
            write(stream, OK).await
        }
        "hang" => {
            until_closed(stream).await;
            None
        }
        "hang-in-body" => {
            write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await?;
            until_closed(stream).await;
            None
        }
        "reset" => None,
        "reset-in-body" => {
            write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await?;
            None
        }
        "two-lengths" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok").await,
        "no-http" => write(stream, "SSH-2.0-OpenSSH_9.9\r\n\r\n").await,
        "bad-chunk" => write(stream, &format!("{CHUNKED}2\r\nok\r\nnonsense\r\n\r\n")).await,
        "length-and-chunks" => {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\nTransfer-Encoding: chunked\r\n\r\n";
            write(stream, &format!("{head}2\r\nok\r\n0\r\n\r\n")).await
        }
        "huge-head" => write(stream, &format!("HTTP/1.1 200 OK\r\nX-Huge: {}\r\n\r\n", "x".repeat(200_000))).await,
        "huge" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n").await,
        "flood" => flood(stream, shared).await,
        "usage" => write(stream, "HTTP/1.1 200 OK\r\nX-Usage-Tokens: 7\r\nContent-Length: 2\r\n\r\nok").await,
        "usage-in-trailers" => {
            let head = "HTTP/1.1 200 OK\r\nTrailer: X-Usage-Tokens, X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n";
            write(stream, &format!("{head}2\r\nok\r\n0\r\nX-Usage-Tokens: 9\r\nX-Checksum: abc\r\n\r\n")).await
        }
        "hints" => write(stream, &format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")).await,
        "nothing" => write(stream, "HTTP/1.1 204 No Content\r\n\r\n").await,
        "head-only" => write(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n").await,
        "private-fields" => {
            let fields = "Connection: X-Private\r\nX-Private: 1\r\nX-User-Type: privileged\r\nSet-Cookie: a=1\r\n";
            write(stream, &format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")).await
        }
        "echo" => echo(stream).await,
        "events" => events(stream, shared).await,
        "socket" => socket(stream).await,
        "unasked-switch" => {
            write(stream, "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").await
        }
        _ => {
            read_body(stream, head).await?;
            write(stream, OK).await
        }
    }
}

async fn read_body(stream: &mut Stream, head: &str) -> Option<()> {
    let lower = head.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(())
}

/// Sends without an end, as fast as it is taken.
async fn flood(stream: &mut Stream, shared: &Shared) -> Option<()> {
    write(stream, CHUNKED).await?;
    let piece = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    loop {
        write(stream, &piece).await?;
        shared.written.fetch_add(0x4000, Ordering::SeqCst);
    }
}

/// Sends back the pieces of a chunked body as they come, and its trailers: the same framing serves both ways.
async fn echo(stream: &mut Stream) -> Option<()> {
    write(stream, CHUNKED).await?;
    let (mut piece, mut tail) = ([0; 4096], Vec::new());
    loop {
        let length = stream.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        stream.write_all(&piece[..length]).await.ok()?;
        tail.extend_from_slice(&piece[..length]);
        if tail.ends_with(b"\r\n\r\n") {
            return Some(());
        }
    }
}

/// An event for each release, until the other side closes the connection.
async fn events(stream: &mut Stream, shared: &Shared) -> Option<()> {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    write(stream, head).await?;
    let mut number = 0;
    loop {
        tokio::select! {
            () = released(shared) => {}
            () = until_closed(stream) => return None,
        }
        number += 1;
        let event = format!("id: {number}\ndata: {number}\n\n");
        write(stream, &format!("{:x}\r\n{event}\r\n", event.len())).await?;
    }
}

/// A protocol of its own: each byte comes back.
async fn socket(stream: &mut Stream) -> Option<()> {
    write(stream, "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").await?;
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        stream.write_all(&piece[..length]).await.ok()?;
    }
}

/// How long a test waits for something that must not happen. It can fail to notice a fault, never find a false one.
pub(super) const SETTLE: Duration = Duration::from_millis(300);
