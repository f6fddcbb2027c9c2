//! Which applications can be named, and what is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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
    for url in ["http://app", "http://app:8000", "http://app:8000/", "http://[::1]:80", "http://10.0.0.1"] {
        assert!(url.parse::<UpstreamUrl>().is_ok(), "{url}");
    }
    for url in ["app:8000", "https://app", "ftp://app", "http://", "http://u:p@app", "http://app/api", "http://app?x"] {
        assert!(url.parse::<UpstreamUrl>().is_err(), "{url}");
    }
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
    (Upstream::new(&url, background), seen)
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
    let nobody = Upstream::new(&"http://127.0.0.1:1".parse().unwrap(), Background::default());
    assert_eq!(send(&nobody, Method::GET, "").await, Err(Failure::Unreachable));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: UpstreamUrl = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let silent = Upstream::new(&url, Background::default());
    let request = Request::new(Upload::new(Body::empty(), &BOUNDS));
    let (mut parts, body) = request.into_parts();
    parts.uri = silent.target(PathAndQuery::from_static("/")).unwrap();
    let bounds = Bounds { response: Duration::from_millis(50), ..BOUNDS };
    let late = silent.send(Request::from_parts(parts, body), &bounds).await;
    assert_eq!(late.unwrap_err(), Failure::Late);
}
