//! One kept-alive HTTP/1.1 connection, driven by whoever uses it.
//!
//! Responsible for exchanges, one at a time. Must never be used again after an exchange was given up: what is on the
//! wire then belongs to nobody.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::answer::{self, MAX_BODY};
use super::failure::Failure;
use crate::record::Answered;

/// What came of an exchange.
pub(super) type Exchanged = Result<Answered, Failure>;

/// Bytes a connection may buffer in each direction before it waits.
const BUFFER: usize = 16 * 1024;

type Wire = http1::Connection<TokioIo<TcpStream>, Full<Bytes>>;

/// An open connection.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Reads and writes. `None` once the connection is over: only when it is dropped are exchanges told.
    wire: Option<Pin<Box<Wire>>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("open", &self.wire.is_some()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to `host:port`, with Nagle's algorithm off.
    pub(super) async fn open(authority: &str) -> Result<Self, Failure> {
        let connected = async {
            // Without a port it is the one of http.
            let stream = match authority.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => TcpStream::connect(authority).await?,
                _ => TcpStream::connect((authority, 80)).await?,
            };
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connected.await.map_err(|error| Failure::to_connect(&error))?;
        let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await;
        let (sender, wire) = handshake.map_err(|_| Failure::unsent("connecting failed"))?;
        Ok(Self { sender, wire: Some(Box::pin(wire)) })
    }

    /// Whether another exchange may be tried.
    pub(super) fn is_open(&self) -> bool {
        self.wire.is_some() && !self.sender.is_closed()
    }

    /// Sends a request and reads its answer. Gives the request back if nothing of it was sent because the server had
    /// closed the connection.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Exchanged, Request<Full<Bytes>>> {
        let Self { sender, wire } = self;
        // Hears of a server that has closed the connection since it was last used.
        if beside(wire, poll_fn(|cx| sender.poll_ready(cx))).await.is_err() {
            return Err(request);
        }
        let response = match beside(wire, sender.try_send_request(request)).await {
            Ok(response) => response,
            Err(mut error) => {
                return match error.take_message() {
                    Some(untouched) => Err(untouched),
                    None => Ok(Err(Failure::of_exchange(error.error()))),
                };
            }
        };
        Ok(beside(wire, read(response)).await)
    }
}

async fn read(response: Response<Incoming>) -> Exchanged {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
        let broken = error.downcast_ref::<hyper::Error>().map(Failure::of_exchange);
        broken.unwrap_or(Failure { why: "answer too long", sent: true })
    })?;
    Ok(answer::read(head.status.as_u16(), &head.headers, &body.to_bytes()))
}

/// Does `work` while the wire moves.
async fn beside<T>(wire: &mut Option<Pin<Box<Wire>>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if wire.as_mut().is_some_and(|moving| moving.as_mut().poll(cx).is_ready()) {
            *wire = None;
        }
        work.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;

    fn request() -> Request<Full<Bytes>> {
        Request::post("/v1/tasks").header("host", "test").body(Full::default()).expect("a request")
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_while_idle_gives_the_request_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let authority = listener.local_addr().expect("bound").to_string();
        let (close, closing) = oneshot::channel::<()>();
        let serving = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut received = [0; 1024];
            for _ in 0..2 {
                assert!(stream.read(&mut received).await.expect("a request") > 0);
                stream.write_all(b"HTTP/1.1 429 No\r\ncontent-length: 0\r\n\r\n").await.expect("answered");
            }
            closing.await.expect("answered twice");
        };
        let calling = async {
            let mut connection = Connection::open(&authority).await.expect("open");
            for _ in 0..2 {
                let answered = connection.exchange(request()).await.expect("sent").expect("answered");
                assert_eq!((answered.status, connection.is_open()), (429, true), "kept alive");
            }
            close.send(()).expect("the server waits");
            connection
        };
        let (mut connection, ()) = tokio::join!(calling, serving);
        // A turn of the runtime's poll, so that it has heard of the end.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let given_back = connection.exchange(request()).await.expect_err("it is closed");
        assert_eq!((given_back.uri().path(), connection.is_open()), ("/v1/tasks", false));
    }
}
