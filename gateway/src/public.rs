//! The public listener's routes, and the layer every one of them is under.
//!
//! Responsible for the table of routes. Must never add a route outside the session layer except the two health checks:
//! what is under it has a caller, and an answer with the headers every answer has.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use portcullis_config::UserType;
use portcullis_lua::Step;
use tokio::time::Instant;

use crate::admission::session::{self, Identity};
use crate::refusal::Refused;
use crate::respond::{self, RequestId};
use crate::server::Peer;
use crate::state::Gateway;
use crate::{events, health, limits, metric, tasks};

/// The label of callers that could not be resolved.
static NOBODY: LazyLock<UserType> =
    LazyLock::new(|| UserType::new("unresolved").unwrap_or_else(|_| UserType::anonymous()));

/// Everything the public listener serves.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    // `any` answers the other methods, without an `Allow` that would tell them from an unknown path.
    Router::new()
        .route("/v1/tasks", any(not_found).post(tasks::submit))
        .route("/v1/tasks/{id}", any(not_found).get(tasks::show).delete(tasks::cancel))
        .route("/v1/tasks/{id}/events", any(not_found).get(events::follow))
        .route("/v1/limits", any(not_found).get(limits::show))
        .fallback(not_found)
        .layer(from_fn_with_state(gateway.clone(), session_layer))
        .with_state(gateway.clone())
        .merge(health::router(gateway))
}

/// The label of a path in metrics. Paths with ids in them would be a time series each.
fn route_name(path: &str) -> &'static str {
    match path {
        "/v1/tasks" => "/v1/tasks",
        "/v1/limits" => "/v1/limits",
        _ if !path.starts_with("/v1/tasks/") => "other",
        _ if path.ends_with("/events") => "/v1/tasks/{id}/events",
        _ => "/v1/tasks/{id}",
    }
}

/// An unknown path and a known one under another method are the same nothing. It takes an identity like every handler.
async fn not_found(_: Identity) -> Refused {
    Refused::not_found()
}

/// Resolves the caller, lets the handler run, and finishes the answer.
async fn session_layer(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = route_name(request.uri().path());
    let (mut parts, body) = request.into_parts();
    let request_id = RequestId::of(&parts.headers);
    // A request that came over no connection shares one session with its like.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let peer = parts.extensions.get::<Peer>().map_or(nowhere, |&Peer(address)| address);
    let (identity, response) = match session::resolve(&gateway, &parts, peer).await {
        Ok(identity) => {
            parts.extensions.insert(identity.clone());
            parts.extensions.insert(request_id.clone());
            (Some(identity), next.run(Request::from_parts(parts, body)).await)
        }
        Err(refused) => {
            metric::decision("refused", Step::Session.as_str(), refused.cause.code(), &NOBODY);
            (None, refused.into_response())
        }
    };
    let scope = identity.as_ref().map_or_else(|| gateway.scopes().default_scope(), Identity::scope);
    let response = respond::finish(response, &request_id, identity.as_ref(), &scope.policy(), gateway.draining());
    metric::http_request(route, response.status().as_u16(), started.elapsed().as_secs_f64());
    response
}

#[cfg(test)]
mod tests;
