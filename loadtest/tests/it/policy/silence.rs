//! The slow poll: a policy of which no message was sent, on connections that never broke, is found all the same.
//!
//! Responsible for the last resort alone: nobody asks the replicas anything, because a request would find out by
//! itself.

use portcullis_loadtest::probe::Probe;
use portcullis_lua::PolicyStamp;
use serde_json::json;

use super::operator::updated;
use crate::fixture::{Fixture, cluster, start, until};

/// Runs `revise.lua` as it is, but has it publish where nobody listens; the stamp stored.
async fn revise_silently(cluster: &Fixture, probe: &Probe, seen: PolicyStamp) -> PolicyStamp {
    let sources = portcullis_lua::sources();
    let (_, source) = sources.iter().find(|(name, _)| *name == "revise").expect("the script");
    let [scope, policy, revision, audit, head] =
        ["scope", "policy", "revision", "audit", "audit-head"].map(|name| format!("{}:{name}", cluster.key_prefix()));
    let document = json!({ "tenant": cluster.scope().tenant(), "project": cluster.scope().project() }).to_string();
    let about = json!({ "origin": "update", "actor": "a test", "changed": [] }).to_string();
    let (seen, digest) = (seen.as_u64().to_string(), PolicyStamp::new(0, &document).as_u64().to_string());
    let answer = probe.command(
        "EVAL",
        [
            source, "5", &scope, &policy, &revision, &audit, &head, "", &seen, &document, &digest, &about, "a test",
            "a write", "100", "100", "nowhere",
        ],
    );
    let (stored, stamp, _): (u64, u64, u64) = answer.await.expect("an answer").convert().expect("three numbers");
    assert_eq!(stored, 1, "another policy is stored");
    PolicyStamp::from_u64(stamp)
}

#[tokio::test]
async fn a_policy_nobody_was_told_of_is_found_by_the_next_report() {
    let policy = json!({ "monitoring": { "heartbeat_timeout_seconds": 1 } });
    let cluster = start(cluster().gateways(2).processors(1).policy(policy)).await;
    let (store, probe) = (cluster.store().await.expect("a store"), cluster.probe().await.expect("a connection"));
    updated(&cluster.admin(0), &json!({ "limits": { "max_queue_size": 1 } })).await;
    let seen = store.stored_policy().await.expect("an answer").expect("a policy").stamp;

    let stored = revise_silently(&cluster, &probe, seen).await;
    assert_eq!(stored.revision(), seen.revision() + 1);
    until("every replica holds it", || async {
        let seen = store.convergence(&cluster.compiled_policy()).await.ok()?;
        assert_eq!(seen.stored, stored, "nobody has anything to give back");
        let holders = seen.replicas.iter().filter(|replica| replica.live && replica.stamp == stored).count();
        (holders == 3 && seen.behind().next().is_none()).then_some(())
    })
    .await;
}
