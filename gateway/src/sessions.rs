//! `POST /v1/sessions`, `GET` and `DELETE /v1/sessions/current`: a verified credential becomes an opaque session, says
//! who it is, and ends.
//!
//! Responsible for giving a session's token out exactly once. Must never open a session for who has none of its own to
//! vouch for it: an agent acts under its delegation, and a session does not beget another, or it would never end.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, SET_COOKIE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use portcullis_lua::{Grounds, Member, Opened, ScopeStore, SessionRecord};
use schemars::JsonSchema;
use serde::Serialize;

use crate::admission::circuit_breaker;
use crate::admission::session::Identity;
use crate::admission::session::opened::{self, SessionToken};
use crate::admission::writes;
use crate::caller::Source;
use crate::delegation_terms::LONGEST_MS;
use crate::openapi::{EndingSession, OpeningSession, Reading};
use crate::refusal::{Cause, Refused};
use crate::right;
use crate::state::Gateway;
use crate::submitted::Submitted;
use crate::timestamp;

/// Longest name of a client type or a label, characters.
const MAX_NAME: usize = 64;

/// A session that was opened.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenedSession")]
pub(crate) struct OpenedView<'a> {
    /// The session itself. It is shown here and nowhere else.
    token: &'a str,
    session_id: &'a str,
    principal: &'a str,
    /// As what it was opened: less than the credential it was opened with, where its principal is known to be less.
    user_type: &'a str,
    created_at: String,
    expires_at: String,
}

/// Who the caller is.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CurrentSession")]
pub(crate) struct CurrentView<'a> {
    session_id: &'a str,
    principal: &'a str,
    user_type: &'a str,
    tenant: &'a str,
    project: &'a str,
    /// How it was identified.
    source: &'a str,
    /// The agent acting for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    /// What the credential was given for; absent: for everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<&'a [String]>,
    /// When the credential is over; absent: not by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// Opens a session for the caller.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "open_session", tag = "sessions",
    summary = "Exchanges a verified credential for an opaque session",
    description = "The token works as a bearer token and as the cookie that comes with it. It is shown once.",
    request_body(content = ref("#/components/schemas/SessionWish"), content_type = "application/json"),
    responses(
        (status = 201, description = "It is open", body = ref("#/components/schemas/OpenedSession"),
            headers(("Set-Cookie" = String, description = "The session as a cookie."))),
        OpeningSession
    )
)]
pub(crate) async fn open(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    body: Body,
) -> Result<Response, Refused> {
    vouched_for(&identity)?;
    let mut submitted = Submitted::read(body).await?;
    let client_type = submitted.take_name("client_type", MAX_NAME);
    let label = submitted.take_name("label", MAX_NAME);
    submitted.nothing_else("client_type, label");
    submitted.sound()?;
    writes::count(&gateway, &identity).await?;
    let (scope, caller) = (identity.scope(), identity.caller());
    let elsewhere =
        (scope.number() != gateway.scopes().default_scope().number()).then(|| scope.store().scope().clone());
    let token = SessionToken::generate(elsewhere).ok_or_else(no_randomness)?;
    let terms = gateway.session_terms().lasts;
    let user_type = gateway.lowered().note_grant(scope, caller, terms.lasts_ms).await;
    let record = SessionRecord {
        principal: caller.principal.clone(),
        user_type: user_type.map_err(|error| circuit_breaker::unavailable(&error))?,
        session_id: caller.session_id.clone(),
        scopes: caller.rights.as_deref().unwrap_or_default().to_vec(),
        issuer: Some(opened::issuer_of(caller)),
        client_type,
        label,
    };
    let (by, policy) = (writes::actor(&identity), scope.policy());
    let grounds = Grounds { by: &by, reason: "login", max_audit_events: policy.policy().monitoring.max_audit_events };
    let key = token.key();
    let (key, record) = (&key, &record);
    let login = move |store: ScopeStore| async move { store.login(key, record, terms, grounds).await };
    let Opened { created_ms, expires_ms, .. } = scope.decider().vouch(&identity.provenance(), login).await?;
    let view = OpenedView {
        token: token.expose(),
        session_id: identity.session_id(),
        principal: identity.principal(),
        user_type: record.user_type.as_str(),
        created_at: timestamp::rfc3339(created_ms),
        expires_at: timestamp::rfc3339(expires_ms),
    };
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = gateway.session_terms().cookie(token.expose()) {
        headers.insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Says who the caller is.
#[utoipa::path(
    get, path = "/v1/sessions/current", operation_id = "read_session", tag = "sessions",
    summary = "Who the caller is",
    responses((status = 200, description = "As its credential says", body = ref("#/components/schemas/CurrentSession")),
        Reading)
)]
pub(crate) async fn current(identity: Identity) -> Response {
    let (caller, scope) = (identity.caller(), identity.scope().store().scope());
    let view = CurrentView {
        session_id: identity.session_id(),
        principal: identity.principal(),
        user_type: identity.user_type().as_str(),
        tenant: scope.tenant(),
        project: scope.project(),
        source: caller.source.as_str(),
        actor: identity.actor(),
        scopes: caller.rights.as_deref(),
        expires_at: caller.expires_at_ms.map(timestamp::rfc3339),
    };
    Json(view).into_response()
}

/// Ends the caller's session, here and everywhere.
#[utoipa::path(
    delete, path = "/v1/sessions/current", operation_id = "end_session", tag = "sessions",
    summary = "Logs out",
    responses((status = 204, description = "The session, and all that was delegated from it, is over"), EndingSession)
)]
pub(crate) async fn end(State(gateway): State<Arc<Gateway>>, identity: Identity) -> Result<Response, Refused> {
    let key = identity.caller().login.as_ref().ok_or_else(Refused::not_found)?;
    // Its record is gone: what is left of it is what was delegated.
    writes::revoke(&gateway, &identity, Member::Session(key.as_str()), LONGEST_MS, "logout").await?;
    gateway.opened_sessions().forget(key);
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(cookie) = gateway.session_terms().no_cookie() {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Whether this caller may have a session.
fn vouched_for(identity: &Identity) -> Result<(), Refused> {
    match identity.source() {
        Source::Address | Source::Vouched => Err(Refused::unauthenticated()),
        Source::Session => Err(Refused::forbidden("A session does not open another one.")),
        Source::Delegation => Err(Refused::forbidden("An agent acts under its delegation, not in a session.")),
        Source::DevToken | Source::Jwt | Source::Balancer | Source::InternalToken | Source::ApiKey => {
            identity.require(right::OPEN_SESSIONS)
        }
    }
}

fn no_randomness() -> Refused {
    let detail = "This machine has no randomness to make a session of.";
    Refused::new(Cause::IdentityUnavailable, "Identity unavailable", detail)
}
