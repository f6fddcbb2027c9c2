//! The gateway: a stateless ingress that decides, before any expensive work begins, whether to take it on.
//!
//! The way of a request, which is also the list of files under `admission/`:
//!
//! 1. **Session**: who is calling. A credential that fails is refused, never downgraded.
//! 2. **Rate limit**: a burst and an hourly window, both sliding, both exact.
//! 3. **Backpressure**: depth against the capacity that live processors stand for.
//! 4. **Circuit breaker**: of the task's kind, and of Redis itself.
//! 5. **Economics**: budgets, reserved now and settled when the task ends.
//! 6. **Enqueue**: the task, its idempotency key and the decision event.
//!
//! The first step is taken here. The other five are one script and one round trip, so that nothing changes between
//! checking and acting; what a gateway keeps to itself is only a short memory of refusals and the breaker for Redis.
//!
//! Must never issue a Redis command, which is `portcullis-lua`'s, nor read the clock of this machine for anything
//! another process must agree with.

pub mod metric;
pub mod timestamp;
mod digest;
mod idempotency_key;
mod trace_context;
mod text;
mod ratelimit_field;
mod answer_headers;
pub mod drain;
mod background;
pub mod policy_in_force;
pub mod refusal;
pub mod caller;
mod right;
mod caught;
pub mod credential;
mod challenge;
pub mod client_address;
pub mod identity;
mod dev_token;
mod bearer_token;
pub mod store_breaker;
mod refusal_memory;
mod limit_memory;
mod tally;
mod group_commit;
mod pass_keeper;
mod decider;
mod delegation_terms;
mod session_terms;
mod delegation_wish;
mod submitted;
mod sessions;
mod delegations;
mod well_known;
pub mod identity_terms;
mod looker;
pub mod scope;
pub mod scopes;
mod watch_hub;
mod news;
mod degraded;
mod refused_fetch;
pub mod state;
mod admission;
mod problem;
mod respond;
mod request_head;
mod cors;
mod page;
mod task_view;
mod prefer;
mod tasks;
mod events;
mod limits;
mod health;
mod openapi;
pub mod proxy;
mod decide;
pub mod envoy_rls;
mod public;
mod server;
mod admin;
pub mod cli;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::timeout;

pub use admin::offer::AdminOffer;
pub use client_address::TrustedProxies;
pub use decide::asker::DecideAskers;
pub use drain::Shutdown;
pub use refusal_memory::{Shared, Term};
pub use state::{Gateway, GatewayOptions};

use bearer_token::BearerToken;
use envoy_rls::RateLimitService;
use public::Public;
use scopes::Scopes;
use server::Server;

/// The sockets of a gateway, bound by the caller so that a test can bind port 0.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub public: TcpListener,
    /// For operators: admin interface, metrics, console.
    pub admin: TcpListener,
    /// For Envoy's rate limit service; `None`: it is not served.
    pub rls: Option<TcpListener>,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that was running has been finished.
    Drained,
    /// Told to end at once, or the requests that were running did not end in time.
    CutShort,
}

/// Longest time for running requests to end once the listeners are closed.
const FINISH_REQUESTS: Duration = Duration::from_secs(30);

/// Longest time for the gateway's own tasks to end.
const FINISH_TASKS: Duration = Duration::from_secs(2);

/// Longest time the first request waits because the stored policy is being looked for.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// Pause before the boot document is offered to a Redis that did not answer again.
const FORCE_AGAIN: Duration = Duration::from_millis(200);

/// Serves until told to stop, then drains: readiness fails at once, requests are served for the drain time, listeners
/// close, running requests finish, event streams end (their clients resume elsewhere), statistics are written.
///
/// A dropped future ends everything it started.
pub async fn run(listeners: Listeners, options: GatewayOptions, shutdown: Shutdown) -> Ended {
    let (drain_time, keep_alive) = (options.drain, options.keep_alive);
    let gateway = Gateway::new(options);
    let background = gateway.background().clone();
    let _ends_when_dropped = background.stopping().clone().drop_guard();
    let looked = first_look(&gateway).await;
    spawn_owned_tasks(&gateway, looked);

    let public = Server::start(listeners.public, Public::new(gateway.clone()), keep_alive);
    let admin = Server::start(listeners.admin, admin::router(gateway.clone()), keep_alive);
    let rls_token = gateway.rls_token().map(BearerToken::new);
    let rls_service = RateLimitService::new(gateway.clone(), rls_token);
    let rls = listeners.rls.map(|rls| Server::start(rls, rls_service, keep_alive));
    let drained = async {
        shutdown.drain_requested().await;
        tracing::info!(seconds = drain_time.as_secs_f64(), "draining: readiness fails, requests are still served");
        gateway.drain_state().leave();
        public.leave();
        rls.iter().for_each(Server::leave);
        tokio::time::sleep(drain_time).await;
        // A client whose event stream ends comes back at once, and must find another gateway.
        public.close().await;
        if let Some(rls) = &rls {
            rls.close().await;
        }
        gateway.drain_state().close();
        let answered = async {
            match rls {
                Some(rls) => rls.finish(FINISH_REQUESTS).await,
                None => true,
            }
        };
        let (finished, answered) = tokio::join!(public.finish(FINISH_REQUESTS), answered);
        // Operators can look at a draining gateway to the end.
        admin.finish(FINISH_TASKS).await;
        finished && answered
    };
    let finished = tokio::select! {
        finished = drained => finished,
        () = shutdown.abort_requested() => false,
    };
    let ended = background.finish(FINISH_TASKS).await && finished;
    if ended { Ended::Drained } else { Ended::CutShort }
}

/// Puts the stored policy of the default scope in force, or stores the boot document, before anybody is served; but
/// does not wait for a Redis that is not there. Whether it was done.
async fn first_look(gateway: &Gateway) -> bool {
    let default = gateway.scopes().default_scope();
    let looked = async {
        if gateway.force_boot() {
            default.live().force_boot().await.map(drop)
        } else {
            default.catch_up().await.map(drop)
        }
    };
    match timeout(FIRST_LOOK, Box::pin(looked)).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::warn!(%error, "starting under the boot document until redis answers"),
        Err(_) => tracing::warn!("starting under the boot document until redis answers in time"),
    }
    false
}

/// The tasks a gateway owns beside its connections. Each ends when the gateway stops.
fn spawn_owned_tasks(gateway: &Arc<Gateway>, looked: bool) {
    let background = gateway.background();
    background.spawn_until_stopped({
        let gateway = gateway.clone();
        async move { gateway.store_breaker().tend(|| gateway.store().ping()).await }
    });
    background.spawn_until_stopped({
        let gateway = gateway.clone();
        async move {
            news::pass_on(gateway.scopes().as_ref(), gateway.watch_hub(), || gateway.store().watch()).await;
        }
    });
    background.spawn({
        let (passes, stopping) = (gateway.passes().clone(), background.stopping().clone());
        let gateway = gateway.clone();
        async move { passes.tend(gateway.store_breaker(), gateway.refusal_memory(), stopping).await }
    });
    background.spawn_until_stopped({
        let hub = gateway.watch_hub().clone();
        async move { hub.keep_turning().await }
    });
    if gateway.force_boot() && !looked {
        background.spawn_until_stopped(store_boot_document(gateway.scopes().clone()));
    }
    background.spawn(gateway.scopes().clone().keep_in_step());
    background.spawn(gateway.scopes().clone().keep_tallies());
    background.spawn_until_stopped(gateway.scopes().clone().keep_swept());
}

/// Offers the boot document to Redis until it is stored. Until then this gateway decides under whatever is stored: with
/// another policy than the stored one it could decide nothing at all, and where Redis does not answer nobody is decided
/// about. Once it is stored it is left alone: operators may change it.
async fn store_boot_document(scopes: Arc<Scopes>) {
    let live = scopes.default_scope().live();
    while let Err(error) = Box::pin(live.force_boot()).await {
        tracing::warn!(%error, "the boot document is not stored yet");
        tokio::time::sleep(FORCE_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::state::tests::options_without_redis;

    async fn bind() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    #[tokio::test]
    async fn a_gateway_serves_until_told_to_drain_and_then_leaves_nothing_open() {
        let listeners = Listeners { public: bind().await, admin: bind().await, rls: Some(bind().await) };
        let addresses = [listeners.public.local_addr().unwrap(), listeners.admin.local_addr().unwrap()];
        let rls = listeners.rls.as_ref().unwrap().local_addr().unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(listeners, options_without_redis(), shutdown.clone()));
        for address in addresses {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        }
        shutdown.drain();
        assert_eq!(running.await.unwrap(), Ended::Drained);
        for address in addresses.into_iter().chain([rls]) {
            assert!(TcpStream::connect(address).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_drain_can_be_cut_short() {
        let listeners = Listeners { public: bind().await, admin: bind().await, rls: Some(bind().await) };
        let options = GatewayOptions { drain: Duration::from_secs(3600), ..options_without_redis() };
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(listeners, options, shutdown.clone()));
        shutdown.drain();
        shutdown.abort();
        assert_eq!(running.await.unwrap(), Ended::CutShort);
    }
}
