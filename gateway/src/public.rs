//! The public listener: its routes, and what happens to every request around them.
//!
//! Responsible for the table of routes. Must never serve a route outside [`Public::answer`] except the two health
//! checks: what is under it has a caller, and an answer with the headers every answer has.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::any;
use hyper::body::Incoming;
use portcullis_lua::{Reason, Step};
use tokio::time::Instant;

use crate::admission::session::{self, Identity, Unspent};
use crate::caught::caught;
use crate::cors::Sharing;
use crate::limit_memory::Whose;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Cause, Refused};
use crate::respond::{self, Answered, RequestId};
use crate::server::{Serve, route};
use crate::state::Gateway;
use crate::{
    admission, answer_headers, cors, decide, delegations, events, health, limits, metric, openapi, proxy, request_head,
    sessions, tasks, well_known,
};

/// The one route that is not in the table: a submission costs little more than the way to it.
const SUBMIT: (Method, &str) = (Method::POST, "/v1/tasks");

/// Everything the public listener serves.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    gateway: Arc<Gateway>,
    routes: Router,
    health: Router,
}

impl Serve for Public {
    fn serve(&self, request: hyper::Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send {
        self.answer(request.map(Body::new), peer)
    }
}

impl Public {
    pub(crate) fn new(gateway: Arc<Gateway>) -> Self {
        // `any` answers the other methods, without an `Allow` that would tell them from an unknown path.
        let routes = Router::new()
            .route("/v1/tasks/{id}", any(not_found).get(tasks::show).delete(tasks::cancel))
            .route("/v1/tasks/{id}/events", any(not_found).get(events::follow))
            .route("/v1/limits", any(not_found).get(limits::show))
            .route("/v1/sessions", any(not_found).post(sessions::open))
            .route("/v1/sessions/current", any(not_found).get(sessions::current).delete(sessions::end))
            .route("/v1/delegations", any(not_found).post(delegations::mint))
            .route("/v1/delegations/revoke", any(not_found).post(delegations::revoke))
            .route("/openapi.json", any(not_found).get(openapi::public_document))
            .fallback(not_found)
            .with_state(gateway.clone());
        Self { health: health::router(gateway.clone()), gateway, routes }
    }

    /// Resolves the caller, lets the handler run, and finishes the answer.
    pub(crate) fn answer(&self, request: Request, peer: SocketAddr) -> impl Future<Output = Response> + Send {
        // In parts from the beginning, and handed on by reference: every move of a head is a copy.
        let (parts, body) = request.into_parts();
        async move {
            if health::is_check(parts.uri.path()) {
                return self.health(Request::from_parts(parts, body)).await;
            }
            let (started, gateway, method) = (Instant::now(), &self.gateway, parts.method.clone());
            let route = match parts.uri.path() {
                path if gateway.upstream().is_some() && proxy::takes(path) => proxy::ROUTE,
                path => route_name(path),
            };
            let request_id = RequestId::of(&parts.headers);
            let profile = decide::Profile::of(&parts);
            let presented = parts.headers.contains_key(AUTHORIZATION);
            // A preflight says nothing about its caller, so pages are allowed by the default scope's policy, whoever
            // calls.
            let own = gateway.scopes().default_scope().policy();
            let sharing = Sharing::of(&own.policy().cors, &parts.headers);
            let answered = async {
                match self.identified(&parts, peer, own, profile).await {
                    Ok((identity, mut proof)) => {
                        let answer = if (&parts.method, parts.uri.path()) == (&SUBMIT.0, SUBMIT.1) {
                            tasks::submit(gateway, &identity, &mut proof, &request_id, &parts.headers, body).await
                        } else {
                            // The futures of routes are large, and every submission would carry them.
                            Box::pin(self.handle(&identity, &mut proof, &request_id, peer, parts, body)).await
                        };
                        self.named(identity, proof, answer).await
                    }
                    Err(answer) => (None, *answer),
                }
            };
            let answered = caught(&request_id, &method, route, answered).await;
            let (identity, answer) = answered.unwrap_or_else(|refused| (None, Err(refused)));
            let mut response = self.finished(answer, &request_id, identity.as_ref(), route, presented, profile);
            sharing.write(response.headers_mut());
            metric::http_request(route, response.status().as_u16(), started.elapsed().as_secs_f64());
            response
        }
    }

    async fn health(&self, request: Request) -> Response {
        let request_id = RequestId::of(request.headers());
        let response = route(&self.health, request).await;
        respond::finish_health(response, request_id, self.gateway.draining())
    }

    /// An answer with all that answers to such a request say: `presented` says whether it came with a credential.
    fn finished(
        &self,
        answer: Result<Answered, Refused>,
        request_id: &RequestId,
        identity: Option<&Identity>,
        route: &'static str,
        presented: bool,
        profile: Option<decide::Profile>,
    ) -> Response {
        let gateway = &self.gateway;
        let scope = identity.map_or_else(|| gateway.scopes().default_scope(), Identity::scope);
        let code = answer.as_ref().err().map(|refused| refused.cause.code());
        // What is left was noted when it was decided, and is older now.
        let noted = answer.as_ref().is_err_and(|refused| refused.limits.are_repeated());
        let mut response = respond::finish(answer, request_id, identity, || scope.policy(), gateway.draining());
        if code.is_some() {
            respond::challenge(gateway.challenge().to(presented), &mut response);
        }
        if code.is_none() && route != proxy::ROUTE {
            answer_headers::set_own(response.headers_mut());
        }
        if let Some(identity) = identity.filter(|_| !noted) {
            let hop = identity.caller().hops.last().map_or("", |hop| &hop.hash);
            let (scope, session_id) = (identity.scope().number(), identity.session_id());
            let whose = Whose { scope, session_id, hop, address: identity.client_address() };
            gateway.limit_memory().complete(whose, response.headers_mut());
        }
        if let Some(profile) = profile {
            respond::tell(profile, code, &mut response);
        }
        response
    }

    /// The caller, or the answer where none is needed or there is none. Whoever asks comes from an address that is
    /// listened to, even for what is open to everybody.
    async fn identified(
        &self,
        parts: &Parts,
        peer: SocketAddr,
        own: Arc<PolicyInForce>,
        profile: Option<decide::Profile>,
    ) -> Result<(Identity, Unspent), Box<Result<Answered, Refused>>> {
        request_head::check(parts).map_err(|refused| Box::new(Err(refused)))?;
        let turned_away = |refused| Box::new(Err(turned_away(&self.gateway, refused)));
        let address = session::admit_address(&self.gateway, parts, peer).map_err(turned_away)?;
        // A page that another proxy asks about is the application's to allow.
        if profile.is_none()
            && let Some(response) = cors::preflight(&own.policy().cors, parts)
        {
            return Err(Box::new(Ok(Answered { response, policy: Some(own) })));
        }
        if well_known::takes(parts.uri.path()) {
            let answer = well_known::answer(&self.gateway, &parts.method, &parts.uri);
            return Err(Box::new(answer.map(|response| Answered { response, policy: Some(own) })));
        }
        session::resolve_unspent(&self.gateway, parts, peer, address).await.map_err(turned_away)
    }

    /// The answer, and whom it names.
    async fn named(
        &self,
        identity: Identity,
        mut proof: Unspent,
        answer: Result<Answered, Refused>,
    ) -> (Option<Identity>, Result<Answered, Refused>) {
        // Who was refused before anybody was asked must not come back with the same proof either.
        if let Err(refused) = proof.spend(&self.gateway, &identity).await {
            return (None, Err(turned_away(&self.gateway, refused)));
        }
        // Whoever notices that a credential is worth nothing, the answer names nobody.
        let worthless =
            |refused: &Refused| matches!(refused.cause, Cause::Unauthenticated | Cause::Decided(Reason::ProofUsed));
        let named = !answer.as_ref().is_err_and(worthless);
        (Some(identity).filter(|_| named), answer)
    }

    /// Everything but submissions. Whoever asks for a decision spends its proof with it; everybody else spends it
    /// before anything is done.
    async fn handle(
        &self,
        identity: &Identity,
        proof: &mut Unspent,
        request_id: &RequestId,
        peer: SocketAddr,
        mut parts: Parts,
        body: Body,
    ) -> Result<Answered, Refused> {
        if decide::Profile::of(&parts).is_some() {
            let caller = decide::Caller { identity, request_id, peer };
            return decide::decide(&self.gateway, caller, proof, &parts).await;
        }
        if let Some(upstream) = self.gateway.upstream()
            && proxy::takes(parts.uri.path())
        {
            let caller = proxy::Caller { identity, request_id, peer };
            return proxy::forward(&self.gateway, upstream, caller, proof, parts, body).await;
        }
        let spent = proof.spend(&self.gateway, identity).await;
        spent.map_err(|refused| turned_away(&self.gateway, refused))?;
        if decide::takes(parts.uri.path()) {
            let caller = decide::Caller { identity, request_id, peer };
            return decide::end(&self.gateway, caller, &parts).await;
        }
        parts.extensions.insert(identity.clone());
        parts.extensions.insert(request_id.clone());
        let answer = Answered::of(route(&self.routes, Request::from_parts(parts, body)).await);
        if let Err(refused) = &answer
            && matches!(refused.cause.step(), Some(Step::Session | Step::RateLimit))
        {
            // Who asks for what it may not, or for too many credentials, is told of, whatever it asks for.
            admission::count_refused(identity, refused);
        }
        answer
    }
}

/// The refusal of whoever has no identity, counted.
fn turned_away(gateway: &Gateway, refused: Refused) -> Refused {
    session::count_unresolved(gateway, &refused);
    refused
}

/// The label of a path in metrics. Paths with ids in them would be a time series each.
fn route_name(path: &str) -> &'static str {
    match path {
        "/v1/tasks" => "/v1/tasks",
        "/v1/limits" => "/v1/limits",
        "/v1/sessions" => "/v1/sessions",
        "/v1/sessions/current" => "/v1/sessions/current",
        "/v1/delegations" => "/v1/delegations",
        "/v1/delegations/revoke" => "/v1/delegations/revoke",
        path if well_known::takes(path) => "/.well-known",
        "/openapi.json" => "/openapi.json",
        path if decide::takes(path) => "/v1/decide",
        _ if !path.starts_with("/v1/tasks/") => "other",
        _ if path.ends_with("/events") => "/v1/tasks/{id}/events",
        _ => "/v1/tasks/{id}",
    }
}

/// An unknown path and a known one under another method are the same nothing. It takes an identity like every handler.
async fn not_found(_: Identity) -> Refused {
    Refused::not_found()
}

#[cfg(test)]
mod tests;
