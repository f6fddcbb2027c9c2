//! A refusal changes nothing, whatever its reason; neither does a caller with an old policy.
//!
//! Responsible for looking at every key of the scope, its lifetime included. Must never leave a reason out.

use std::collections::BTreeMap;

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, Period, Subject};
use portcullis_lua::{
    About, AdmitRequest, CompiledPolicy, Idempotency, NewRevision, Once, Origin, Outcome, PassEnd, PassEnded,
    PassOutcome, PassTerms, PolicyStamp, Reason, Refusal, Retention, Revised, Settlement, StoreError, StoredPolicy,
    TaskError, TaskId, Verdict,
};

use super::stage::{Act, START_MS, Stage, limit, named_limit, request, roomy};

/// Later than everything that was prepared.
const NOW_MS: u64 = START_MS + 20_000;

/// Every key of the scope with its content and the moment it lapses, but for the decisions, which may grow.
async fn everything(act: &Act) -> BTreeMap<String, String> {
    let mut dump = act.probe.dump(&act.prefix).await.expect("a dump");
    dump.remove(&act.key("decision"));
    // The head of the decisions' chain stands in the middle of the scope's state.
    let scope = act.key("scope");
    let before = act.probe.command("GETRANGE", [scope.as_str(), "0", "63"]).await.expect("bytes");
    let after = act.probe.command("GETRANGE", [scope.as_str(), "112", "-1"]).await.expect("bytes");
    dump.insert(scope, format!("{before:?} {after:?}"));
    for (key, content) in &mut dump {
        let lapses = act.probe.command("PEXPIRETIME", [key.as_str()]).await.expect("an answer");
        *content = format!("{content} until {lapses:?}");
    }
    dump
}

/// Every gate, each far from refusing.
fn policy() -> Policy {
    let mut policy = roomy();
    limit(&mut policy, "anonymous", 1_000, 60, 10_000);
    named_limit(&mut policy, "all", Subject::Tenant, "requests", 1_000, 60);
    let budget = Budget {
        unit: "tokens".to_owned(),
        amount: 1_000,
        period: Period::Month,
        per: Subject::Tenant,
        default_estimate: 10,
        user_types: None,
    };
    policy.budgets.insert("monthly".to_owned(), budget);
    let class = serde_json::json!({"patterns": ["/reports$"], "max_concurrent": 10});
    policy.route_classes.insert("reports".to_owned(), serde_json::from_value(class).expect("a class"));
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.open_seconds) = (2, 3_600);
    policy
}

fn keyed(body: &str) -> AdmitRequest {
    let key = Idempotency { key_hash: "order-1".to_owned(), body_hash: body.to_owned() };
    AdmitRequest { idempotency: Some(key), ..request("anonymous", "s") }
}

/// Three tasks wait, one runs, one is delayed, one has failed, and a pass is in flight; every key there can be exists.
async fn warm_up(act: &Act, policy: &CompiledPolicy) {
    act.beat(policy, START_MS, 100).await;
    let store = act.store.at(START_MS);
    let later = AdmitRequest { delay_ms: 3_600_000, ..request("anonymous", "s") };
    let mut requests = vec![keyed("body"), later];
    requests.extend((0..4).map(|_| request("anonymous", "s")));
    for decision in store.admit(policy, &requests).await.expect("decisions") {
        assert!(matches!(decision.verdict, Verdict::Admitted { .. }), "{decision:?}");
    }
    let leases = store.claim(policy, 2).await.expect("leases").leases;
    let error = TaskError { code: "handler_status".to_owned(), detail: String::new() };
    let outcome = Outcome::Dead { error };
    let settled = act.store.at(START_MS + 10_000);
    settled.settle(policy, &[Settlement { lease: leases[0].clone(), outcome }]).await.expect("an answer");
    settled.renew(policy, &[(leases[1].task_id.clone(), leases[1].token)]).await.expect("an answer");
    settled.append_output(policy, &leases[1], 0, vec!["x".into()]).await.expect("an answer");
    settled.cancel(policy, &leases[1].task_id, "s").await.expect("an answer");
    let passes = [0, 1].map(|_| AdmitRequest {
        kind: "reports".to_owned(),
        pass: Some(PassTerms { lease_ms: 600_000, throttled: true, hits: 1 }),
        ..request("anonymous", "s")
    });
    let decisions = store.admit(policy, &passes).await.expect("decisions");
    let Verdict::Passed { lease: Some(lease) } = decisions[0].verdict.clone() else { panic!("{decisions:?}") };
    let end = PassEnd { lease, outcome: PassOutcome::Succeeded, usage: Vec::new(), answered_ms: None };
    assert_eq!(settled.finish(policy, &[end]).await, Ok(vec![PassEnded::Now]));
}

/// Brings the gate of this reason to refuse: the policy that does and the request it refuses.
async fn provoke(act: &Act, reason: Reason) -> (CompiledPolicy, AdmitRequest) {
    let (mut policy, mut asked) = (policy(), request("anonymous", "s"));
    let compiled = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    match reason {
        Reason::BurstLimit => limit(&mut policy, "anonymous", 4, 60, 10_000),
        Reason::HourlyLimit => limit(&mut policy, "anonymous", 1_000, 60, 4),
        Reason::RateLimit => named_limit(&mut policy, "all", Subject::Tenant, "requests", 4, 60),
        Reason::NoLiveProcessors => act.store.leave("stand-in").await.expect("an answer"),
        Reason::QueueFull => policy.limits.max_queue_size = 4,
        // Depth is 4. Of 2 slots the hard limit is floor(5 × 0.95) = 4; of 3 it is 7, and 4 is floor(8 × 0.6).
        Reason::HardLimit => act.beat(&compiled, NOW_MS, 2).await,
        Reason::PressureThreshold => act.beat(&compiled, NOW_MS, 3).await,
        // Three slots, a fourth task waiting, ten seconds each.
        Reason::DeadlineUnreachable => {
            policy.backpressure.anonymous_pressure_threshold = 0.9;
            act.beat(&compiled, NOW_MS, 3).await;
            asked.deadline_ms = Some(1_000);
        }
        Reason::CircuitOpen => {
            let store = act.store.at(NOW_MS);
            let lease = store.claim(&compiled, 1).await.expect("a lease").leases.remove(0);
            let error = TaskError { code: "handler_status".to_owned(), detail: String::new() };
            let settlement = Settlement { lease, outcome: Outcome::Retry { error, after_ms: 1_000 } };
            store.settle(&compiled, &[settlement]).await.expect("an answer");
        }
        Reason::BudgetExhausted => asked.estimates = vec![("tokens".to_owned(), 951)],
        Reason::IdempotencyMismatch => asked = keyed("another body"),
        Reason::ProofUsed => {
            let once = Once::new("jti", 3_600_000);
            assert!(act.store.use_once(&once).await.expect("an answer"));
            asked.provenance.once = Some(once);
        }
    }
    (CompiledPolicy::new(&policy, PolicyStamp::NONE), asked)
}

#[tokio::test]
async fn no_refusal_changes_anything_but_the_decision_stream() {
    let stage = Stage::set().await;
    for reason in Reason::ALL {
        let act = stage.act();
        warm_up(&act, &CompiledPolicy::new(&policy(), PolicyStamp::NONE)).await;
        let (policy, asked) = provoke(&act, reason).await;
        let before = everything(&act).await;
        assert!(before.len() >= 20, "only {:?}", before.keys());
        let decided = act.store.decisions(1_000).await.expect("decisions").len();

        // What only a task can be refused for, and otherwise passes with a place and without.
        let of_tasks = matches!(reason, Reason::DeadlineUnreachable | Reason::IdempotencyMismatch);
        let terms = |lease_ms| (!of_tasks).then_some(PassTerms { lease_ms, throttled: true, hits: 1 });
        let batch = [None, terms(1_000), terms(0)].map(|pass| AdmitRequest {
            task_id: TaskId::generate(),
            pass,
            ..asked.clone()
        });
        let decisions = act.store.at(NOW_MS).admit(&policy, &batch).await.expect("decisions");

        for decision in decisions {
            let Verdict::Refused(refusal) = decision.verdict else { panic!("{reason:?}: {decision:?}") };
            assert_eq!(refusal.reason, reason);
            let hopeless = matches!(reason, Reason::IdempotencyMismatch | Reason::ProofUsed);
            assert_eq!(refusal.retry_after_ms == 0, hopeless, "{reason:?}");
        }
        assert_eq!(everything(&act).await, before, "{reason:?}");
        let events = act.store.decisions(1_000).await.expect("decisions");
        assert_eq!(events.len(), decided + 3, "{reason:?}");
        assert_eq!(events[0].code.as_deref(), Some(reason.code()));
    }
}

#[tokio::test]
async fn what_pressure_alone_needs_is_told_apart_from_the_requests_own_limits() {
    let stage = Stage::set().await;
    for reason in [Reason::NoLiveProcessors, Reason::HardLimit, Reason::PressureThreshold] {
        let act = stage.act();
        warm_up(&act, &CompiledPolicy::new(&policy(), PolicyStamp::NONE)).await;
        let (policy, asked) = provoke(&act, reason).await;
        // A budget that is full until its month is over, one that never holds so much, and a deadline of its own.
        let over = |tokens| AdmitRequest { estimates: vec![("tokens".to_owned(), tokens)], ..asked.clone() };
        let late = AdmitRequest { deadline_ms: Some(1), ..asked.clone() };
        let batch = [asked.clone(), over(951), over(1_001), late]
            .map(|one| AdmitRequest { task_id: TaskId::generate(), ..one });
        let decisions = act.store.at(NOW_MS).admit(&policy, &batch).await.expect("decisions");
        let refusals = decisions.into_iter().map(|decision| match decision.verdict {
            Verdict::Refused(refusal) if refusal.reason == reason => refusal,
            other => panic!("{reason:?}: {other:?}"),
        });
        let refusals: Vec<Refusal> = refusals.collect();
        let alone_ms = refusals[0].retry_after_ms;
        assert!(alone_ms > 0, "{reason:?}");
        assert!(refusals.iter().all(|refusal| refusal.pressure_ms == alone_ms), "{refusals:?}");
        // The stage's heartbeats are further apart than months.
        let longer = reason == Reason::NoLiveProcessors || refusals[1].retry_after_ms > alone_ms;
        assert!(longer && refusals[2].retry_after_ms == 0, "{refusals:?}");
    }
}

#[tokio::test]
async fn what_only_a_refused_request_of_a_batch_would_have_used_is_not_even_written() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), policy());
    named_limit(&mut policy, "address", Subject::ClientAddress, "requests", 5, 60);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.beat(&policy, START_MS, 100).await;
    let refused = AdmitRequest { cost: 6, client_address: Some("crowd".to_owned()), ..request("anonymous", "many") };
    let admitted = AdmitRequest { client_address: Some("home".to_owned()), ..request("anonymous", "one") };
    let batch = [refused.clone(), admitted, refused];
    let decisions = act.store.at(START_MS).admit(&policy, &batch).await.expect("decisions");
    let verdicts = decisions.iter().map(|decision| matches!(decision.verdict, Verdict::Admitted { .. }));
    assert!(verdicts.eq([false, true, false]), "{decisions:?}");
    let keys = act.probe.keys(&act.prefix).await.expect("keys");
    assert!(keys.contains(&act.key("named-limit:address:home")), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("crowd") || key.contains("many")), "{keys:?}");
}

#[tokio::test]
async fn a_replay_and_a_look_ahead_change_nothing_either() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&policy(), PolicyStamp::NONE));
    warm_up(&act, &policy).await;
    let before = everything(&act).await;
    let replayed = act.store.at(NOW_MS).admit(&policy, &[keyed("body")]).await.expect("a decision");
    assert!(matches!(replayed[0].verdict, Verdict::Replayed { .. }), "{replayed:?}");
    let decided = act.store.decisions(1_000).await.expect("decisions").len();
    let seen = act.store.at(NOW_MS).peek(&policy, &[request("anonymous", "s")]).await.expect("a decision");
    assert!(matches!(seen[0].verdict, Verdict::Admitted { .. }), "{seen:?}");
    assert_eq!(everything(&act).await, before);
    assert_eq!(act.store.decisions(1_000).await.expect("decisions").len(), decided);
}

#[tokio::test]
async fn a_caller_with_another_policy_decides_nothing() {
    let stage = Stage::set().await;
    let act = stage.act();
    warm_up(&act, &CompiledPolicy::new(&policy(), PolicyStamp::NONE)).await;
    let about = About {
        origin: Origin::Update,
        actor: "a test".to_owned(),
        reason: None,
        rolled_back_to: None,
        changed: Vec::new(),
    };
    let document = serde_json::json!({"tenant": "t"});
    let new = NewRevision { document, about, write_id: "1".to_owned() };
    let revised = act.store.revise(PolicyStamp::NONE, Retention::of(&roomy()), &new).await.expect("an answer");
    let Revised::Stored(StoredPolicy { stamp: stored, .. }) = revised else { panic!("{revised:?}") };
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    // Behind, the same revision with another document, and ahead.
    for held in [PolicyStamp::NONE, PolicyStamp::new(1, "{}"), PolicyStamp::new(2, "{}")] {
        let other = CompiledPolicy::new(&policy(), held);
        let refused = Err(StoreError::StalePolicy { held, current: stored });
        assert_eq!(act.store.at(NOW_MS).admit(&other, &[request("anonymous", "s")]).await, refused);
        assert_eq!(act.store.at(NOW_MS).peek(&other, &[request("anonymous", "s")]).await, refused);
        assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before, "held {held}");
    }
    let current = CompiledPolicy::new(&policy(), stored);
    let decisions = act.store.at(NOW_MS).admit(&current, &[request("anonymous", "s")]).await.expect("a decision");
    assert!(matches!(decisions[0].verdict, Verdict::Admitted { .. }), "{decisions:?}");
    assert_eq!(act.store.decisions(1).await.expect("decisions")[0].policy_revision, 1);
}

#[tokio::test]
async fn a_refusal_under_another_user_type_takes_nothing_from_what_the_session_has_used() {
    let stage = Stage::set().await;
    let act = stage.act();
    let mut policy = policy();
    limit(&mut policy, "anonymous", 10, 60, 100);
    limit(&mut policy, "privileged", 1, 60, -1);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.beat(&policy, START_MS, 100).await;
    let batch = [request("anonymous", "s"), request("privileged", "s")];
    let decisions = act.store.at(START_MS).admit(&policy, &batch).await.expect("decisions");
    assert!(matches!(decisions[0].verdict, Verdict::Admitted { .. }), "{decisions:?}");
    assert!(matches!(decisions[1].verdict, Verdict::Refused(_)), "{decisions:?}");
    let left = act.store.at(START_MS).peek(&policy, &[request("anonymous", "s")]).await.expect("a decision");
    let remaining: Vec<u64> = left[0].limits.iter().map(|window| window.remaining).collect();
    assert_eq!(remaining, [9, 99, 999]);
}
