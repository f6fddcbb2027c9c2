//! `GET /monitoring/system`: the whole state of a gateway and its scope in one document.
//!
//! Responsible for its shape. Must never fail because Redis does: what this gateway knows by itself is shown all the
//! same, the parts that Redis would have to tell are null, and `store` says why. Nor must it show what belongs to all
//! scopes of the process to who operates one of them.

use std::collections::BTreeMap;

use portcullis_lua::{QueueView, StoreError};
use serde_json::{Value, json};

use super::scoped::Scoped;
use super::{policy, view};
use crate::state::Gateway;
use crate::{degraded, metric};

/// Hours of statistics shown, the current one included.
const HOURS: u32 = 24;

/// The document.
pub(crate) async fn system(scoped: &Scoped) -> Value {
    let (gateway, in_force, store) = (scoped.gateway(), scoped.policy(), scoped.store());
    let (queue, processors, breakers, statistics) = tokio::join!(
        scoped.read(store.queues(in_force.compiled())),
        scoped.read(store.processors(in_force.compiled())),
        scoped.read(store.breakers(in_force.compiled())),
        scoped.read(store.statistics(HOURS)),
    );
    let answers = [queue.as_ref().err(), processors.as_ref().err(), breakers.as_ref().err(), statistics.as_ref().err()];
    let mut degraded = degraded::of_scope(gateway, scoped.scope());
    degraded.extend(degraded::told(queue.as_ref().ok(), processors.as_deref().ok()));
    json!({
        "scope": scoped.store().scope(),
        "degraded": degraded,
        "gateway": instance(gateway),
        "config": {
            "revision": in_force.revision(), "source": policy::view::source(scoped), "fault": scoped.live().fault(),
        },
        "queue": view::part(&queue, view::queue),
        "pressure": view::part(&queue, pressure),
        "processors": view::part(&processors, |list| list.iter().map(view::processor).collect()),
        "circuit_breakers": view::part(&breakers, |list| list.iter().map(view::breaker).collect()),
        "throttling": view::part(&statistics, |list| json!({"hours": list.iter().map(view::hour).collect::<Value>()})),
        "local_refusals": scoped.operator().reaches_everything().then(local_refusals),
        "store": store_state(gateway, answers.into_iter().flatten().next()),
        "latencies": latencies(scoped, queue.as_ref().ok()),
    })
}

/// This gateway's breaker for Redis, and why the last question was not answered.
pub(crate) fn store_state(gateway: &Gateway, error: Option<&StoreError>) -> Value {
    let breaker = if gateway.store_breaker().is_open() { "open" } else { "closed" };
    json!({"breaker": breaker, "answers": error.is_none(), "error": error.map(ToString::to_string)})
}

fn instance(gateway: &Gateway) -> Value {
    json!({
        "instance": gateway.instance(),
        "version": env!("CARGO_PKG_VERSION"),
        "draining": gateway.draining(),
        "event_streams": gateway.event_streams(),
    })
}

/// How full the scope is and who is refused at which depth.
fn pressure(queue: &QueueView) -> Value {
    json!({
        "pressure": queue.pressure,
        "depth": queue.queued + queue.running,
        "capacity": queue.capacity,
        "slots": queue.slots,
        "thresholds": queue.thresholds,
        "hard_limit": queue.hard_limit,
    })
}

/// Refusals of this process that never reached Redis, by code and user type, since it started.
fn local_refusals() -> Value {
    let mut by_code: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for (code, user_type, count) in metric::local_refusals() {
        by_code.entry(code).or_default().insert(user_type, count);
    }
    json!(by_code)
}

fn latencies(scoped: &Scoped, queue: Option<&QueueView>) -> Value {
    let of_the_process = scoped.operator().reaches_everything().then(|| {
        let (calls, mean_ms) = metric::admit_latency();
        json!({"calls": calls, "mean_ms": mean_ms})
    });
    json!({
        "admit": of_the_process,
        "service_ms": queue.and_then(|queue| queue.service_ms),
        "oldest_wait_ms": queue.and_then(|queue| queue.oldest_wait_ms),
    })
}
