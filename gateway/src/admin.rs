//! The admin listener: metrics, monitoring and the state of the scope, for operators.
//!
//! Responsible for letting nobody in without the admin token, except to the two health checks, and for what the routes
//! below answer. Must never touch a task, nor show a secret of the configuration.
//!
//! | route | |
//! |---|---|
//! | `GET /healthz`, `GET /readyz` | as on the public listener; no token |
//! | `GET /metrics` | Prometheus text |
//! | `GET /monitoring/system` | one document of everything below |
//! | `GET /admin/processors` | who works, how much at once, heard of when |
//! | `GET /admin/queues` | depth, capacity, pressure, thresholds |
//! | `GET /admin/decisions` | what was decided lately, newest first |
//! | `GET /admin/circuit-breakers` | the breaker of each task kind, and this gateway's breaker for Redis |
//! | `GET /admin/gateway/config` | the effective policy, its revision, where it came from |

pub(crate) mod redact;
mod token;
mod view;
mod scoped;
mod upkeep;
mod scope_gauges;
mod decisions;
mod monitoring;

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use portcullis_lua::StoreError;
use serde_json::{Value, json};

use crate::refusal::{Cause, Refused, RequestFault};
use crate::respond::{self, RequestId};
use crate::state::Gateway;
use crate::{health, metric};
use decisions::Filter;
use scope_gauges::ScopeGauges;
use scoped::Scoped;
use token::AdminToken;
use upkeep::Upkeep;

/// The routes of the admin listener. Call it on a runtime: the upkeep of the metrics runs as long as the router lives.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let metrics = metric::install();
    let admin = Arc::new(Admin {
        token: AdminToken::new(gateway.admin_token()),
        scoped: Scoped(gateway.clone()),
        gauges: ScopeGauges::default(),
        _upkeep: Upkeep::start(metrics.clone()),
        metrics,
    });
    let routes = Router::new()
        .route("/metrics", get(metrics_text))
        .route("/monitoring/system", get(system))
        .route("/admin/processors", get(processors))
        .route("/admin/queues", get(queues))
        .route("/admin/decisions", get(recent_decisions))
        .route("/admin/circuit-breakers", get(circuit_breakers))
        .route("/admin/gateway/config", get(config))
        .fallback(async || Refused::not_found())
        .method_not_allowed_fallback(async || Refused::not_found())
        .layer(from_fn_with_state(admin.clone(), token_layer))
        .with_state(admin);
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(gateway)
        .merge(routes)
}

/// What the handlers share.
struct Admin {
    scoped: Scoped,
    token: AdminToken,
    metrics: PrometheusHandle,
    gauges: ScopeGauges,
    /// Ends with the router.
    _upkeep: Upkeep,
}

impl Admin {
    /// What Redis answers, or the refusal to give instead.
    fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, StoreError>>,
    ) -> impl Future<Output = Result<T, Refused>> {
        let answer = self.scoped.read(question);
        async {
            answer.await.map_err(|error| {
                tracing::debug!(%error, "redis could not answer an operator");
                Refused::new(Cause::StoreUnavailable, "Store unavailable", "Redis did not answer this question.")
            })
        }
    }
}

type Shared = State<Arc<Admin>>;

/// A handler's answer: a document, or why there is none.
type Answer = Result<Json<Value>, Refused>;

/// Lets nobody past without the token, and finishes the answer.
async fn token_layer(State(admin): Shared, request: Request, next: Next) -> Response {
    let request_id = RequestId::of(request.headers());
    let response = if admin.token.admits(request.headers()) {
        next.run(request).await
    } else {
        Refused::unauthenticated().into_response()
    };
    let (gateway, policy) = (&admin.scoped.0, admin.scoped.policy());
    let mut response = respond::finish(response, &request_id, None, &policy, gateway.draining());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn metrics_text(State(admin): Shared) -> Response {
    admin.gauges.refresh(&admin.scoped).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}

async fn system(State(admin): Shared) -> Json<Value> {
    Json(monitoring::system(&admin.scoped).await)
}

async fn processors(State(admin): Shared) -> Answer {
    let (scoped, policy) = (&admin.scoped, admin.scoped.policy());
    let list = admin.ask(scoped.store().processors(policy.compiled())).await?;
    Ok(Json(json!({"processors": list.iter().map(view::processor).collect::<Value>()})))
}

async fn queues(State(admin): Shared) -> Answer {
    let (scoped, policy) = (&admin.scoped, admin.scoped.policy());
    let queue = admin.ask(scoped.store().queues(policy.compiled())).await?;
    Ok(Json(view::queue(&queue)))
}

async fn recent_decisions(State(admin): Shared, query: Parameters) -> Answer {
    let unreadable = |error: QueryRejection| Refused::invalid(vec![RequestFault::new("query", error.body_text())]);
    let Query(parameters) = query.map_err(unreadable)?;
    let filter = Filter::parse(&parameters).map_err(Refused::invalid)?;
    let scoped = &admin.scoped;
    let events = admin.ask(scoped.store().decisions(filter.reach())).await?;
    Ok(Json(json!({"decisions": filter.select(&events).into_iter().map(view::decision).collect::<Value>()})))
}

async fn circuit_breakers(State(admin): Shared) -> Answer {
    let (scoped, policy) = (&admin.scoped, admin.scoped.policy());
    let list = admin.ask(scoped.store().breakers(policy.compiled())).await?;
    Ok(Json(json!({
        "circuit_breakers": list.iter().map(view::breaker).collect::<Value>(),
        "store": monitoring::store_state(&scoped.0, None),
    })))
}

async fn config(State(admin): Shared) -> Json<Value> {
    let (gateway, policy) = (&admin.scoped.0, admin.scoped.policy());
    let document = serde_json::to_value(policy.policy().as_ref()).unwrap_or_default();
    Json(json!({
        "revision": policy.revision(),
        "source": redact::url(gateway.policy_source()),
        "config": redact::document(document),
    }))
}

type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

#[cfg(test)]
mod tests;
