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

pub mod logging;
pub mod metric;
pub mod timestamp;
mod digest;
mod ratelimit_field;
pub mod drain;
pub mod refusal;
pub mod credential;
pub mod client_address;
mod dev_token;
pub mod policy_in_force;
pub mod store_breaker;
mod refusal_memory;
mod tally;
mod group_commit;
mod watch_hub;
pub mod state;
mod admission;
mod respond;
mod task_view;
mod prefer;
mod tasks;
mod events;
mod limits;
mod health;
mod public;
mod server;
mod admin;
pub mod cli;

use std::sync::Arc;
use std::time::Duration;

use portcullis_lua::AdmitRequest;
use portcullis_lua::{Decision, StoreError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use client_address::TrustedProxies;
pub use drain::Shutdown;
pub use state::{Gateway, GatewayOptions};

use group_commit::{Decide, Gathered};
use server::Server;

/// The two sockets of a gateway, bound by the caller so that a test can bind port 0.
#[derive(Debug)]
pub struct Listeners {
    /// For clients.
    pub public: TcpListener,
    /// For operators: admin interface, metrics, console.
    pub admin: TcpListener,
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

/// Pause between two writes of what was refused from memory.
const TALLY_INTERVAL: Duration = Duration::from_secs(1);

/// Serves until told to stop, then drains: readiness fails at once, requests are served for the drain time, listeners
/// close, running requests finish, event streams end (their clients resume elsewhere), statistics are written.
///
/// A dropped future ends everything it started.
pub async fn run(listeners: Listeners, options: GatewayOptions, shutdown: Shutdown) -> Ended {
    let drain_time = options.drain;
    let (gateway, gathered) = Gateway::new(options);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let _ends_when_dropped = stop.clone().drop_guard();
    spawn_owned_tasks(&gateway, &gathered, &tasks, &stop);

    let public = Server::start(listeners.public, public::router(gateway.clone()));
    let admin = Server::start(listeners.admin, admin::router(gateway.clone()));
    let drained = async {
        shutdown.drain_requested().await;
        tracing::info!(seconds = drain_time.as_secs_f64(), "draining: readiness fails, requests are still served");
        gateway.drain_state().leave();
        tokio::time::sleep(drain_time).await;
        gateway.drain_state().close();
        let finished = public.finish(FINISH_REQUESTS).await;
        // Operators can look at a draining gateway to the end.
        admin.finish(FINISH_TASKS).await;
        finished
    };
    let finished = tokio::select! {
        finished = drained => finished,
        () = shutdown.abort_requested() => false,
    };
    stop.cancel();
    tasks.close();
    let ended = finished && tokio::time::timeout(FINISH_TASKS, tasks.wait()).await.is_ok();
    if ended { Ended::Drained } else { Ended::CutShort }
}

/// The tasks a gateway owns beside its connections. Each ends when `stop` says so.
fn spawn_owned_tasks(gateway: &Arc<Gateway>, gathered: &Gathered, tasks: &TaskTracker, stop: &CancellationToken) {
    for _ in 0..group_commit::SENDERS {
        tasks.spawn(gathered.clone().send_batches(ScopeAdmissions(gateway.clone()), stop.clone()));
    }
    tasks.spawn({
        let (gateway, stop) = (gateway.clone(), stop.clone());
        async move {
            let ping = || gateway.store().ping();
            stop.run_until_cancelled(gateway.store_breaker().tend(ping)).await;
        }
    });
    tasks.spawn({
        let (gateway, stop) = (gateway.clone(), stop.clone());
        async move {
            let subscribe = || gateway.scope_store().watch();
            stop.run_until_cancelled(gateway.watch_hub().follow(subscribe)).await;
        }
    });
    tasks.spawn({
        let (gateway, stop) = (gateway.clone(), stop.clone());
        async move {
            while stop.run_until_cancelled(tokio::time::sleep(TALLY_INTERVAL)).await.is_some() {
                flush_tally(&gateway).await;
            }
            flush_tally(&gateway).await;
        }
    });
}

/// Decides a batch under the policy in force at the moment it is sent.
#[derive(Debug)]
struct ScopeAdmissions(Arc<Gateway>);

impl Decide for ScopeAdmissions {
    async fn decide(&self, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        let policy = self.0.compiled_policy();
        self.0.store_breaker().call(self.0.scope_store().admit(&policy, requests)).await
    }
}

/// Writes what was decided to the scope's statistics; what cannot be written now is written later.
async fn flush_tally(gateway: &Gateway) {
    let counts = gateway.tally().take();
    if counts.is_empty() {
        return;
    }
    let (policy, entries) = (gateway.compiled_policy(), counts.entries());
    let written = gateway.store_breaker().call(gateway.scope_store().tally(&policy, &entries)).await;
    if let Err(error) = written {
        tracing::debug!(%error, "the latest decisions are not in the statistics yet");
        gateway.tally().put_back(&counts);
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
        let listeners = Listeners { public: bind().await, admin: bind().await };
        let addresses = [listeners.public.local_addr().unwrap(), listeners.admin.local_addr().unwrap()];
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
        for address in addresses {
            assert!(TcpStream::connect(address).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_drain_can_be_cut_short() {
        let listeners = Listeners { public: bind().await, admin: bind().await };
        let options = GatewayOptions { drain: Duration::from_secs(3600), ..options_without_redis() };
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run(listeners, options, shutdown.clone()));
        shutdown.drain();
        shutdown.abort();
        assert_eq!(running.await.unwrap(), Ended::CutShort);
    }
}
