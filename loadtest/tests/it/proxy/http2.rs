//! Requests over HTTP/2 for an application that speaks HTTP/1.1.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::handshake;
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{guarded, until_in_flight};

#[tokio::test]
async fn a_body_of_unknown_length_and_its_trailers_go_through_both_ways() {
    let (cluster, application) = guarded(3, &json!({})).await;
    let stream = TcpStream::connect(cluster.public_address(0)).await.expect("a connection");
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    let mut driven = JoinSet::new();
    driven.spawn(async move { drop(connection.await) });

    let mut trailers = HeaderMap::new();
    for (name, value) in [("x-checksum", "abc"), ("x-user-type", "privileged")] {
        trailers.insert(name, value.parse().expect("a value"));
    }
    let pieces = ["first", "second"].map(|piece| Frame::data(Bytes::from_static(piece.as_bytes())));
    let frames = pieces.into_iter().chain([Frame::trailers(trailers)]).map(Ok::<_, Infallible>);
    let request = Request::post("http://shop.example/guarded/echo")
        .header("authorization", "Bearer dev:paid:ada")
        .header("te", "trailers")
        .header("trailer", "x-checksum, x-user-type")
        .body(StreamBody::new(stream::iter(frames)))
        .expect("a request");
    let answer = client.send_request(request).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().get("transfer-encoding")), (200, None));
    let body = answer.into_body().collect().await.expect("all of it");
    let trailers = body.trailers().cloned().unwrap_or_default();
    assert_eq!(body.to_bytes(), "firstsecond");
    assert_eq!(trailers.get("x-checksum").map(hyper::header::HeaderValue::as_bytes), Some(&b"abc"[..]));
    assert_eq!(trailers.get("x-user-type"), None, "who calls is not for a trailer to say");

    let seen = application.head("/echo").to_ascii_lowercase();
    assert!(seen.starts_with("post /guarded/echo http/1.1\r\n") && seen.contains("host: shop.example\r\n"), "{seen}");
    assert!(seen.contains("transfer-encoding: chunked\r\n") && !seen.contains("content-length"), "{seen}");
    until_in_flight(&cluster, 0).await;
}
