//! A connection to the application that remembers whether it has served a request.
//!
//! Responsible for that mark, and for connections being among the gateway's own tasks. Must never look into what is
//! sent.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::background::Background;

/// Whether a connection has served a request. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Served(Arc<AtomicBool>);

impl Served {
    pub(super) fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Makes connections.
#[derive(Clone)]
pub(super) enum Connector {
    Plain(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
}

impl Connector {
    /// With `tls`, connections begin with a handshake, which is part of connecting.
    pub(super) fn new(tls: Option<ClientConfig>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let Some(tls) = tls else { return Self::Plain(connector) };
        connector.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        Self::Tls(builder.enable_http1().wrap_connector(connector))
    }
}

impl Service<Uri> for Connector {
    type Response = Marked;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Marked, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self {
            Self::Plain(connector) => connector.poll_ready(cx).map_err(Into::into),
            Self::Tls(connector) => connector.poll_ready(cx),
        }
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let marked = |stream| Marked { stream, served: Served::default() };
        match self {
            Self::Plain(connector) => {
                let connecting = connector.call(uri);
                Box::pin(async move { Ok(marked(connecting.await?.into())) })
            }
            Self::Tls(connector) => {
                let connecting = connector.call(uri);
                Box::pin(async move { Ok(marked(connecting.await?)) })
            }
        }
    }
}

/// A connection with its mark.
#[derive(Debug)]
pub(super) struct Marked {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    served: Served,
}

impl Connection for Marked {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.served.clone())
    }
}

impl Read for Marked {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl Write for Marked {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// Runs connections among the tasks of a gateway.
#[derive(Clone, Debug)]
pub(super) struct Executor(Background);

impl Executor {
    pub(super) fn new(background: Background) -> Self {
        Self(background)
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_until_stopped(task);
    }
}
