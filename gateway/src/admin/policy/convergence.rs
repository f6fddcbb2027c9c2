//! Which replica of a scope holds which policy, and waiting until all hold the stored one.
//!
//! Responsible for an honest answer: replicas that fell silent are shown and do not count, one that is live and holds
//! another policy is waited for by name. Must never say "converged" without having been told so by Redis.

use std::time::Duration;

use portcullis_lua::{Convergence, ReplicaView, Role, StoreError};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::admin::scoped::Scoped;
use crate::admin::view;
use crate::refusal_memory::LONGEST_MEMORY;

/// Pause between the first two looks while waiting: a message has mostly been heard by then.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// Longest pause between two looks; each is twice as long as the one before.
const LAST_PAUSE: Duration = Duration::from_millis(128);

/// How far the replicas have come. This gateway says first what it holds, if it has not yet, or if Redis has forgotten
/// its last report.
pub(crate) async fn look(scoped: &Scoped) -> Result<Convergence, StoreError> {
    if scoped.scope().is_due() {
        scoped.scope().keep_in_step().await;
    }
    let seen = read(scoped).await?;
    if seen.replicas.iter().any(|replica| replica.name == scoped.scope().replica()) {
        return Ok(seen);
    }
    scoped.scope().report_anew().await;
    read(scoped).await
}

async fn read(scoped: &Scoped) -> Result<Convergence, StoreError> {
    let policy = scoped.policy();
    scoped.read(scoped.store().convergence(policy.compiled())).await
}

/// Looks until all live replicas hold the stored policy, at most `wait` and not past the end of this gateway; what was
/// seen last. The policy is stored whatever comes out of this.
///
/// However short the wait, it goes on until no gateway can repeat a refusal of the policy before: until each has said
/// that it holds the new one, or has had the time to forget.
pub(crate) async fn wait(scoped: &Scoped, revision: u64, wait: Duration) -> Value {
    let closed = scoped.gateway().drain_state().closed();
    let stored = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = look(scoped).await;
        let passed = stored.elapsed();
        let settled = seen.as_ref().is_ok_and(|seen| nobody_is_waited_for(seen, passed >= wait));
        if settled || passed >= wait.max(LONGEST_MEMORY) {
            return shown_or_unknown(seen, revision);
        }
        let next = if passed < wait { wait } else { LONGEST_MEMORY };
        tokio::select! {
            () = sleep(pause.min(next.saturating_sub(passed))) => pause = (pause * 2).min(LAST_PAUSE),
            () = closed.cancelled() => return shown_or_unknown(seen, revision),
        }
    }
}

/// Whether all are in step, or where time is up all that could still answer by the policy before.
fn nobody_is_waited_for(seen: &Convergence, time_is_up: bool) -> bool {
    seen.behind().all(|replica| time_is_up && replica.role != Role::Gateway)
}

/// As the admin interface shows it.
pub(crate) fn shown(seen: &Convergence) -> Value {
    let waiting_for: Vec<&str> = seen.behind().map(|replica| replica.name.as_str()).collect();
    json!({
        "revision": seen.stored.revision(),
        "converged": waiting_for.is_empty(),
        "replicas": seen.replicas.iter().map(replica).collect::<Value>(),
        "waiting_for": waiting_for,
    })
}

fn shown_or_unknown(seen: Result<Convergence, StoreError>, revision: u64) -> Value {
    match seen {
        Ok(seen) => shown(&seen),
        Err(error) => json!({
            "revision": revision, "converged": false, "replicas": null, "waiting_for": null, "error": error.to_string(),
        }),
    }
}

fn replica(replica: &ReplicaView) -> Value {
    let shown = view::with_time(replica, "since_ms", "since_at", replica.since_ms);
    view::with_time(&shown, "last_heard_ms", "last_heard_at", replica.last_heard_ms)
}

#[cfg(test)]
mod tests {
    use portcullis_lua::PolicyStamp;

    use super::*;

    fn view_of(name: &str, stamp: PolicyStamp, live: bool) -> ReplicaView {
        ReplicaView {
            name: name.to_owned(),
            role: Role::Gateway,
            version: "0.1.0".to_owned(),
            stamp,
            revision: stamp.revision(),
            since_ms: 0,
            last_heard_ms: 1_000,
            age_ms: 20,
            live,
            fault: None,
        }
    }

    #[test]
    fn live_replicas_are_waited_for_and_silent_ones_only_shown() {
        let (old, new) = (PolicyStamp::new(6, "{}"), PolicyStamp::new(7, "{}"));
        let replicas = vec![view_of("a", new, true), view_of("b", old, true), view_of("c", old, false)];
        let shown_behind = shown(&Convergence { stored: new, replicas: replicas.clone() });
        assert_eq!((&shown_behind["converged"], &shown_behind["waiting_for"]), (&json!(false), &json!(["b"])));
        let expected = json!({
            "name": "a", "role": "gateway", "version": "0.1.0", "revision": 7, "since_at": "1970-01-01T00:00:00.000Z",
            "last_heard_at": "1970-01-01T00:00:01.000Z", "age_ms": 20, "live": true, "fault": null,
        });
        assert_eq!(shown_behind["replicas"][0], expected);
        let in_step = shown(&Convergence { stored: new, replicas: vec![replicas[0].clone(), replicas[2].clone()] });
        assert_eq!((&in_step["converged"], &in_step["revision"]), (&json!(true), &json!(7)));
    }

    #[test]
    fn gateways_are_waited_for_longer_than_processors() {
        let (old, new) = (PolicyStamp::new(6, "{}"), PolicyStamp::new(7, "{}"));
        let seen = |role| {
            let replica = ReplicaView { role, ..view_of("a", old, true) };
            Convergence { stored: new, replicas: vec![replica] }
        };
        for (role, time_is_up, over) in [
            (Role::Processor, false, false),
            (Role::Processor, true, true),
            (Role::Gateway, false, false),
            (Role::Gateway, true, false),
        ] {
            assert_eq!(nobody_is_waited_for(&seen(role), time_is_up), over, "{role:?} {time_is_up}");
        }
    }

    #[test]
    fn another_document_of_the_same_number_is_not_the_stored_one() {
        let replicas = vec![view_of("a", PolicyStamp::new(7, "{\"a\":1}"), true)];
        assert_eq!(shown(&Convergence { stored: PolicyStamp::new(7, "{}"), replicas })["converged"], false);
    }

    #[test]
    fn what_redis_does_not_tell_is_not_converged() {
        let unknown = shown_or_unknown(Err(StoreError::Unavailable("gone".to_owned())), 8);
        assert_eq!((&unknown["converged"], &unknown["revision"]), (&json!(false), &json!(8)));
    }
}
