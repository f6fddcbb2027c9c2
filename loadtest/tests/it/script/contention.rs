//! Many callers at once, by Redis's own clock.
//!
//! Must never inject a time: what is tried here is that nobody needs one.

use futures_util::future::join_all;
use portcullis_config::Policy;
use portcullis_config::policy::Subject;
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_lua::{AdmitRequest, CompiledPolicy, PolicyStamp, Reason, Verdict};

use super::stage::{Stage, named_limit, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_64_at_once_over_three_stores_exactly_the_limit_is_admitted() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await, stage.another_store().await];
    let policy = CompiledPolicy::new(&Policy::shipped("t", "p"), PolicyStamp::NONE);
    for round in 0..5 {
        let act = stage.act();
        act.store.heartbeat(&policy, &stand_in_beat("w".to_owned(), 1_000)).await.expect("an answer");
        let callers: Vec<_> = (0..64).map(|caller| stores[caller % 3].scope(act.store.scope())).collect();
        let decided = join_all(callers.iter().map(|store| {
            let (policy, asked) = (&policy, request("anonymous", "s"));
            async move { store.admit(policy, &[asked]).await.expect("a decision").remove(0) }
        }))
        .await;

        let mut tasks: Vec<_> = decided
            .iter()
            .filter_map(|decision| match &decision.verdict {
                Verdict::Admitted { task_id, .. } => Some(task_id.to_string()),
                Verdict::Replayed { .. } | Verdict::Passed { .. } => panic!("neither of both"),
                Verdict::Refused(refusal) => {
                    assert_eq!(refusal.reason, Reason::BurstLimit);
                    // A millisecond more than the window: what happened is rounded up, what is asked rounded down.
                    assert!((1..=60_001).contains(&refusal.retry_after_ms), "{refusal:?}");
                    None
                }
            })
            .collect();
        assert_eq!(tasks.len(), 10, "round {round}");
        let mut queued: Vec<String> =
            act.probe.command("ZRANGE", [&act.key("queue"), "0", "-1"]).await.unwrap().convert().unwrap();
        tasks.sort_unstable();
        queued.sort_unstable();
        assert_eq!(queued, tasks, "what was admitted is what waits");
        let left = act.store.peek(&policy, &[request("anonymous", "s")]).await.expect("a decision").remove(0);
        assert_eq!(left.limits.iter().map(|one| one.remaining).collect::<Vec<_>>(), [0, 110]);
    }
}

#[tokio::test]
async fn a_fraction_of_a_millisecond_is_never_given_away() {
    let stage = Stage::set().await;
    let mut policy = Policy::shipped("t", "p");
    named_limit(&mut policy, "session", Subject::Session, "requests", 10, 60);
    let (act, policy) = (stage.act(), CompiledPolicy::new(&policy, PolicyStamp::NONE));
    act.store.heartbeat(&policy, &stand_in_beat("w".to_owned(), 1_000)).await.expect("an answer");
    let mut resets = Vec::new();
    for session in 0..20 {
        let asked = request("anonymous", &format!("s{session}"));
        let decisions = act.store.admit(&policy, &[asked]).await.expect("a decision");
        assert_eq!(decisions[0].limits[0].reset_ms, decisions[0].limits[2].reset_ms);
        resets.push(decisions[0].limits[0].reset_ms);
    }
    // Asked by a clock rounded down, counted by one rounded up: only at a whole millisecond are they the same.
    assert!(resets.iter().all(|reset_ms| (60_000..=60_001).contains(reset_ms)), "{resets:?}");
    assert!(resets.contains(&60_001), "{resets:?}");
}

/// Each caller is a session of its own; what they have in common is the tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_96_sessions_at_once_exactly_what_their_tenants_limit_holds_is_admitted() {
    const LIMIT: u64 = 32;
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await, stage.another_store().await];
    let mut policy = Policy::shipped("t", "p");
    named_limit(&mut policy, "all", Subject::Tenant, "requests", LIMIT, 60);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    for round in 0..5 {
        let act = stage.act();
        act.store.heartbeat(&policy, &stand_in_beat("w".to_owned(), 1_000)).await.expect("an answer");
        let callers: Vec<_> = (0..96).map(|caller| stores[caller % 3].scope(act.store.scope())).collect();
        let decided = join_all(callers.iter().enumerate().map(|(caller, store)| {
            let cost = 1 + caller as u32 % 4;
            let (policy, asked) = (&policy, AdmitRequest { cost, ..request("anonymous", &format!("s{caller}")) });
            async move { (cost, store.admit(policy, &[asked]).await.expect("a decision").remove(0)) }
        }))
        .await;
        let (mut admitted, mut refused) = (0, Vec::new());
        for (cost, decision) in decided {
            match decision.verdict {
                Verdict::Refused(refusal) => {
                    assert_eq!((refusal.reason, refusal.name.as_deref()), (Reason::RateLimit, Some("all")));
                    refused.push(u64::from(cost));
                }
                _ => admitted += u64::from(cost),
            }
        }
        assert!(admitted <= LIMIT, "round {round}: {admitted}");
        assert!(refused.iter().all(|cost| admitted + cost > LIMIT), "round {round}: {admitted}, and not {refused:?}");
        let left = act.store.peek(&policy, &[request("anonymous", "another")]).await.expect("a decision").remove(0);
        assert_eq!(left.limits[2].remaining, LIMIT - admitted, "round {round}");
    }
}
