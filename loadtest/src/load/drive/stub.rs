//! A server that answers as a test says, in a runtime of its own that can be killed.
//!
//! Responsible for misbehaving on request, and for a log of what reached it. Must never be used outside tests.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// 202 with a task.
    Admit,
    /// This status, with these seconds in `Retry-After`.
    Refuse(u16, u64),
    /// 202 once this says so.
    AdmitWhen(watch::Receiver<bool>),
    /// Nothing, ever.
    Hang,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) request_id: String,
    pub(super) idempotency_key: Option<String>,
    pub(super) authorization: Option<String>,
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

#[derive(Clone)]
struct Scripted {
    script: Script,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// A running server.
pub(super) struct Stub {
    runtime: Option<Runtime>,
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Stub {
    /// Serves on a free port.
    pub(super) fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let seen = Arc::default();
        let scripted = Scripted { script: Arc::new(script), seen: Arc::clone(&seen) };
        let (runtime, listener, url) = listen();
        let app = Router::new().route("/v1/tasks", post(answer)).with_state(scripted);
        runtime.spawn(async move { axum::serve(listener, app).await.expect("serving") });
        Self { runtime: Some(runtime), url, seen }
    }

    /// Takes each request, answers with these bytes, whatever they are, and closes the connection.
    pub(super) fn rude(answer: &'static str) -> Self {
        let (runtime, listener, url) = listen();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        Self { runtime: Some(runtime), url, seen: Arc::default() }
    }

    pub(super) fn url(&self) -> String {
        self.url.clone()
    }

    /// What arrived, in order.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the log").clone()
    }

    /// Ends everything at once, connections included.
    pub(super) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listen() -> (Runtime, TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket option");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let listener = {
        let _inside = runtime.enter();
        TcpListener::from_std(listener).expect("a listener")
    };
    (runtime, listener, url)
}

async fn answer(State(scripted): State<Scripted>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| Some(headers.get(name)?.to_str().expect("text").to_owned());
    let seen = Seen {
        request_id: header("x-request-id").unwrap_or_default(),
        idempotency_key: header("idempotency-key"),
        authorization: header("authorization"),
    };
    let reply = (scripted.script)(&seen);
    let task_id = format!("task-{}", seen.request_id);
    scripted.seen.lock().expect("the log").push(seen);
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert!(body["kind"].is_string() && body["payload"].is_string(), "{body}");
    let admit = || (StatusCode::ACCEPTED, format!(r#"{{"task_id":"{task_id}"}}"#)).into_response();
    match reply {
        Reply::Admit => admit(),
        Reply::Refuse(status, seconds) => {
            let status = StatusCode::from_u16(status).expect("a status");
            (status, [("retry-after", seconds.to_string())], r#"{"code":"stub","step":"rate_limit"}"#).into_response()
        }
        Reply::AdmitWhen(mut gate) => {
            gate.wait_for(|open| *open).await.expect("the test still runs");
            admit()
        }
        Reply::Hang => std::future::pending().await,
    }
}
