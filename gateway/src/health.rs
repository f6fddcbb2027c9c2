//! `GET /healthz` and `GET /readyz`: alive, and willing to take traffic.
//!
//! Must never ask Redis: an outage of what all replicas share would take every one of them out of the balancer at once,
//! and with them the refusals that tell callers when to come back.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::any;

use crate::degraded::{self, Fallback};
use crate::refusal::Refused;
use crate::respond;
use crate::state::Gateway;

/// The names of the two operations.
pub(crate) const CHECKS: [&str; 2] = ["healthz", "readyz"];

/// Whether a path is one of the two.
pub(crate) fn is_check(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// Both checks, for either listener.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let other_method = async || respond::problem(&Refused::not_found());
    Router::new()
        .route("/healthz", any(other_method).get(healthz))
        .route("/readyz", any(other_method).get(readyz))
        .with_state(gateway)
}

/// Alive: the process answers.
#[utoipa::path(
    get, path = "/healthz", operation_id = "healthz", tag = "health", summary = "Alive",
    responses((status = 200, description = "The process answers", body = String, content_type = "text/plain"))
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Ready: 200 unless draining. Fallbacks that this gateway knows of by itself are listed, and change nothing.
#[utoipa::path(
    get, path = "/readyz", operation_id = "readyz", tag = "health", summary = "Willing to take traffic",
    responses(
        (status = 200, description = "Ready. A second line, `degraded: ` and names with commas, lists the fallbacks in \
            use, as far as this gateway knows of them without asking", body = String, content_type = "text/plain"),
        (status = 503, description = "Draining", body = String, content_type = "text/plain"),
    )
)]
pub(crate) async fn readyz(State(gateway): State<Arc<Gateway>>) -> (StatusCode, String) {
    let (status, word) =
        if gateway.draining() { (StatusCode::SERVICE_UNAVAILABLE, "draining") } else { (StatusCode::OK, "ready") };
    let degraded: Vec<&str> = degraded::of_gateway(&gateway).into_iter().map(Fallback::as_str).collect();
    let line = if degraded.is_empty() { String::new() } else { format!("degraded: {}\n", degraded.join(", ")) };
    (status, format!("{word}\n{line}"))
}
