//! Passes: what random histories meet too rarely.
//!
//! Responsible for pools, probes, decisions without a place, and passes that nobody ends. Must never let Redis's own
//! clock into it: that is `pass_at_once.rs`.

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, Period, Subject};
use portcullis_lua::{
    AdmitRequest, CompiledPolicy, PassAsked, PassEnd, PassEnded, PassExtension, PassHead, PassLease, PassOutcome,
    PassTerms, PolicyStamp, Reason, ScopeStore, TaskId, Verdict,
};

use super::stage::{Act, START_MS, Stage, limit, named_limit, request, roomy};

const LEASE_MS: u64 = 1_000;
const OPEN_MS: u64 = 10_000;

/// Adds a class with a pool of this many places.
pub(crate) fn pool(policy: &mut Policy, name: &str, places: u64) {
    let class = serde_json::json!({"patterns": ["/x$"], "max_concurrent": places});
    policy.route_classes.insert(name.to_owned(), serde_json::from_value(class).expect("a class"));
}

/// A monthly budget of the tenant's tokens, 10 for each that does not say.
pub(crate) fn budget(policy: &mut Policy, amount: u64) {
    let (unit, period, per) = ("tokens".to_owned(), Period::Month, Subject::Tenant);
    let budget = Budget { unit, amount, period, per, default_estimate: 10, user_types: None };
    policy.budgets.insert("monthly".to_owned(), budget);
}

fn compiled(policy: &Policy) -> CompiledPolicy {
    CompiledPolicy::new(policy, PolicyStamp::NONE)
}

/// Asks for a pass of this class.
pub(crate) fn pass(kind: &str, user_type: &str, lease_ms: u64) -> AdmitRequest {
    let pass = Some(PassTerms { lease_ms, throttled: true, hits: 1 });
    AdmitRequest { kind: kind.to_owned(), pass, ..request(user_type, "s") }
}

pub(crate) fn end(lease: &PassLease, outcome: PassOutcome) -> PassEnd {
    PassEnd { lease: lease.clone(), outcome, usage: Vec::new(), answered_ms: None }
}

pub(super) fn extension(lease: &PassLease, head: Option<PassHead>) -> PassExtension {
    PassExtension { lease: lease.clone(), head }
}

/// These, whose responses have not begun.
fn lasting(leases: &[PassLease]) -> Vec<PassExtension> {
    leases.iter().map(|lease| extension(lease, None)).collect()
}

/// Asks for this many at once: the places that were given, and why the others were refused.
pub(crate) async fn ask(
    act: &Act,
    policy: &CompiledPolicy,
    now_ms: u64,
    asked: &AdmitRequest,
    number: usize,
) -> (Vec<PassLease>, Vec<Reason>) {
    let (mut leases, mut refused) = (Vec::new(), Vec::new());
    let all = (0..number).map(|_| AdmitRequest { task_id: TaskId::generate(), ..asked.clone() });
    for batch in all.collect::<Vec<_>>().chunks(32) {
        for decision in act.store.at(now_ms).admit(policy, batch).await.expect("decisions") {
            match decision.verdict {
                Verdict::Passed { lease } => leases.extend(lease),
                Verdict::Refused(refusal) => refused.push(refusal.reason),
                other => panic!("{other:?}"),
            }
        }
    }
    (leases, refused)
}

/// What is spent and held of the budget.
pub(crate) async fn account(act: &Act, policy: &CompiledPolicy, now_ms: u64) -> (u64, u64) {
    let decisions = act.store.at(now_ms).peek(policy, &[request("paid", "s")]).await.expect("a decision");
    (decisions[0].budgets[0].spent, decisions[0].budgets[0].held)
}

/// How many lapsed passes a call takes back.
async fn taken_back(store: &ScopeStore, policy: &CompiledPolicy) -> usize {
    store.lapse(policy, 0).await.expect("an answer").taken_back
}

#[tokio::test]
async fn a_pool_gives_each_user_type_its_share_whether_or_not_a_processor_lives() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "reports", 20);
    let policy = compiled(&policy);
    for (user_type, given, reason) in [
        ("anonymous", 12, Reason::PressureThreshold),
        ("registered", 4, Reason::PressureThreshold),
        ("paid", 2, Reason::PressureThreshold),
        ("privileged", 1, Reason::HardLimit),
    ] {
        let (leases, refused) = ask(&act, &policy, START_MS, &pass("reports", user_type, LEASE_MS), 25).await;
        assert_eq!((leases.len(), refused), (given, vec![reason; 25 - given]), "{user_type}");
        assert!(leases.iter().all(|lease| lease.pooled), "{leases:?}");
    }
    let view = act.store.at(START_MS).queues(&policy).await.expect("an answer");
    assert_eq!((view.pools["reports"].in_flight, view.pools["reports"].capacity, view.passes), (19, 20, 0));
    // Without a pool of its own, a pass counts against what the processors stand for: here nothing.
    let (_, refused) = ask(&act, &policy, START_MS, &pass("guarded", "paid", LEASE_MS), 2).await;
    assert_eq!(refused, [Reason::NoLiveProcessors; 2]);
    let event = act.store.decisions(1_000).await.expect("decisions");
    let asked = |pooled| Some(PassAsked { place: true, pooled, throttled: true });
    assert_eq!((event[0].pass, event[0].kind.as_str()), (asked(false), "guarded"));
    assert_eq!((event[2].pass, event[2].kind.as_str()), (asked(true), "reports"));
    assert_eq!((event[2].depth, event[2].capacity), (19, 20));
}

#[tokio::test]
async fn passes_and_tasks_share_the_depth_of_the_scope() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), compiled(&roomy()));
    // Of 10 slots the capacity is 28: registered are refused at 22.
    act.beat(&policy, START_MS, 10).await;
    let (leases, _) = ask(&act, &policy, START_MS, &pass("guarded", "registered", LEASE_MS), 15).await;
    assert_eq!(leases.len(), 15);
    let tasks: Vec<AdmitRequest> = (0..10).map(|_| request("registered", "s")).collect();
    let decisions = act.store.at(START_MS).admit(&policy, &tasks).await.expect("decisions");
    let admitted = decisions.iter().filter(|decision| matches!(decision.verdict, Verdict::Admitted { .. })).count();
    assert_eq!((admitted, decisions[9].depth), (7, 22));
    let waits =
        |verdict: &Verdict| matches!(verdict, Verdict::Admitted { estimated_wait_ms, .. } if *estimated_wait_ms > 0);
    assert!(!decisions.iter().any(|decision| waits(&decision.verdict)), "a pass is in nobody's way to a slot");
    let (_, refused) = ask(&act, &policy, START_MS, &pass("guarded", "registered", LEASE_MS), 1).await;
    assert_eq!(refused, [Reason::PressureThreshold]);
    let ended = act.store.at(START_MS + 1).finish(&policy, &[end(&leases[0], PassOutcome::Failed)]).await;
    assert_eq!(ended, Ok(vec![PassEnded::Now]));
    assert_eq!(ask(&act, &policy, START_MS + 1, &pass("guarded", "registered", LEASE_MS), 2).await.0.len(), 1);
}

#[tokio::test]
async fn a_pass_ends_once_and_not_at_all_after_it_has_lapsed() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "reports", 10);
    budget(&mut policy, 1_000);
    let policy = compiled(&policy);
    let (leases, _) = ask(&act, &policy, START_MS, &pass("reports", "paid", LEASE_MS), 3).await;
    assert_eq!(account(&act, &policy, START_MS).await, (0, 30));

    let used = PassEnd { usage: vec![("tokens".to_owned(), 25)], ..end(&leases[0], PassOutcome::Failed) };
    let ended = act.store.at(START_MS + 5).finish(&policy, &[used.clone(), used.clone()]).await;
    assert_eq!(ended, Ok(vec![PassEnded::Now, PassEnded::Before]), "twice in a batch");
    assert_eq!(act.store.at(START_MS + 5).finish(&policy, &[used]).await, Ok(vec![PassEnded::Before]), "and again");
    assert_eq!(account(&act, &policy, START_MS + 5).await, (25, 20));

    let later = act.store.at(START_MS + LEASE_MS - 1);
    assert_eq!(later.extend(&policy, &lasting(&leases[..2])).await, Ok(vec![false, true]));
    let lapsed = act.store.at(START_MS + LEASE_MS);
    assert_eq!(lapsed.extend(&policy, &lasting(&leases[2..])).await, Ok(vec![false]));
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    assert_eq!(lapsed.finish(&policy, &[end(&leases[2], PassOutcome::Succeeded)]).await, Ok(vec![PassEnded::Before]));
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before);
    assert_eq!(lapsed.queues(&policy).await.expect("an answer").pools["reports"].in_flight, 1);
    assert_eq!([taken_back(&lapsed, &policy).await, taken_back(&lapsed, &policy).await], [1, 0]);
    assert_eq!(account(&act, &policy, START_MS + LEASE_MS).await, (25, 10), "what lapsed is released");
    assert_eq!(lapsed.pass(&leases[2].pass_id).await, Ok(None));
    let found = lapsed.pass(&leases[1].pass_id).await.expect("an answer").expect("a pass");
    assert_eq!((found.lease, found.principal.as_str(), found.started_ms), (leases[1].clone(), "s", START_MS));
}

#[tokio::test]
async fn exactly_as_many_passes_as_there_are_probes_go_through_and_each_gives_its_place_back() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "reports", 1_000);
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.open_seconds) = (2, 2, OPEN_MS / 1000);
    let (policy, asked) = (compiled(&policy), pass("reports", "paid", LEASE_MS));
    let (leases, _) = ask(&act, &policy, START_MS, &asked, 3).await;
    let failures: Vec<PassEnd> = leases[..2].iter().map(|lease| end(lease, PassOutcome::Failed)).collect();
    act.store.at(START_MS).finish(&policy, &failures).await.expect("an answer");
    let (leases, refused) = ask(&act, &policy, START_MS + OPEN_MS - 1, &asked, 3).await;
    assert_eq!((leases.len(), refused), (0, vec![Reason::CircuitOpen; 3]), "open to the last millisecond");

    let now_ms = START_MS + OPEN_MS;
    let (_, refused) = ask(&act, &policy, now_ms, &pass("reports", "paid", 0), 2).await;
    assert_eq!(refused, [Reason::CircuitOpen; 2], "nobody would tell how such a probe went");
    let (probes, _) = ask(&act, &policy, now_ms, &asked, 5).await;
    assert_eq!(probes.len(), 2);
    act.store.at(now_ms).finish(&policy, &[end(&probes[0], PassOutcome::Abandoned)]).await.expect("an answer");
    assert_eq!(ask(&act, &policy, now_ms, &asked, 5).await.0.len(), 1, "one for the abandoned one");
    let lapsed_ms = now_ms + LEASE_MS;
    assert_eq!(ask(&act, &policy, lapsed_ms, &asked, 5).await.0.len(), 0, "nobody has taken them back yet");
    assert_eq!(taken_back(&act.store.at(lapsed_ms), &policy).await, 3, "two probes, and one that was none");
    let (probes, _) = ask(&act, &policy, lapsed_ms, &asked, 5).await;
    assert_eq!(probes.len(), 2);
    let slow = PassEnd { answered_ms: Some(60_000), ..end(&probes[0], PassOutcome::Succeeded) };
    let passed = probes.iter().map(|probe| end(probe, PassOutcome::Succeeded)).collect::<Vec<_>>();
    act.store.at(lapsed_ms).finish(&policy, &[slow, passed[1].clone()]).await.expect("an answer");
    let view = act.store.at(lapsed_ms).breakers(&policy).await.expect("an answer").remove(0);
    assert_eq!((view.name.as_str(), view.state.as_str()), ("reports", "closed"));
    assert_eq!(ask(&act, &policy, lapsed_ms, &asked, 5).await.0.len(), 5);
}

#[tokio::test]
async fn a_probe_is_judged_once_and_does_not_wait_for_the_end_of_a_long_exchange() {
    let stage = Stage::set().await;
    let mut policy = roomy();
    pool(&mut policy, "reports", 1_000);
    let breaker = &mut policy.circuit_breakers.tasks;
    (breaker.minimum_calls, breaker.half_open_probes, breaker.open_seconds) = (2, 2, OPEN_MS / 1000);
    let slow_ms = breaker.slow_call_ms;
    let (policy, asked) = (compiled(&policy), pass("reports", "paid", LEASE_MS));
    let head = |answered_ms, failed| Some(PassHead { answered_ms, failed });
    let now_ms = START_MS + OPEN_MS;
    let outcomes = [PassOutcome::Succeeded, PassOutcome::Failed, PassOutcome::Abandoned];
    for (first, state) in [
        (head(1, false), "half_open"),
        (head(1, true), "open"),
        (head(slow_ms + 1, false), "open"),
        (None, "half_open"),
    ] {
        for outcome in outcomes {
            let act = stage.act();
            let (early, _) = ask(&act, &policy, START_MS, &asked, 2).await;
            let told = early.iter().map(|lease| extension(lease, head(1, true))).collect::<Vec<_>>();
            act.store.at(START_MS).extend(&policy, &told).await.expect("an answer");
            assert!(act.store.at(START_MS).breakers(&policy).await.expect("an answer").is_empty(), "none is a probe");
            let failures = early.iter().map(|lease| end(lease, PassOutcome::Failed)).collect::<Vec<_>>();
            act.store.at(START_MS).finish(&policy, &failures).await.expect("an answer");

            let (probes, _) = ask(&act, &policy, now_ms, &asked, 5).await;
            assert_eq!(probes.len(), 2);
            let store = act.store.at(now_ms);
            let one = extension(&probes[0], first);
            assert_eq!(store.extend(&policy, &[one.clone(), one.clone()]).await, Ok(vec![true; 2]));
            assert_eq!(act.store.at(now_ms + 1).extend(&policy, &[one]).await, Ok(vec![true]));
            let view = store.breakers(&policy).await.expect("an answer").remove(0);
            assert_eq!(view.state, state, "{first:?}");
            if state == "open" {
                assert_eq!(view.retry_after_ms, OPEN_MS, "{first:?}: since the first time it was told");
            }
            if first != head(1, false) {
                continue;
            }
            // Its end neither gives the probe back nor counts as the other one.
            assert_eq!(store.finish(&policy, &[end(&probes[0], outcome)]).await, Ok(vec![PassEnded::Now]));
            let view = store.breakers(&policy).await.expect("an answer").remove(0);
            assert_eq!((view.state.as_str(), view.probes_left), ("half_open", Some(0)), "{outcome:?}");
            store.extend(&policy, &[extension(&probes[1], first)]).await.expect("an answer");
            assert_eq!(store.finish(&policy, &[end(&probes[1], outcome)]).await, Ok(vec![PassEnded::Now]));
            let view = store.breakers(&policy).await.expect("an answer").remove(0);
            assert_eq!((view.state.as_str(), view.calls, view.failures), ("closed", 0, 0), "{outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_decision_without_a_place_spends_at_once_and_holds_nothing() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "reports", 2);
    budget(&mut policy, 45);
    let policy = compiled(&policy);
    let decide = pass("reports", "privileged", 0);
    let (leases, refused) = ask(&act, &policy, START_MS, &decide, 5).await;
    assert_eq!((leases.len(), refused), (0, vec![Reason::BudgetExhausted]), "four of ten, whatever the places");
    assert_eq!(account(&act, &policy, START_MS).await, (40, 0));
    let keys = act.probe.keys(&act.prefix).await.expect("keys");
    assert!(!keys.iter().any(|key| key.contains("pass") || key.contains("pool")), "{keys:?}");
    let event = act.store.decisions(2).await.expect("decisions").remove(1);
    let asked = Some(PassAsked { place: false, pooled: true, throttled: true });
    assert_eq!((event.outcome.as_str(), event.pass, event.pass_id, event.task_id), ("admitted", asked, None, None));
    // It looks at pressure all the same.
    let free = AdmitRequest { estimates: vec![("tokens".to_owned(), 0)], ..decide };
    let place = AdmitRequest { pass: Some(PassTerms { lease_ms: LEASE_MS, throttled: true, hits: 1 }), ..free.clone() };
    assert_eq!(ask(&act, &policy, START_MS, &place, 1).await.0.len(), 1);
    assert_eq!(ask(&act, &policy, START_MS, &free, 1).await.1, [Reason::HardLimit]);
}

#[tokio::test]
async fn an_unthrottled_pass_meets_no_rate_limit_and_uses_none() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "hooks", 1_000);
    limit(&mut policy, "paid", 3, 60, 100);
    named_limit(&mut policy, "all", Subject::Tenant, "requests", 3, 60);
    let policy = compiled(&policy);
    act.beat(&policy, START_MS, 10).await;
    let free = AdmitRequest {
        pass: Some(PassTerms { lease_ms: LEASE_MS, throttled: false, hits: 1 }),
        ..pass("hooks", "paid", LEASE_MS)
    };
    assert_eq!(ask(&act, &policy, START_MS, &free, 40).await.0.len(), 40);
    let (leases, refused) = ask(&act, &policy, START_MS, &pass("hooks", "paid", LEASE_MS), 4).await;
    assert_eq!((leases.len(), refused), (3, vec![Reason::BurstLimit]));
    let decisions = act.store.at(START_MS).admit(&policy, &[free]).await.expect("a decision");
    let remaining: Vec<u64> = decisions[0].limits.iter().map(|window| window.remaining).collect();
    assert_eq!(remaining, [0, 97], "what is left of the session's windows, and no named limit");
}

#[tokio::test]
async fn a_pool_that_the_policy_no_longer_has_still_gives_its_places_back() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "reports", 10);
    budget(&mut policy, 1_000);
    let (leases, _) = ask(&act, &compiled(&policy), START_MS, &pass("reports", "paid", LEASE_MS), 3).await;
    policy.route_classes.clear();
    let policy = compiled(&policy);
    act.beat(&policy, START_MS, 10).await;
    let store = act.store.at(START_MS + 1);
    assert_eq!(store.extend(&policy, &lasting(&leases[..2])).await, Ok(vec![true; 2]));
    assert_eq!(store.finish(&policy, &[end(&leases[0], PassOutcome::Succeeded)]).await, Ok(vec![PassEnded::Now]));
    assert_eq!(taken_back(&act.store.at(START_MS + LEASE_MS + 1), &policy).await, 2);
    assert_eq!(account(&act, &policy, START_MS + LEASE_MS + 1).await, (10, 0));
    let keys = act.probe.keys(&act.prefix).await.expect("keys");
    let left = |key: &&String| key.ends_with(":pass") || key.contains(":pool:") || key.contains("pass-record");
    assert_eq!(keys.iter().find(left), None, "{keys:?}");
}

#[tokio::test]
async fn a_mass_of_lapsed_passes_is_taken_back_in_pieces_and_one_without_a_record_too() {
    let stage = Stage::set().await;
    let (act, mut policy) = (stage.act(), roomy());
    pool(&mut policy, "reports", 1_000);
    budget(&mut policy, 100_000);
    let policy = compiled(&policy);
    let (leases, _) = ask(&act, &policy, START_MS, &pass("reports", "paid", LEASE_MS), 150).await;
    assert_eq!(leases.len(), 150);
    let record = act.key("pass-record");
    act.probe.command("HSET", [record.as_str(), leases[3].pass_id.as_str(), "?"]).await.expect("an answer");
    act.probe.command("HDEL", [record.as_str(), leases[4].pass_id.as_str()]).await.expect("an answer");
    let store = act.store.at(START_MS + LEASE_MS);
    for expected in [64, 64, 22, 0] {
        assert_eq!(taken_back(&store, &policy).await, expected);
    }
    // What nobody can read says of no budget what it held; that is released with the period.
    assert_eq!(account(&act, &policy, START_MS + LEASE_MS).await, (0, 20));
    assert_eq!(act.probe.keys(&act.key("pass")).await.expect("keys"), Vec::<String>::new());
}
