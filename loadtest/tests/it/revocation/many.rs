//! Very much is revoked in a scope, and somebody goes on revoking: gateways keep up, new ones too.
//!
//! Responsible for what a change costs where the set is large, counted in commands. Must never give a command the time
//! that the whole set would take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use portcullis_loadtest::client::Submission;
use portcullis_loadtest::credentials::principal_of;
use portcullis_lua::{Grounds, Member, REVOKE_BATCH, Revocation, ScopeStore};
use serde_json::json;
use tokio::time::sleep;

use super::cast::{Cast, boundless, read, revoke};
use crate::fixture::{cluster, impatient_cluster, until};

/// Most that may be revoked, but for what the test itself adds.
const MANY: usize = 96_000;
const LASTS_MS: u64 = 3_600_000;
/// Revocations while somebody is served.
const CHANGES: usize = 10;
/// Tasks of somebody whom nobody revokes.
const SUBMISSIONS: usize = 200;

/// So many agents nobody has met are revoked.
async fn fill(store: &ScopeStore) {
    let grounds = Grounds { by: "operator", reason: "closed", max_audit_events: 100 };
    let batches: Vec<Vec<Revocation>> = (0..MANY / REVOKE_BATCH)
        .map(|batch| {
            let name = |number: usize| Member::Session(&format!("gone-{batch}-{number}")).to_string();
            let of = |number| Revocation { member: name(number), lasts_ms: LASTS_MS, spares_later: false };
            (0..REVOKE_BATCH).map(of).collect()
        })
        .collect();
    for some in batches.chunks(50) {
        let answers = join_all(some.iter().map(|batch| store.revoke(batch, grounds))).await;
        let done = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(done, some.len(), "{answers:?}");
    }
}

#[tokio::test]
async fn a_gateway_keeps_up_with_each_change_of_a_set_as_large_as_it_may_be() {
    let policy = json!({ "rate_limits": boundless() });
    let mut cast = Cast::on(impatient_cluster().env("PORTCULLIS_STORE_TIMEOUT_MS", "250").policy(policy)).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    let store = cast.cluster.store().await.expect("a store");
    fill(&store).await;
    let bobs = cast.log_in("bob").await;
    let client = cast.cluster.add_gateway().await.expect("a gateway").bearer(&bobs);
    let task = Submission::new("demo", json!(1));
    until("a new gateway has read them all", || async {
        (read(&client).await == 200 && client.submit(&task).await.expect("an answer").status == 202).then_some(())
    })
    .await;
    let probe = cast.cluster.probe().await.expect("a connection");
    probe.reset_statistics().await.expect("an answer");
    for number in 0..CHANGES {
        revoke(&store, Member::Principal(&principal_of(&format!("nobody-{number}")))).await;
        let answer = client.submit(&task).await.expect("an answer");
        assert_eq!(answer.status, 202, "after change {number}: {}", answer.text);
    }
    let costs = probe.command_costs().await.expect("costs");
    // Of two gateways each asks what is revoked after a change, and reads what has changed.
    let reads = costs.get("hmget").map_or(0, |cost| cost.calls);
    assert!(reads <= 10 * CHANGES as u64, "{reads} reads for {CHANGES} changes: {costs:?}");
}

#[tokio::test]
async fn who_is_alive_is_admitted_although_somebody_is_revoked_all_the_time() {
    let mut cast = Cast::on(cluster().gateways(2).policy(json!({ "rate_limits": boundless() }))).await;
    cast.cluster.stand_in(1000).await.expect("capacity");
    let store = cast.cluster.store().await.expect("a store");
    let clients = [0, 1].map(|gateway| cast.cluster.gateway(gateway));
    let bobs = cast.log_in("bob").await;
    let (task, over) = (Submission::new("demo", json!(1)), AtomicBool::new(false));
    let revoking = async {
        let mut revoked = 0;
        while !over.load(Ordering::Relaxed) {
            revoke(&store, Member::Token(&format!("token-{revoked}"))).await;
            revoked += 1;
            // Up to two hundred a second: more often than the largest scope logs out.
            sleep(Duration::from_millis(5)).await;
        }
        revoked
    };
    let submitting = async {
        for number in 0..SUBMISSIONS {
            let answer = clients[number % 2].bearer(&bobs).submit(&task).await.expect("an answer");
            assert_eq!(answer.status, 202, "{}", answer.text);
        }
        over.store(true, Ordering::Relaxed);
    };
    let (revoked, ()) = tokio::join!(revoking, submitting);
    assert!(revoked > 20, "hardly anything was revoked meanwhile: {revoked}");
}
