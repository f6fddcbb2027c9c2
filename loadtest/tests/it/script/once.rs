//! What counts once: used up by whatever is decided with it, or by a command of its own, and by nothing else.
//!
//! Responsible for every way in which a decision ends. Must never wait for something to lapse: how long it lasts is
//! read.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use portcullis_config::policy::{Budget, Period, Subject};
use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Idempotency, Once, PassTerms, PolicyStamp, Provenance, Reason, Refusal, StoreError,
    Verdict,
};

use super::stage::{Act, START_MS, Stage, limit, request, roomy};

const LASTS_MS: u32 = 60_000;

fn once(id: &str) -> Once {
    Once::new(id, LASTS_MS)
}

/// The same request, with this.
fn with(id: &str, request: AdmitRequest) -> AdmitRequest {
    AdmitRequest { provenance: Provenance { once: Some(once(id)), ..request.provenance.clone() }, ..request }
}

fn keyed(key: &str, body: &str) -> AdmitRequest {
    let idempotency = Idempotency { key_hash: key.to_owned(), body_hash: body.to_owned() };
    AdmitRequest { idempotency: Some(idempotency), ..request("paid", "s") }
}

fn refusal(verdict: &Verdict) -> Option<Reason> {
    match verdict {
        Verdict::Refused(Refusal { reason, .. }) => Some(*reason),
        _ => None,
    }
}

/// What was decided at the start of time: why not, or that it was let through.
async fn decided(act: &Act, policy: &CompiledPolicy, requests: &[AdmitRequest]) -> Vec<Option<Reason>> {
    let decisions = act.store.at(START_MS).admit(policy, requests).await.expect("decisions");
    decisions.iter().map(|decision| refusal(&decision.verdict)).collect()
}

/// Everything there is but the decisions, and what was used up.
async fn state(act: &Act) -> BTreeMap<String, String> {
    let mut dump = act.probe.dump(&act.prefix).await.expect("a dump");
    dump.retain(|key, _| ![":decision", ":scope"].iter().any(|name| key.ends_with(name)) && !key.contains(":once:"));
    dump
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_uses_at_once_one_counts_whichever_way_each_goes() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await];
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 1_000).await;
    for id in ["jti-1", "jti-2", "jti-3"] {
        let uses = (0..64).map(|number: usize| {
            let (store, policy) = (stores[number % 2].scope(act.store.scope()), &policy);
            async move {
                if number.is_multiple_of(4) {
                    return u64::from(store.use_once(&once(id)).await.expect("an answer"));
                }
                let pass = PassTerms { lease_ms: 1_000, throttled: true, hits: 1 };
                let pass = AdmitRequest { pass: Some(pass), ..request("paid", "s") };
                let both = [with(id, request("paid", "s")), with(id, pass)];
                let decisions = store.at(START_MS).admit(policy, &both).await.expect("decisions");
                let through = decisions.iter().filter(|decision| refusal(&decision.verdict).is_none());
                through.count() as u64
            }
        });
        assert_eq!(join_all(uses).await.into_iter().sum::<u64>(), 1, "{id}");
    }
    assert!(stage.act().store.use_once(&once("jti-1")).await.expect("an answer"), "another scope's is another");
    let used = act.probe.keys(&act.prefix).await.expect("keys").into_iter().filter(|key| key.contains(":once:"));
    for name in used.collect::<Vec<_>>() {
        let left: i64 = act.probe.command("PTTL", [name.as_str()]).await.expect("an answer").convert().expect("ms");
        assert!((1..=i64::from(LASTS_MS)).contains(&left), "{name} stays {left} ms");
    }
}

#[tokio::test]
async fn whatever_is_decided_it_is_used_up_and_who_is_refused_uses_nothing_else() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    limit(&mut policy, "anonymous", 1, 60, -1);
    let budget = Budget {
        unit: "tokens".to_owned(),
        amount: 5,
        period: Period::Month,
        per: Subject::UserType,
        default_estimate: 1,
        user_types: None,
    };
    policy.budgets.insert("monthly".to_owned(), budget);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    let greedy = AdmitRequest { estimates: vec![("tokens".to_owned(), 9)], ..request("registered", "s") };
    let nobody = decided(&act, &policy, &[with("nobody", request("paid", "s"))]).await;
    assert_eq!(nobody, [Some(Reason::NoLiveProcessors)]);
    act.beat(&policy, START_MS, 100).await;
    let first = [request("anonymous", "s"), keyed("order", "body")];
    assert_eq!(decided(&act, &policy, &first).await, [None, None]);

    for (id, request, expected) in [
        ("full", request("anonymous", "s"), Some(Reason::BurstLimit)),
        ("spent", greedy, Some(Reason::BudgetExhausted)),
        ("other body", keyed("order", "another"), Some(Reason::IdempotencyMismatch)),
        ("replayed", keyed("order", "body"), None),
        ("admitted", request("paid", "s"), None),
    ] {
        let before = state(&act).await;
        assert_eq!(decided(&act, &policy, &[with(id, request.clone())]).await, [expected], "{id}");
        if expected.is_some() {
            assert_eq!(state(&act).await, before, "{id}");
        }
        // It comes again: with the request it was used for, and with one that would be let through.
        let before = state(&act).await;
        let again = [with(id, request.clone()), with(id, keyed("order", "body"))];
        assert_eq!(decided(&act, &policy, &again).await, [Some(Reason::ProofUsed); 2], "{id}");
        assert_eq!(state(&act).await, before, "{id}");
        assert!(!act.store.use_once(&once(id)).await.expect("an answer"), "{id}");
    }
    assert!(!act.store.use_once(&once("nobody")).await.expect("an answer"));
}

#[tokio::test]
async fn who_comes_with_something_used_harms_nobody_in_its_batch_and_is_told_of() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    limit(&mut policy, "paid", 3, 60, -1);
    let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.beat(&policy, START_MS, 100).await;
    assert!(act.store.use_once(&once("before")).await.expect("an answer"));
    let plain = || request("paid", "s");
    let batch = [with("before", plain()), with("now", plain()), with("now", plain()), plain(), with("then", plain())];
    let used = Some(Reason::ProofUsed);
    assert_eq!(decided(&act, &policy, &batch).await, [used, None, used, None, None]);
    let full = [with("before", plain()), plain()];
    let decisions = act.store.at(START_MS).admit(&policy, &full).await.expect("decisions");
    let Verdict::Refused(refused) = &decisions[0].verdict else { panic!("{decisions:?}") };
    assert_eq!((refused.reason, refused.retry_after_ms), (Reason::ProofUsed, 0), "whichever gate is closed as well");
    assert_eq!(refusal(&decisions[1].verdict), Some(Reason::BurstLimit));
    let events = act.store.decisions(100).await.expect("events");
    let told = |event: &&portcullis_lua::DecisionEvent| event.code.as_deref() == Some("unauthenticated");
    let told: Vec<_> = events.iter().filter(told).map(|event| (event.step.as_deref(), &*event.outcome)).collect();
    assert_eq!(told, [(Some("session"), "refused"); 3]);
}

#[tokio::test]
async fn where_nothing_is_decided_nothing_is_used_up() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    act.beat(&policy, START_MS, 100).await;
    let asked = [with("jti", request("paid", "s"))];
    let store = act.store.at(START_MS);
    let seen = store.peek(&policy, &asked).await.expect("a decision");
    assert_eq!(refusal(&seen[0].verdict), None);
    let newer = CompiledPolicy::new(&roomy(), PolicyStamp::new(1, "{}"));
    let answer = store.admit(&newer, &asked).await;
    assert!(matches!(answer, Err(StoreError::StalePolicy { .. })), "{answer:?}");
    let answer = store.knowing(7).admit(&policy, &asked).await;
    assert!(matches!(answer, Err(StoreError::StaleRevocations { .. })), "{answer:?}");
    assert_eq!(decided(&act, &policy, &asked).await, [None], "the same call, made again");
    let seen = store.peek(&policy, &asked).await.expect("a decision");
    assert_eq!(refusal(&seen[0].verdict), Some(Reason::ProofUsed));
}
