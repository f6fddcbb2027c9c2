//! A trace goes from the client through the queue to the handler.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use portcullis_loadtest::client::Submission;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fixture::{accepted, cluster, ended, start};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A handler that keeps the headers of its last call, and its URL.
async fn handler() -> (Arc<Mutex<HeaderMap>>, String, JoinSet<()>) {
    let seen = Arc::<Mutex<HeaderMap>>::default();
    let keep = {
        let seen = seen.clone();
        move |headers: HeaderMap| async move {
            *seen.lock().expect("no panic") = headers;
            "done"
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/trace", listener.local_addr().expect("an address"));
    let mut serving = JoinSet::new();
    serving.spawn(async move { drop(axum::serve(listener, Router::new().route("/trace", post(keep))).await) });
    (seen, url, serving)
}

#[tokio::test]
async fn a_handler_works_on_the_trace_of_the_client_or_of_the_balancer() {
    let (seen, url, _serving) = handler().await;
    let cluster = start(cluster().processors(1).handler("trace", &url)).await;
    let client = cluster.gateway(0).caller("privileged", "ada");
    let handled = async |lines: &[(&str, &str)]| {
        let task =
            lines.iter().fold(Submission::new("trace", json!(1)), |task, (name, value)| task.header(name, *value));
        let task_id = accepted(&client, &task).await;
        assert_eq!(ended(&client, &task_id).await.task_status(), "succeeded");
        let headers = seen.lock().expect("no panic").clone();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
        (text("traceparent").expect("always one"), text("tracestate"), text("x-request-id").expect("always one"))
    };
    let (parent, state, request) =
        handled(&[("traceparent", TRACE), ("tracestate", "a=1,b=2"), ("x-request-id", "order-7")]).await;
    assert_eq!((parent.as_str(), state.as_deref(), request.as_str()), (TRACE, Some("a=1,b=2"), "order-7"));

    let amazon = "Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1";
    let (parent, state, _) = handled(&[("x-amzn-trace-id", amazon), ("tracestate", "a=1")]).await;
    assert_eq!((parent.as_str(), state), ("00-67891233abcdef012345678912345678-53995c3f42cd8ad8-01", None));

    for lines in [&[("traceparent", "00-junk")][..], &[]] {
        let (parent, state, _) = handled(lines).await;
        let parts: Vec<usize> = parent.split('-').map(str::len).collect();
        assert_eq!((parts, state), (vec![2, 32, 16, 2], None), "{parent}");
    }
}
