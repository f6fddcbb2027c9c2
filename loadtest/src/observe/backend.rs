//! The handlers of a run: an HTTP server of the harness's own that does made-up work and logs every attempt.
//!
//! Responsible for the log of attempts, in the order in which they began. Must never refuse a second run of a task or a
//! stale token: catching those is what the log is for.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::work::{Fate, Work};
use crate::error::HarnessError;
use crate::record::attempt::AttemptEnd;
use crate::record::{Attempt, RunClock};

/// Largest payload a policy may allow.
const BODY_MAX: usize = 64 << 20;

/// A running backend. It ends with its handle.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    clock: RunClock,
    works: RwLock<BTreeMap<String, Work>>,
    log: Mutex<Vec<Attempt>>,
    stop: CancellationToken,
}

impl Backend {
    /// Serves these task kinds on a free loopback port.
    pub async fn start(clock: RunClock, works: BTreeMap<String, Work>) -> Result<Self, HarnessError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(HarnessError::io("binding"))?;
        let address = listener.local_addr().map_err(HarnessError::io("asking for the backend's port"))?;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let (log, stop) = (Mutex::default(), CancellationToken::new());
        let shared = Arc::new(Shared { clock, works: RwLock::new(works), log, stop });
        let routes = Router::new().route("/{kind}", post(run)).with_state(shared.clone());
        let stopped = shared.stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            // An accept that fails is retried by the server itself.
            drop(axum::serve(listener, routes).with_graceful_shutdown(stopped).await);
        });
        Ok(Self { address, shared, server })
    }

    /// The URL of this kind's handler, for `--handler KIND=URL`.
    #[must_use]
    pub fn target(&self, kind: &str) -> String {
        format!("http://{}/{kind}", self.address)
    }

    /// Changes what handlers of this kind do with attempts that begin from now on; what they did before.
    pub fn set(&self, kind: &str, work: Work) -> Option<Work> {
        self.shared.works.write().unwrap_or_else(PoisonError::into_inner).insert(kind.to_owned(), work)
    }

    /// What handlers of this kind do now.
    #[must_use]
    pub fn work(&self, kind: &str) -> Option<Work> {
        self.shared.work(kind)
    }

    /// Attempts that have begun so far.
    #[must_use]
    pub fn begun(&self) -> usize {
        self.shared.log().len()
    }

    /// Ends the server; every attempt, in the order in which they began. Those that still run stay so in the log.
    pub async fn finish(mut self) -> Vec<Attempt> {
        let attempts = self.shared.log().clone();
        self.shared.stop.cancel();
        // It ends when its last connection does, which is at once: nothing is left to wait for.
        drop((&mut self.server).await);
        attempts
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.server.abort();
    }
}

impl Shared {
    fn work(&self, kind: &str) -> Option<Work> {
        self.works.read().unwrap_or_else(PoisonError::into_inner).get(kind).cloned()
    }

    fn log(&self) -> MutexGuard<'_, Vec<Attempt>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt under way. Dropped without having ended, it was abandoned: the server drops a handler whose connection
/// is closed.
struct Running {
    shared: Arc<Shared>,
    place: usize,
}

impl Running {
    fn begin(shared: &Arc<Shared>, kind: String, headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut attempt = Attempt {
            task_id: text("x-task-id").to_owned(),
            attempt: text("x-attempt").parse().unwrap_or(0),
            fencing_token: text("x-fencing-token").parse().unwrap_or(0),
            kind,
            user_type: text("x-user-type").to_owned(),
            principal: text("x-principal").to_owned(),
            started_us: 0,
            ended_us: None,
            end: AttemptEnd::Running,
        };
        let mut log = shared.log();
        // Read under the lock, so that the log is in the order of its times.
        attempt.started_us = shared.clock.now_us();
        log.push(attempt);
        Self { shared: shared.clone(), place: log.len() - 1 }
    }

    fn end(&self, end: AttemptEnd) {
        let mut log = self.shared.log();
        let now_us = self.shared.clock.now_us();
        if let Some(attempt) = log.get_mut(self.place).filter(|attempt| attempt.ended_us.is_none()) {
            (attempt.ended_us, attempt.end) = (Some(now_us), end);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(AttemptEnd::Abandoned);
    }
}

async fn run(State(shared): State<Arc<Shared>>, Path(kind): Path<String>, request: Request) -> Response {
    let Some(work) = shared.work(&kind) else { return StatusCode::NOT_FOUND.into_response() };
    let (head, body) = request.into_parts();
    let running = Running::begin(&shared, kind, &head.headers);
    if axum::body::to_bytes(body, BODY_MAX).await.is_err() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let fate = work.draw(&mut rand::rng());
    let (end, status) = match fate {
        Fate::Succeeds(_) => (AttemptEnd::Succeeded, StatusCode::OK),
        Fate::Fails(_) | Fate::Hangs => (AttemptEnd::Failed, StatusCode::INTERNAL_SERVER_ERROR),
    };
    let worked = async {
        match fate {
            Fate::Succeeds(took) | Fate::Fails(took) => tokio::time::sleep(took).await,
            Fate::Hangs => std::future::pending().await,
        }
    };
    tokio::select! {
        () = worked => {}
        () = shared.stop.cancelled() => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
    let mut response = (status, r#"{"done":true}"#).into_response();
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    for (unit, amount) in &work.usage {
        if let Ok(name) = HeaderName::try_from(format!("x-usage-{}", unit.replace('_', "-"))) {
            response.headers_mut().insert(name, HeaderValue::from(*amount));
        }
    }
    running.end(end);
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::http_client;
    use crate::eventually::eventually;

    async fn started(work: Work) -> Backend {
        Backend::start(RunClock::start(), BTreeMap::from([("chat".to_owned(), work)])).await.unwrap()
    }

    fn attempt(backend: &Backend, token: u64) -> reqwest::RequestBuilder {
        let request = http_client().unwrap().post(backend.target("chat")).body("{}");
        request.header("x-task-id", "T").header("x-attempt", "1").header("x-fencing-token", token.to_string())
    }

    #[tokio::test]
    async fn logs_what_succeeds_and_what_fails_and_reports_usage() {
        let usage = BTreeMap::from([("micro_dollars".to_owned(), 5)]);
        let backend = started(Work { usage, ..Work::constant(0.0) }).await;
        let answer = attempt(&backend, 7).send().await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["x-usage-micro-dollars"]),
            (200, &"5".parse().unwrap())
        );
        let before = backend.set("chat", Work { failure_rate: 1.0, ..Work::constant(0.0) });
        assert_eq!(before.map(|work| work.failure_rate), Some(0.0));
        assert_eq!(attempt(&backend, 8).send().await.unwrap().status().as_u16(), 500);
        let log = backend.finish().await;
        let ends: Vec<_> = log.iter().map(|attempt| (attempt.fencing_token, attempt.end)).collect();
        assert_eq!(ends, [(7, AttemptEnd::Succeeded), (8, AttemptEnd::Failed)]);
        assert!(log[0].ended_us.unwrap() <= log[1].started_us);
    }

    #[tokio::test]
    async fn an_attempt_whose_connection_is_closed_is_abandoned_and_one_that_hangs_still_runs() {
        let backend = started(Work { hang_rate: 1.0, ..Work::default() }).await;
        let (first, second) = (attempt(&backend, 1).send(), attempt(&backend, 2).send());
        let begun = |count: usize| {
            let backend = &backend;
            eventually(Duration::from_secs(20), "it has begun", move || async move {
                (backend.begun() == count).then_some(())
            })
        };
        tokio::select! {
            answer = first => panic!("{answer:?}"),
            waited = begun(1) => waited.unwrap(),
        }
        let abandoned = eventually(Duration::from_secs(20), "the closed connection is noticed", || async {
            (backend.shared.log()[0].end == AttemptEnd::Abandoned).then_some(())
        });
        abandoned.await.unwrap();
        let second = tokio::spawn(second);
        begun(2).await.unwrap();
        let log = backend.finish().await;
        assert_eq!((log[1].end, log[1].ended_us), (AttemptEnd::Running, None));
        assert_eq!(second.await.unwrap().unwrap().status().as_u16(), 503, "it lets go of what hangs when it ends");
    }

    #[tokio::test]
    async fn a_kind_it_does_not_serve_is_not_found_and_not_logged() {
        let backend = started(Work::default()).await;
        let answer = http_client().unwrap().post(backend.target("other")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 404);
        assert_eq!(backend.finish().await, []);
    }
}
