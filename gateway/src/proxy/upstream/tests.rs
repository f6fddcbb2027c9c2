//! Which applications can be named, and what is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use http_body_util::BodyExt;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

const BOUNDS: Bounds = Bounds {
    connect: Duration::from_secs(30),
    response: Duration::from_secs(30),
    pause: Duration::from_secs(30),
    least_bytes: 0,
    request_bytes: 100,
    response_bytes: None,
};

#[test]
fn an_application_is_a_host_and_nothing_else() {
    for url in [
        "http://app",
        "http://app:8000",
        "http://app:8000/",
        "http://[::1]:80",
        "http://10.0.0.1",
        "https://app",
        "https://app:8443",
    ] {
        assert!(url.parse::<UpstreamUrl>().is_ok(), "{url}");
    }
    for url in ["app:8000", "ftp://app", "http://", "http://u:p@app", "http://app/api", "http://app?x"] {
        assert!(url.parse::<UpstreamUrl>().is_err(), "{url}");
    }
}

fn plain(url: UpstreamUrl) -> UpstreamOptions {
    UpstreamOptions::new(url, None).unwrap()
}

/// An application that answers `answers` requests of each connection and closes it when the next one has come.
async fn application(answers: usize) -> (Upstream, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: UpstreamUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Arc::new(AtomicUsize::new(0));
    let background = Background::default();
    let counted = seen.clone();
    background.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut served = 0;
            let mut head = [0; 4096];
            while let Ok(1..) = stream.read(&mut head).await {
                counted.fetch_add(1, Ordering::SeqCst);
                if served == answers {
                    break;
                }
                served += 1;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        }
    });
    (Upstream::new(plain(url), background), seen)
}

async fn send(upstream: &Upstream, method: Method, body: &'static str) -> Result<(), Failure> {
    let mut request = Request::new(Upload::new(Body::from(body), &BOUNDS));
    *request.method_mut() = method;
    *request.uri_mut() = upstream.target(PathAndQuery::from_static("/path?query")).unwrap();
    let answer = upstream.send(request, &BOUNDS).await?;
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "ok");
    Ok(())
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_is_replaced_once_where_that_does_no_harm() {
    let (upstream, seen) = application(1).await;
    assert_eq!(send(&upstream, Method::GET, "").await, Ok(()));
    assert_eq!(send(&upstream, Method::GET, "").await, Ok(()), "the second one met a connection that was being closed");
    assert_eq!(seen.load(Ordering::SeqCst), 3, "it was seen twice");
    assert_eq!(send(&upstream, Method::POST, "").await, Err(Failure::Unreachable));
    assert_eq!(seen.load(Ordering::SeqCst), 4, "what may have been done is not asked for again");
}

#[tokio::test]
async fn a_request_with_a_body_is_not_sent_again() {
    let (upstream, seen) = application(1).await;
    assert_eq!(send(&upstream, Method::GET, "").await, Ok(()));
    assert_eq!(send(&upstream, Method::PUT, "body").await, Err(Failure::Unreachable));
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_new_connection_that_breaks_is_a_failure_at_once() {
    let (upstream, seen) = application(0).await;
    assert_eq!(send(&upstream, Method::GET, "").await, Err(Failure::Unreachable));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_somebody_silent_is_late() {
    let nobody = Upstream::new(plain("http://127.0.0.1:1".parse().unwrap()), Background::default());
    assert_eq!(send(&nobody, Method::GET, "").await, Err(Failure::Unreachable));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: UpstreamUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let silent = Upstream::new(plain(url), Background::default());
    let request = Request::new(Upload::new(Body::empty(), &BOUNDS));
    let (mut parts, body) = request.into_parts();
    parts.uri = silent.target(PathAndQuery::from_static("/")).unwrap();
    let bounds = Bounds { response: Duration::from_millis(50), ..BOUNDS };
    let late = silent.send(Request::from_parts(parts, body), &bounds).await;
    assert_eq!(late.unwrap_err(), Failure::Late);
}

/// An application that proves itself by a certificate that it has made itself, with that certificate.
async fn application_over_tls(background: &Background) -> (UpstreamUrl, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.der().clone(), made.signing_key.serialize_der().try_into().unwrap());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    background.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            if matches!(stream.read(&mut head).await, Ok(1..)) {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    (url, made.cert.pem())
}

#[tokio::test]
async fn an_application_over_tls_is_asked_only_if_it_proves_to_be_it() {
    let background = Background::default();
    let (url, certificate) = application_over_tls(&background).await;
    let known = UpstreamOptions::new(url.clone(), Some(certificate.as_bytes())).unwrap();
    assert_eq!(send(&Upstream::new(known, background.clone()), Method::GET, "").await, Ok(()));
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let unknown = UpstreamOptions::new(url, Some(other.as_bytes())).unwrap();
    assert_eq!(send(&Upstream::new(unknown, background), Method::GET, "").await, Err(Failure::Unreachable));
}

#[test]
fn authorities_that_are_none_or_that_nobody_needs_are_told() {
    let https: UpstreamUrl = "https://app".parse().unwrap();
    for ca in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(UpstreamOptions::new(https.clone(), Some(ca.as_bytes())).is_err(), "{ca}");
    }
    assert!(UpstreamOptions::new("http://app".parse().unwrap(), Some(b"")).is_err());
}
