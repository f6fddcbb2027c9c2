//! The server that everything is measured against: the same HTTP stack, and next to nothing behind it.
//!
//! Responsible for a floor that flatters nobody: it reads the body where the gateway must, answers as many bytes, and
//! its one Redis call goes over the kind of connection the gateway uses. Must never be faster by leaving out what any
//! server has to do.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::compare::fixed_answer::FixedAnswer;
use crate::compare::point::{GUARDED, READ};
use crate::error::HarnessError;
use crate::probe::Probe;
use crate::report::say;

/// About what a gateway answers to an admitted task.
const BODY: &str =
    r#"{"task_id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","status":"queued","user_type":"registered","session_id":"x"}"#;

#[derive(Clone, Debug)]
struct Floor {
    probe: Probe,
    digest: String,
    /// What `/static` answers, once somebody has said it.
    fixed: Arc<OnceLock<FixedAnswer>>,
}

/// Serves on a free port until killed; the only argument is the Redis URL. Without it, it is the application behind
/// proxies.
pub fn run(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let url = args.next().and_then(|url| url.into_string().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime
        .map_err(HarnessError::io("starting the runtime"))
        .and_then(|runtime| runtime.block_on(serve(url.as_deref())))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn serve(url: Option<&str>) -> Result<(), HarnessError> {
    let app = match url {
        Some(url) => {
            let probe = Probe::connect(url).await?;
            let digest = probe.load_script("return 1").await?;
            router(Floor { probe, digest, fixed: Arc::default() })
        }
        None => application(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(HarnessError::io("binding a port"))?;
    let address = listener.local_addr().map_err(HarnessError::io("reading the bound address"))?;
    say(format!("listening public={address}"));
    axum::serve(listener, app).await.map_err(HarnessError::io("serving"))
}

/// The application behind the proxies.
fn application() -> Router {
    let page = async || answer(StatusCode::OK);
    Router::new().route(READ, get(page)).route(GUARDED, get(page))
}

fn router(floor: Floor) -> Router {
    Router::new()
        .route("/bare", post(bare))
        .route("/evalsha", post(evalsha))
        .route("/minimal", post(minimal))
        .route("/static", post(repeat).put(teach))
        .with_state(floor)
}

async fn bare(_body: Bytes) -> Response {
    answer(StatusCode::ACCEPTED)
}

async fn evalsha(State(floor): State<Floor>, _body: Bytes) -> Response {
    let reached = floor.probe.evalsha(&floor.digest).await.is_ok();
    answer(if reached { StatusCode::ACCEPTED } else { StatusCode::SERVICE_UNAVAILABLE })
}

fn answer(status: StatusCode) -> Response {
    (status, [("content-type", "application/json")], BODY).into_response()
}

/// As little as a 429 can be. A gateway that refuses does not look at the body either.
async fn minimal() -> StatusCode {
    StatusCode::TOO_MANY_REQUESTS
}

async fn repeat(State(floor): State<Floor>) -> Response {
    floor.fixed.get().map_or_else(|| StatusCode::NOT_FOUND.into_response(), FixedAnswer::response)
}

/// Takes the answer to repeat, as it came over the wire.
async fn teach(State(floor): State<Floor>, wire: Bytes) -> StatusCode {
    let Some(answer) = FixedAnswer::parse(&wire) else { return StatusCode::BAD_REQUEST };
    if floor.fixed.set(answer).is_ok() { StatusCode::NO_CONTENT } else { StatusCode::CONFLICT }
}
