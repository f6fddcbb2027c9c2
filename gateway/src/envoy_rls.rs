//! Envoy's rate limit service: `envoy.service.ratelimit.v3.RateLimitService`, for Envoy and Istio.
//!
//! Responsible for one call, `ShouldRateLimit`, answered by the same decision as any other request, in the same
//! batches. Must never be reachable by clients: who asks here says who the caller is, and is believed. So it has a
//! listener of its own, and off loopback a token.

pub mod message;
mod described;
mod told;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use portcullis_config::RouteClass;
use tokio::time::timeout;
use tonic::server::{Grpc, UnaryService};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use crate::admission::classed::{self, Classed};
use crate::admission::pass::Entry;
use crate::admission::session::{Identity, Unspent, resolve_vouched};
use crate::bearer_token::BearerToken;
use crate::decide::RequestLine;
use crate::metric;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Cause, Refused};
use crate::respond::{self, Answered, RequestId, set_limits};
use crate::server::Serve;
use crate::state::Gateway;
use crate::trace_context::TraceContext;

use described::{Described, Target};
use message::{RateLimitRequest, RateLimitResponse};
use told::Told;

/// The one method.
pub const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// Largest question, bytes.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Longest time for a question to arrive and be answered.
const LONGEST_CALL: Duration = Duration::from_secs(30);

/// The service.
#[derive(Clone)]
pub(crate) struct RateLimitService {
    gateway: Arc<Gateway>,
    /// `None`: whoever reaches the listener may ask.
    token: Option<BearerToken>,
}

impl RateLimitService {
    pub(crate) fn new(gateway: Arc<Gateway>, token: Option<BearerToken>) -> Self {
        Self { gateway, token }
    }
}

impl Serve for RateLimitService {
    async fn serve(&self, request: Request<Incoming>, _: SocketAddr) -> Response<Body> {
        let permitted = self.token.as_ref().is_none_or(|token| token.admits(request.headers()));
        let answer: Response<tonic::body::Body> = if !permitted {
            Status::unauthenticated("the bearer token of this service is wanted").into_http()
        } else if request.uri().path() != SHOULD_RATE_LIMIT {
            Status::unimplemented("ShouldRateLimit is all there is").into_http()
        } else {
            let headers = request.headers().clone();
            let mut grpc = Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let answered = grpc.unary(ShouldRateLimit { gateway: self.gateway.clone(), headers }, request);
            let late = |_| Status::deadline_exceeded("the question did not arrive in time").into_http();
            timeout(LONGEST_CALL, answered).await.unwrap_or_else(late)
        };
        answer.map(Body::new)
    }
}

struct ShouldRateLimit {
    gateway: Arc<Gateway>,
    headers: HeaderMap,
}

impl UnaryService<RateLimitRequest> for ShouldRateLimit {
    type Response = RateLimitResponse;
    type Future = futures_util::future::BoxFuture<'static, Result<tonic::Response<RateLimitResponse>, Status>>;

    fn call(&mut self, request: tonic::Request<RateLimitRequest>) -> Self::Future {
        let gateway = self.gateway.clone();
        let (request_id, trace) = (RequestId::of(&self.headers), TraceContext::of(&self.headers));
        Box::pin(async move {
            let answer = answer(&gateway, &request_id, trace, request.get_ref()).await;
            metric::rls_question(answer.as_ref().err().map_or("ok", |status| code_name(status.code())));
            answer.map(tonic::Response::new)
        })
    }
}

async fn answer(
    gateway: &Gateway,
    request_id: &RequestId,
    trace: Option<TraceContext>,
    request: &RateLimitRequest,
) -> Result<RateLimitResponse, Status> {
    let descriptors = request.descriptors.len();
    let Described { caller, target, hits } = Described::of(request).map_err(Status::invalid_argument)?;
    let refused_early = |refused: Refused| match refused.cause {
        Cause::Unauthenticated => Status::invalid_argument("user_type is not known to the policy"),
        _ => Told::refused(&refused).err().unwrap_or_else(|| Status::internal("refused")),
    };
    let identity = resolve_vouched(gateway, caller).await.map_err(refused_early)?;
    let method = match &target {
        Target::Line(Some(line)) => line.method().map(str::to_owned),
        Target::Line(None) | Target::Named(_) => None,
    };
    let entry = Entry { hits, trace, method, route: "rls", ..Entry::default() };
    let classify = |policy: &PolicyInForce| class(&target, policy);
    let fits = |policy: &PolicyInForce, _: &str| match &target {
        Target::Line(line) => RequestLine::has_one_class(line.as_ref(), policy),
        Target::Named(_) => Ok(()),
    };
    let decided = if identity.is_revoked().await {
        Err(Refused::unauthenticated())
    } else {
        classed::admit(gateway, &identity, &mut Unspent::nothing(), request_id, classify, fits, entry).await
    };
    match decided {
        Ok(Classed { policy, pass, .. }) => {
            let limits = pass.as_ref().map_or_else(Vec::new, |pass| pass.limits().to_vec());
            let mut response = Response::new(Body::empty());
            set_limits(response.headers_mut(), &limits, 0);
            let answered = Answered { response, policy: Some(policy) };
            let response = finish(Ok(answered), request_id, &identity);
            Ok(Told::allowed(&limits).response(response, descriptors).await)
        }
        Err(refused) => {
            let told = Told::refused(&refused)?;
            Ok(told.response(finish(Err(refused), request_id, &identity), descriptors).await)
        }
    }
}

/// The label of a status; those that this service gives.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "unavailable",
        Code::InvalidArgument => "invalid_argument",
        _ => "internal",
    }
}

/// The answer as the public listener would give it.
fn finish(answer: Result<Answered, Refused>, request_id: &RequestId, identity: &Identity) -> Response<Body> {
    respond::finish(answer, request_id, Some(identity), || identity.scope().policy(), false)
}

/// The class of what is asked about under this policy. A name that is no class is a kind of the policy's limits.
fn class(target: &Target, policy: &PolicyInForce) -> RouteClass {
    match target {
        Target::Line(line) => RequestLine::class_of(line.as_ref(), policy),
        Target::Named(name) => match name.as_str() {
            "read" => RouteClass::Read,
            "bypass" => RouteClass::Bypass,
            name => {
                let throttled = policy.policy().route_classes.get(name).and_then(|class| class.throttled);
                RouteClass::Guarded { class: name.into(), throttled: throttled.unwrap_or(true) }
            }
        },
    }
}

#[cfg(test)]
mod tests;
