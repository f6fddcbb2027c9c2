//! The listener with a Redis that is not there, asked as Envoy asks.

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

use super::message::{Entry, RateLimitDescriptor};
use super::*;
use crate::server::Server;
use crate::state::tests::options_without_redis;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// The gRPC status of this question, asked of a server of its own with this token if any.
async fn status(token: Option<&str>, presented: Option<&str>, path: &str, entries: &[(&str, &str)]) -> i32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = token.map(|token| BearerToken::new(&token.into()));
    let service = RateLimitService::new(Gateway::new(options_without_redis()), token);
    let server = Server::start(listener, service, Duration::from_secs(75));
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let entries = entries.iter().map(|(key, value)| Entry { key: (*key).to_owned(), value: (*value).to_owned() });
    let descriptor = RateLimitDescriptor { entries: entries.collect(), ..Default::default() };
    let question = RateLimitRequest { domain: "envoy".to_owned(), descriptors: vec![descriptor], hits_addend: 1 };
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(question.encoded_len() as u32);
    question.encode(&mut message).unwrap();
    let mut request = Request::post(format!("http://rls{path}")).header("content-type", "application/grpc");
    if let Some(presented) = presented {
        request = request.header("authorization", presented);
    }
    let answer = sender.send_request(request.body(Full::<Bytes>::new(message.freeze())).unwrap()).await.unwrap();
    let headers = answer.headers().clone();
    let body = answer.into_body().collect().await.unwrap();
    let status = headers.get("grpc-status").or_else(|| body.trailers()?.get("grpc-status")).unwrap();
    let status = status.to_str().unwrap().parse().unwrap();
    drop(sender);
    server.leave();
    assert!(server.finish(Duration::from_secs(30)).await, "a connection that nobody uses ends");
    connection.abort();
    status
}

#[tokio::test]
async fn a_decision_that_cannot_be_made_is_unavailable_and_one_without_gates_is_made() {
    assert_eq!(status(None, None, SHOULD_RATE_LIMIT, &[("user_type", "paid")]).await, Code::Unavailable as i32);
    assert_eq!(status(None, None, SHOULD_RATE_LIMIT, &[("kind", "read")]).await, Code::Ok as i32);
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_an_invalid_argument_before_anything_is_asked() {
    assert_eq!(status(None, None, SHOULD_RATE_LIMIT, &[("principle", "ada")]).await, Code::InvalidArgument as i32);
    assert_eq!(status(None, None, "/envoy.service.ratelimit.v3.Other/Ask", &[]).await, Code::Unimplemented as i32);
}

#[tokio::test]
async fn where_there_is_a_token_nobody_asks_without_it() {
    let read = [("kind", "read")];
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(status(Some(TOKEN), Some(&bearer), SHOULD_RATE_LIMIT, &read).await, Code::Ok as i32);
    for presented in [None, Some("Bearer wrong"), Some(TOKEN), Some("")] {
        let status = status(Some(TOKEN), presented, SHOULD_RATE_LIMIT, &read).await;
        assert_eq!(status, Code::Unauthenticated as i32, "{presented:?}");
    }
}
