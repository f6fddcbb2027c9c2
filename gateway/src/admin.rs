//! The admin listener: metrics, monitoring, the state of a scope and its policy, for operators.
//!
//! Responsible for letting nobody in without the admin token, except privileged callers of a scope with the OAuth scope
//! `admin`, who reach their scope and nothing else, and anybody to the two health checks; and for what the routes below
//! answer. Must never touch a task, nor show a secret of the configuration.
//!
//! What is about a scope is about the default one unless the request says otherwise: a `GET` by `?tenant=&project=`, a
//! `POST` by `"tenant"` and `"project"` in its body. A route that this deployment does not offer is not there.
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
//! | `GET /admin/identity/providers` | whose keys callers are believed by, and how fetching them goes here |
//! | `POST /admin/gateway/validate-config` | what a patch or a document would mean, or all that is wrong with it |
//! | `POST /admin/gateway/update-config` | patches the document or replaces it; `?wait=` waits for the replicas |
//! | `POST /admin/gateway/reset-config` | back to the document the gateway was started with |
//! | `GET /admin/gateway/config` | the policy in force: revision, author, document, effective policy |
//! | `GET /admin/gateway/config/revisions` | the revisions that are kept, newest first |
//! | `GET /admin/gateway/config/revisions/{n}` | one of them, with the document before and after |
//! | `POST /admin/gateway/config/rollback` | back to the document of an earlier revision |
//! | `GET /admin/gateway/config/convergence` | which replica holds which revision |
//! | `GET /admin/revocations` | what is revoked and has not expired, newest first |
//! | `POST /admin/revocations` | revokes a principal, an agent, a session, a token or a key |
//! | `POST /admin/revocations/acknowledge` | goes on after revocations were lost |
//! | `GET /admin/audit` | what was changed, newest first |
//! | `GET /admin/audit/export` | a chain of events as it is stored, to be checked elsewhere |
//! | `GET /openapi.json` | these routes as OpenAPI 3.1 |

pub(crate) mod redact;
mod view;
pub(crate) mod operator;
pub(crate) mod offer;
mod scoped;
mod asked;
mod upkeep;
mod scope_gauges;
pub(crate) mod decisions;
mod monitoring;
pub(crate) mod providers;
pub(crate) mod policy;
pub(crate) mod revocations;
pub(crate) mod audit;

use std::sync::{Arc, OnceLock};

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};

use crate::admission::session;
use crate::answer_headers;
use crate::bearer_token::BearerToken;
use crate::caught::caught;
use crate::openapi::{self, DecisionQuery, Metering, ScopeQuery, Surveying};
use crate::refusal::{Refused, RequestFault};
use crate::respond::{self, Answered, RequestId};
use crate::state::Gateway;
use crate::{health, metric};
use asked::{Addressed, Asked, ScopeNames, whole};
use decisions::Filter;
use offer::OfferedRoutes;
use operator::Operator;
use scope_gauges::ScopeGauges;
use scoped::{Scoped, unanswered};
use upkeep::Upkeep;

/// The routes of the admin listener. Call it on a runtime: the upkeep of the metrics runs as long as the router lives.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    let metrics = metric::install();
    let admin = Arc::new(Admin {
        token: BearerToken::new(gateway.admin_token()),
        gateway: gateway.clone(),
        gauges: ScopeGauges::default(),
        document: OnceLock::new(),
        _upkeep: Upkeep::start(metrics.clone()),
        metrics,
    });
    let routes = OfferedRoutes::new(gateway.admin_offer())
        .route("/metrics", "read_metrics", get(metrics_text))
        .route("/monitoring/system", "read_system", get(system))
        .route("/admin/processors", "read_processors", get(processors))
        .route("/admin/queues", "read_queues", get(queues))
        .route("/admin/decisions", "read_decisions", get(recent_decisions))
        .route("/admin/circuit-breakers", "read_circuit_breakers", get(circuit_breakers))
        .route("/admin/identity/providers", "read_identity_providers", get(providers::list))
        .route("/admin/gateway/validate-config", "validate_config", post(policy::validate))
        .route("/admin/gateway/update-config", "update_config", post(policy::update))
        .route("/admin/gateway/reset-config", "reset_config", post(policy::reset))
        .route("/admin/gateway/config", "read_config", get(policy::config))
        .route("/admin/gateway/config/revisions", "list_revisions", get(policy::revisions))
        .route("/admin/gateway/config/revisions/{n}", "read_revision", get(policy::revision))
        .route("/admin/gateway/config/rollback", "rollback_config", post(policy::rollback))
        .route("/admin/gateway/config/convergence", "read_convergence", get(policy::convergence))
        .route("/admin/revocations", "list_revocations", get(revocations::list))
        .route("/admin/revocations", "revoke", post(revocations::revoke))
        .route("/admin/revocations/acknowledge", "acknowledge_loss", post(revocations::acknowledge))
        .route("/admin/audit", "read_audit", get(audit::events))
        .route("/admin/audit/export", "export_audit", get(audit::export))
        .route("/openapi.json", "read_openapi", get(openapi::admin_document))
        .into_router()
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
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    token: BearerToken,
    metrics: PrometheusHandle,
    gauges: ScopeGauges,
    /// What is offered, described when somebody first asks.
    document: OnceLock<openapi::Document>,
    /// Ends with the router.
    _upkeep: Upkeep,
}

impl Admin {
    /// The description of what is offered.
    pub(crate) fn document(&self) -> &openapi::Document {
        self.document.get_or_init(|| openapi::Document::of(&openapi::administration(self.gateway.admin_offer())))
    }

    fn default_scope(&self) -> Scoped {
        Scoped::new(self.gateway.clone(), self.gateway.scopes().default_scope().clone(), Operator::Token)
    }

    /// The scope that is asked about by a question without other parameters.
    async fn asked_scope(&self, asked: &Asked) -> Result<Scoped, Refused> {
        let names = asked.of_scope(&[], |_, _| Ok(()))?;
        self.address(&names, asked, &[]).await
    }

    /// The scope that is asked about, and how many of the newest entries are wanted: `?limit=`.
    async fn limited(&self, asked: &Asked, (usual, most): (u32, u32)) -> Result<(Scoped, u32), Refused> {
        let mut limit = usual;
        let names = asked.of_scope(&["limit"], |_, value| {
            limit = whole(value, 1, most)?;
            Ok(())
        })?;
        Ok((self.address(&names, asked, &[]).await?, limit))
    }

    /// The scope of these names, and says that the request is about it; `faults` has already been found in the request.
    async fn address(&self, names: &ScopeNames, asked: &Asked, faults: &[RequestFault]) -> Result<Scoped, Refused> {
        let also = |found: Vec<RequestFault>| Refused::invalid(faults.iter().cloned().chain(found).collect());
        let default = self.gateway.scopes().default_scope();
        let operator = asked.operator();
        let scope = names.scope(operator.scope().unwrap_or(default.store().scope())).map_err(also)?;
        if !operator.reaches(&scope) {
            return Err(Refused::not_found());
        }
        let served = match self.gateway.scopes().serve(&scope).await {
            Ok(served) => served,
            // What is known to be wrong stays wrong when Redis is back.
            Err(_) if !faults.is_empty() => return Err(also(Vec::new())),
            Err(error) => return Err(unanswered(&error)),
        };
        let scoped = Scoped::new(self.gateway.clone(), served, operator.clone());
        asked.addressed().is(&scoped);
        Ok(scoped)
    }
}

/// What the log calls a request of this listener, whose paths have ids in them.
const LISTENER: &str = "admin";

pub(crate) type Shared = State<Arc<Admin>>;

/// A handler's answer: a document, or why there is none.
pub(crate) type Answer = Result<Json<Value>, Refused>;

/// Lets nobody past without the token, and finishes the answer.
async fn token_layer(State(admin): Shared, mut request: Request, next: Next) -> Response {
    let request_id = RequestId::of(request.headers());
    let addressed = Addressed::default();
    request.extensions_mut().insert(request_id.clone());
    request.extensions_mut().insert(addressed.clone());
    let (parts, body) = request.into_parts();
    let method = parts.method.clone();
    let operator = Operator::of(&admin.gateway, &admin.token, &parts).await;
    request = Request::from_parts(parts, body);
    let response = match operator {
        Ok(operator) => {
            request.extensions_mut().insert(operator);
            let answered = caught(&request_id, &method, LISTENER, next.run(request)).await;
            answered.unwrap_or_else(IntoResponse::into_response)
        }
        Err(refused) => {
            session::count_unresolved(&admin.gateway, &refused);
            refused.into_response()
        }
    };
    let policy = addressed.get().map_or_else(|| admin.default_scope().policy(), Scoped::policy);
    let mut response = respond::finish(Answered::of(response), &request_id, None, || policy, admin.gateway.draining());
    answer_headers::set_own(response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[utoipa::path(
    get, path = "/metrics", operation_id = "read_metrics", tag = "monitoring",
    summary = "Metrics for Prometheus",
    responses((status = 200, description = "Text format 0.0.4", body = String, content_type = "text/plain"), Metering)
)]
pub(crate) async fn metrics_text(State(admin): Shared, operator: Operator) -> Response {
    if !operator.reaches_everything() {
        return Refused::not_found().into_response();
    }
    admin.gauges.refresh(&admin.default_scope()).await;
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.metrics.render()).into_response()
}

#[utoipa::path(
    get, path = "/monitoring/system", operation_id = "read_system", tag = "monitoring",
    summary = "The state of a gateway and a scope in one document",
    params(ScopeQuery),
    responses(
        (status = 200, description = "What Redis does not tell is null", body = ref("#/components/schemas/System")),
        Surveying
    )
)]
pub(crate) async fn system(State(admin): Shared, asked: Asked) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    Ok(Json(monitoring::system(&scoped).await))
}

#[utoipa::path(
    get, path = "/admin/processors", operation_id = "read_processors", tag = "monitoring",
    summary = "Who works, how much at once",
    params(ScopeQuery),
    responses(
        (status = 200, description = "Live ones and those lost lately", body = ref("#/components/schemas/Processors")),
        Surveying
    )
)]
pub(crate) async fn processors(State(admin): Shared, asked: Asked) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    let policy = scoped.policy();
    let list = scoped.ask(scoped.store().processors(policy.compiled())).await?;
    Ok(Json(json!({"processors": list.iter().map(view::processor).collect::<Value>()})))
}

#[utoipa::path(
    get, path = "/admin/queues", operation_id = "read_queues", tag = "monitoring",
    summary = "Depth, capacity, pressure, thresholds",
    params(ScopeQuery),
    responses((status = 200, description = "As Redis has it", body = ref("#/components/schemas/QueueView")), Surveying)
)]
pub(crate) async fn queues(State(admin): Shared, asked: Asked) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    let policy = scoped.policy();
    let queue = scoped.ask(scoped.store().queues(policy.compiled())).await?;
    Ok(Json(view::queue(&queue)))
}

#[utoipa::path(
    get, path = "/admin/decisions", operation_id = "read_decisions", tag = "monitoring",
    summary = "What was decided lately",
    params(DecisionQuery),
    responses((status = 200, description = "Newest first", body = ref("#/components/schemas/Decisions")), Surveying)
)]
pub(crate) async fn recent_decisions(State(admin): Shared, asked: Asked) -> Answer {
    let mut filter = Filter::default();
    let names = asked.of_scope(&Filter::PARAMETERS, |name, value| filter.set(name, value))?;
    let scoped = admin.address(&names, &asked, &[]).await?;
    let events = scoped.ask(scoped.store().decisions(filter.reach())).await?;
    Ok(Json(json!({"decisions": filter.select(&events).into_iter().map(view::decision).collect::<Value>()})))
}

#[utoipa::path(
    get, path = "/admin/circuit-breakers", operation_id = "read_circuit_breakers", tag = "monitoring",
    summary = "The breaker of each task kind, and the one for Redis",
    params(ScopeQuery),
    responses(
        (status = 200, description = "Of kinds that were settled lately",
            body = ref("#/components/schemas/CircuitBreakers")),
        Surveying
    )
)]
pub(crate) async fn circuit_breakers(State(admin): Shared, asked: Asked) -> Answer {
    let scoped = admin.asked_scope(&asked).await?;
    let policy = scoped.policy();
    let list = scoped.ask(scoped.store().breakers(policy.compiled())).await?;
    Ok(Json(json!({
        "circuit_breakers": list.iter().map(view::breaker).collect::<Value>(),
        "store": monitoring::store_state(scoped.gateway(), None),
    })))
}

#[cfg(test)]
mod tests;
