//! `GET /v1/limits`: what the caller may still do. With `?kind=`, with tasks of that kind.
//!
//! Responsible for showing the caller's own limits and budgets. Must never consume any of them: it asks the question of
//! an admission without acting on the answer.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use portcullis_config::UserType;
use portcullis_lua::{BudgetState, LimitState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admission;
use crate::admission::enqueue;
use crate::admission::session::Identity;
use crate::degraded::{self, Degraded};
use crate::openapi::{Asking, LimitsQuery};
use crate::refusal::{Refused, RequestFault};
use crate::respond::{RequestId, set_limits, set_policy};
use crate::right;
use crate::state::Gateway;

/// What is asked about.
#[derive(Deserialize)]
pub(crate) struct Asked {
    kind: Option<String>,
}

/// What the caller may still do.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Limits")]
pub(crate) struct LimitsView<'a> {
    user_type: &'a UserType,
    session_id: &'a str,
    policy_revision: u64,
    limits: Vec<LimitView<'a>>,
    budgets: Vec<BudgetView<'a>>,
    /// Fallbacks that this gateway has to use in the caller's scope; empty when all is well.
    degraded: Degraded,
}

/// One of the limits that apply to the caller.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Limit")]
struct LimitView<'a> {
    name: &'a str,
    limit: u64,
    window_ms: u64,
    remaining: u64,
    /// Until more becomes available; 0 when nothing is used.
    reset_ms: u64,
}

/// One of the budgets that apply to the caller.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Budget")]
struct BudgetView<'a> {
    name: &'a str,
    unit: &'a str,
    amount: u64,
    spent: u64,
    held: u64,
    remaining: u64,
    /// Until the period ends.
    reset_ms: u64,
}

/// The caller's limits and budgets as they stand.
#[utoipa::path(
    get, path = "/v1/limits", operation_id = "read_limits", tag = "limits",
    summary = "What the caller may still do",
    params(LimitsQuery),
    responses((status = 200, description = "Costs nothing", body = ref("#/components/schemas/Limits")), Asking)
)]
pub(crate) async fn show(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    request_id: RequestId,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refused> {
    identity.require(right::READ_QUOTA)?;
    let unreadable = |error: QueryRejection| Refused::invalid(vec![RequestFault::new("query", error.body_text())]);
    let Query(Asked { kind }) = asked.map_err(unreadable)?;
    if let Some(fault) = kind.as_deref().and_then(enqueue::kind_fault) {
        return Err(Refused::invalid(vec![fault]));
    }
    let (decision, policy) = admission::peek(&gateway, &identity, &request_id, kind).await?;
    let view = LimitsView {
        user_type: identity.user_type(),
        session_id: identity.session_id(),
        policy_revision: policy.revision(),
        limits: decision.limits.iter().map(limit_view).collect(),
        budgets: decision.budgets.iter().map(budget_view).collect(),
        degraded: degraded::of_scope(&gateway, identity.scope()),
    };
    let mut response = serde_json::to_vec(&view).unwrap_or_default().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    set_limits(response.headers_mut(), &decision.limits, 0);
    set_policy(&mut response, policy);
    Ok(response)
}

fn limit_view(limit: &LimitState) -> LimitView<'_> {
    LimitView {
        name: &limit.name,
        limit: limit.limit,
        window_ms: limit.window_ms,
        remaining: limit.remaining,
        reset_ms: limit.reset_ms,
    }
}

fn budget_view(budget: &BudgetState) -> BudgetView<'_> {
    BudgetView {
        name: &budget.name,
        unit: &budget.unit,
        amount: budget.amount,
        spent: budget.spent,
        held: budget.held,
        remaining: budget.amount.saturating_sub(budget.spent.saturating_add(budget.held)),
        reset_ms: budget.reset_ms,
    }
}
