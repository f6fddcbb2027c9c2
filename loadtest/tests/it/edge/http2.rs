//! HTTP/2 without having asked for it, as balancers and meshes speak it to what stands behind them.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::fixture::{cluster, start};

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.expect("a whole body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

#[tokio::test]
async fn many_requests_share_a_connection_and_a_stream_of_events_does_not_hold_them_up() {
    let cluster = start(cluster().processors(1)).await;
    let address = cluster.public_address(0);
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("the gateway speaks HTTP/2");
    let mut driven = JoinSet::new();
    driven.spawn(async move { drop(connection.await) });
    let send = |method: &str, path: &str, body: &Value| {
        let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        let request = request.header("authorization", "Bearer dev:privileged:ada");
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        client.clone().send_request(request.body(Full::new(body)).expect("a request"))
    };
    let slow = json!({"kind": "slow", "payload": {"ms": 1000, "output": 3}});
    let accepted = send("POST", "/v1/tasks", &slow).await.expect("an answer");
    assert_eq!((accepted.status().as_u16(), accepted.version()), (202, hyper::Version::HTTP_2));
    let location = accepted.headers()["location"].to_str().expect("text").to_owned();
    let events = send("GET", &format!("{location}/events"), &Value::Null).await.expect("an answer");
    assert_eq!(events.status().as_u16(), 200);

    let quick: Vec<_> = (0..40).map(|_| send("GET", "/v1/limits", &Value::Null)).collect();
    for answer in quick {
        assert_eq!(answer.await.expect("an answer").status().as_u16(), 200);
    }
    let events = text(events).await;
    assert!(events.contains("piece 3 of 3") && events.contains("event: done"), "{events}");

    let wrong = send("GET", "/nothing", &Value::Null).await.expect("an answer");
    let (status, body) = (wrong.status().as_u16(), text(wrong).await);
    assert_eq!((status, body.contains("not_found")), (404, true));
    let hosts = Request::get(format!("http://{address}/v1/limits")).header("host", "elsewhere");
    let answer = client.clone().send_request(hosts.body(Full::default()).expect("a request")).await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 400, "one host");
}
