//! `POST /v1/delegations`, `POST /v1/delegations/revoke`: a caller lets an agent act for it, and takes that back.
//!
//! Responsible for what may be delegated: never more than the caller may itself, and never by an agent, who narrows
//! what it was given without asking anybody. Must never mint for whom nobody vouches, nor without an audit event.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use portcullis_delegation::{Chain, Expected, REASON_MAX, is_name};
use portcullis_lua::{Grounds, Member, ScopeStore};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use crate::admission::session::Identity;
use crate::admission::{circuit_breaker, writes};
use crate::caller::Source;
use crate::delegation_terms::{DelegationTerms, LONGEST_MS};
use crate::delegation_wish::{DelegationWish, fault};
use crate::openapi::{Minting, TakingBack};
use crate::refusal::Refused;
use crate::right;
use crate::state::Gateway;
use crate::submitted::Submitted;
use crate::timestamp;

/// A delegation that was minted.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Delegation")]
pub(crate) struct DelegationView<'a> {
    /// The delegation itself. It is shown here and nowhere else.
    token: &'a str,
    /// What it is revoked by: SHA-256 of its signing input.
    id: &'a str,
    agent: &'a str,
    audience: &'a [String],
    scopes: Vec<String>,
    issued_at: String,
    expires_at: String,
}

/// Lets an agent act for the caller.
#[utoipa::path(
    post, path = "/v1/delegations", operation_id = "mint_delegation", tag = "delegations",
    summary = "Mints a root delegation for an agent of the caller",
    description = "With `key`, the agent's public key, the delegation is bound to it (DPoP) and the agent can narrow \
        it and hand it on; without, it is a bearer token that cannot be handed on.",
    request_body(content = ref("#/components/schemas/DelegationWish"), content_type = "application/json"),
    responses((status = 201, description = "It is minted", body = ref("#/components/schemas/Delegation")), Minting)
)]
pub(crate) async fn mint(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    body: Body,
) -> Result<Response, Refused> {
    let terms = gateway.delegation_terms().ok_or_else(Refused::not_found)?;
    may_delegate(&identity)?;
    if !is_name(identity.principal()) {
        return Err(Refused::forbidden("A token takes no name like this principal's, so nobody can act for it."));
    }
    let mut submitted = Submitted::read(body).await?;
    let wish = DelegationWish::take(&mut submitted);
    submitted.sound()?;
    let wish = wish.ok_or_else(|| Refused::invalid(Vec::new()))?;
    let beyond = wish.scopes.iter().find(|scope| !identity.may(scope.as_str()));
    if let Some(scope) = beyond {
        return Err(Refused::insufficient_scope(scope.as_str()));
    }
    writes::count(&gateway, &identity).await?;
    let user_type = gateway.lowered().note_grant(identity.scope(), identity.caller(), LONGEST_MS).await;
    let user_type = user_type.map_err(|error| circuit_breaker::unavailable(&error))?;
    let grant = wish.grant(terms, &identity, &user_type);
    let chain = terms.mint(grant).map_err(|refused| Refused::invalid(vec![fault(refused)]))?;
    witness(&identity, &chain).await?;
    let (root, claims) = (chain.root(), chain.root().claims());
    let view = DelegationView {
        token: chain.presented(),
        id: root.hash(),
        agent: &claims.client_id,
        audience: &claims.aud,
        scopes: root.scopes().iter().map(|scope| scope.as_str().to_owned()).collect(),
        issued_at: timestamp::rfc3339(claims.iat * 1000),
        expires_at: timestamp::rfc3339(claims.exp * 1000),
    };
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Takes a delegation back, with everything that descends from it: whoever granted it may, and whoever granted what it
/// descends from.
#[utoipa::path(
    post, path = "/v1/delegations/revoke", operation_id = "revoke_delegation", tag = "delegations",
    summary = "Revokes a delegation of the caller's and all that descends from it",
    request_body(content = ref("#/components/schemas/DelegationToRevoke"), content_type = "application/json"),
    responses((status = 204, description = "Nobody is admitted under it any more"), TakingBack)
)]
pub(crate) async fn revoke(
    State(gateway): State<Arc<Gateway>>,
    identity: Identity,
    body: Body,
) -> Result<StatusCode, Refused> {
    let terms = gateway.delegation_terms().ok_or_else(Refused::not_found)?;
    let mut submitted = Submitted::read(body).await?;
    let (chain, reason) = (submitted.take_text("chain"), submitted.take_reason("reason", REASON_MAX));
    submitted.nothing_else("chain, reason");
    submitted.sound()?;
    let chain = chain.and_then(|text| Chain::parse(&text).ok()).ok_or_else(Refused::not_found)?;
    if !granted_by(terms, &chain, &identity) {
        return Err(Refused::not_found());
    }
    writes::count(&gateway, &identity).await?;
    let reason = reason.unwrap_or_else(|| "taken back".to_owned());
    writes::revoke(&gateway, &identity, Member::Token(chain.leaf().hash()), LONGEST_MS, &reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who may let an agent act for it.
fn may_delegate(identity: &Identity) -> Result<(), Refused> {
    match identity.source() {
        Source::Address | Source::Vouched => Err(Refused::unauthenticated()),
        Source::Delegation => Err(Refused::forbidden("An agent narrows its own delegation; it is not given another.")),
        Source::DevToken
        | Source::Session
        | Source::Jwt
        | Source::Balancer
        | Source::InternalToken
        | Source::ApiKey => identity.require(right::MINT_DELEGATIONS),
    }
}

/// Whether this caller granted the chain's last token or one it descends from: a principal all of its own, an agent
/// those that go on from the chain it acts under itself.
fn granted_by(terms: &DelegationTerms, chain: &Chain, identity: &Identity) -> bool {
    let scope = identity.scope().store().scope();
    let resource = &chain.leaf().claims().aud;
    let genuine = resource.first().is_some_and(|resource| {
        let expected = Expected { resource, tenant: None };
        terms.verifier().verify(chain, &expected, DelegationTerms::now_seconds()).is_ok()
    });
    if !genuine || chain.root().claims().tid != scope.to_string() {
        return false;
    }
    match identity.source() {
        Source::Delegation => {
            let own = &identity.caller().hops;
            let begins = own.iter().zip(chain.tokens()).all(|(hop, token)| hop.hash == token.hash());
            begins && chain.tokens().len() > own.len()
        }
        Source::Address | Source::Vouched => false,
        _ => chain.root().claims().sub == identity.principal(),
    }
}

/// A delegation that nobody can account for is not given out, nor one for who has been revoked meanwhile.
async fn witness(identity: &Identity, chain: &Chain) -> Result<(), Refused> {
    let (policy, claims) = (identity.scope().policy(), chain.root().claims());
    let by = writes::actor(identity);
    let grounds =
        Grounds { by: &by, reason: &claims.reason, max_audit_events: policy.policy().monitoring.max_audit_events };
    let about = json!({
        "principal": claims.sub, "agent": claims.client_id, "jti": claims.jti, "token": chain.root().hash(),
        "scope": claims.scope, "audience": claims.aud, "exp": claims.exp, "reason": claims.reason,
    });
    let about = &about;
    let noted = move |store: ScopeStore| async move { store.witness("delegation.minted", grounds, about).await };
    identity.scope().decider().vouch(&identity.provenance(), noted).await
}
