//! Named limits: whoever shares a subject shares its window, whatever is counted.
//!
//! Responsible for the definition, under a load far above every limit. Must never take the model's word alone: at the
//! end it is counted what was admitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_config::policy::Subject;
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_loadtest::model::{Model, Ticks, most_in_any_window};
use portcullis_lua::{AdmitRequest, CompiledPolicy, Decision, PolicyStamp, Reason, Refusal, Verdict};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::stage::{Act, START_MS, Stage, cases, named_limit, request, roomy, user_type};
use super::ticks::ticks_of;

/// What each window was given, by limit and subject: when, and how many units.
type Given = BTreeMap<(&'static str, String), Vec<(u64, u64)>>;

/// Small and to the millisecond, long, and of many units; one of them for a single kind.
fn policy() -> Policy {
    let mut policy = roomy();
    named_limit(&mut policy, "address", Subject::ClientAddress, "requests", 30, 1);
    named_limit(&mut policy, "agent", Subject::Agent, "tokens", 20_000, 600);
    named_limit(&mut policy, "all", Subject::Tenant, "requests", 240, 60);
    named_limit(&mut policy, "principal", Subject::Principal, "tokens", 100_000, 60);
    policy.rate_limits.named.get_mut("agent").expect("one of them").kinds = Some(vec!["k1".to_owned()]);
    policy
}

/// One of a few principals, at one of a few addresses, perhaps an agent.
fn draw(random: &mut StdRng) -> AdmitRequest {
    let tokens = random.random_bool(0.9).then(|| random.random_range(0..2_000) * random.random_range(0..8_u64));
    AdmitRequest {
        principal: format!("p{}", random.random_range(0..4)),
        client_address: random.random_bool(0.9).then(|| format!("a{}", random.random_range(0..3))),
        actor: random.random_bool(0.4).then(|| format!("g{}", random.random_range(0..2))),
        kind: format!("k{}", random.random_range(0..2)),
        cost: random.random_range(1..4),
        estimates: tokens.map(|tokens| ("tokens".to_owned(), tokens)).into_iter().collect(),
        ..request("paid", &format!("s{}", random.random_range(0..20)))
    }
}

/// Notes what an admitted request was given, by the meaning of each limit.
fn note(given: &mut Given, now_ms: u64, request: &AdmitRequest) {
    let tokens = request.estimates.first().map_or(1, |(_, tokens)| *tokens);
    let cost = u64::from(request.cost);
    let mut note = |name, subject: &str, units| {
        given.entry((name, subject.to_owned())).or_default().push((now_ms, units));
    };
    note("all", "", cost);
    note("principal", &request.principal, tokens);
    if let Some(address) = &request.client_address {
        note("address", address, cost);
    }
    if let Some(agent) = request.actor.as_ref().filter(|_| request.kind == "k1") {
        note("agent", agent, tokens);
    }
}

/// Plays one load to its end; the names of the limits that refused.
async fn play(act: &Act, policy: &Policy, ticks: &Ticks, seed: u64) -> Vec<String> {
    let (compiled, mut random) = (CompiledPolicy::new(policy, PolicyStamp::NONE), StdRng::seed_from_u64(seed));
    let mut model = Model::new(&Arc::new(policy.clone()), ticks.clone());
    act.beat(&compiled, START_MS, u32::MAX).await;
    model.heartbeat(START_MS, &stand_in_beat("stand-in".to_owned(), u32::MAX));
    let (mut now_ms, mut given, mut refused) = (START_MS, Given::new(), Vec::new());
    for _ in 0..60 {
        now_ms += *[1, 7, 400, 1_000, 9_000, 61_000].choose(&mut random).expect("six");
        let requests: Vec<AdmitRequest> = (0..random.random_range(1..33)).map(|_| draw(&mut random)).collect();
        let decisions = act.store.at(now_ms).admit(&compiled, &requests).await.expect("decisions");
        for (asked, decision) in requests.iter().zip(decisions) {
            match &decision.verdict {
                Verdict::Refused(refusal) => refused.extend(refusal.name.clone()),
                _ => note(&mut given, now_ms, asked),
            }
            assert_eq!(decision, model.admit(now_ms, asked), "seed {seed}: {asked:?}");
        }
    }
    for ((name, subject), admitted) in given {
        let limit = &policy.rate_limits.named[name];
        let most = most_in_any_window(&admitted, limit.window_seconds * 1000);
        assert!(most <= limit.limit, "seed {seed}: {most} in a window of {name} {subject}");
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_of_any_subject_ever_holds_more_than_its_limit() {
    let (stage, policy) = (Stage::set().await, policy());
    let ticks = ticks_of(&stage, &CompiledPolicy::new(&policy, PolicyStamp::NONE), &["paid"]).await;
    let (first_seed, mut refused) = (rand::random::<u64>() >> 1, BTreeMap::new());
    let number = cases(40) as u64;
    for case in 0..number {
        let act = stage.act();
        for name in play(&act, &policy, &ticks, first_seed + case).await {
            *refused.entry(name).or_insert(0) += 1;
        }
        act.strike().await;
    }
    assert!(
        refused.len() == 4 && refused.values().all(|count| *count >= number),
        "a load that hardly reaches the limits: {refused:?}"
    );
}

async fn decide(act: &Act, policy: &Policy, request: AdmitRequest) -> Decision {
    let policy = CompiledPolicy::new(policy, PolicyStamp::NONE);
    act.store.at(START_MS).admit(&policy, &[request]).await.expect("a decision").remove(0)
}

fn remaining(decision: &Decision) -> Vec<(&str, u64)> {
    decision.limits.iter().map(|limit| (limit.name.as_str(), limit.remaining)).collect()
}

#[tokio::test]
async fn a_limit_applies_to_those_it_names_and_to_nobody_without_its_subject() {
    let (stage, mut policy) = (Stage::set().await, policy());
    policy.rate_limits.named.get_mut("address").expect("one").user_types = Some(vec![user_type("paid")]);
    let act = stage.act();
    act.beat(&CompiledPolicy::new(&policy, PolicyStamp::NONE), START_MS, 1_000).await;
    let agent = AdmitRequest {
        actor: Some("g".to_owned()),
        client_address: Some("a".to_owned()),
        kind: "k1".to_owned(),
        cost: 3,
        ..request("paid", "s")
    };
    let all = [("burst", 999_997), ("address", 27), ("agent", 19_999), ("all", 237), ("principal", 99_999)];
    assert_eq!(remaining(&decide(&act, &policy, agent.clone()).await), all);
    let other_kind = AdmitRequest { kind: "k0".to_owned(), cost: 1, ..agent.clone() };
    let others = [("burst", 999_996), ("address", 26), ("all", 236), ("principal", 99_998)];
    assert_eq!(remaining(&decide(&act, &policy, other_kind).await), others);
    let other_type = AdmitRequest { user_type: user_type("registered"), session_id: "r".to_owned(), ..agent.clone() };
    let others = [("burst", 999_997), ("agent", 19_998), ("all", 233), ("principal", 99_997)];
    assert_eq!(remaining(&decide(&act, &policy, other_type).await), others);
    assert_eq!(
        remaining(&decide(&act, &policy, request("paid", "t")).await)[1..],
        [("all", 232), ("principal", 99_999)]
    );
    let compiled = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    let names = |name: &str| compiled.limits_of(&user_type(name)).into_iter().map(|limit| limit.name);
    assert!(names("paid").eq(["burst", "address", "agent", "all", "principal"]));
    assert!(names("registered").eq(["burst", "agent", "all", "principal"]), "those it never meets are left out");
}

#[tokio::test]
async fn who_asks_for_more_than_a_limit_ever_holds_is_not_told_to_wait() {
    let (stage, mut policy) = (Stage::set().await, policy());
    super::stage::limit(&mut policy, "anonymous", 10, 60, 20);
    let act = stage.act();
    act.beat(&CompiledPolicy::new(&policy, PolicyStamp::NONE), START_MS, 1_000).await;
    let refused = |reason, name: &str, retry_after_ms| {
        let name = Some(name.to_owned());
        Verdict::Refused(Refusal { reason, name, retry_after_ms, pressure_ms: 0, backlog_ms: 0, assumed: false })
    };
    let of_cost = |cost| AdmitRequest { cost, ..request("anonymous", "s") };
    assert_eq!(decide(&act, &policy, of_cost(11)).await.verdict, refused(Reason::BurstLimit, "burst", 0));
    assert!(matches!(decide(&act, &policy, of_cost(10)).await.verdict, Verdict::Admitted { .. }));
    assert_eq!(decide(&act, &policy, of_cost(1)).await.verdict, refused(Reason::BurstLimit, "burst", 60_000));
    assert_eq!(decide(&act, &policy, of_cost(21)).await.verdict, refused(Reason::BurstLimit, "burst", 0));
    let of_tokens = |tokens| AdmitRequest { estimates: vec![("tokens".to_owned(), tokens)], ..request("paid", "p") };
    assert!(matches!(decide(&act, &policy, of_tokens(5)).await.verdict, Verdict::Admitted { .. }));
    for tokens in [100_001, u64::MAX] {
        let decided = decide(&act, &policy, of_tokens(tokens)).await;
        assert_eq!(decided.verdict, refused(Reason::RateLimit, "principal", 0), "{tokens} tokens");
    }
    assert!(matches!(decide(&act, &policy, of_tokens(99_995)).await.verdict, Verdict::Admitted { .. }));
    let Verdict::Refused(refusal) = decide(&act, &policy, of_tokens(1)).await.verdict else { panic!("not refused") };
    assert!((60_000..=61_000).contains(&refusal.retry_after_ms), "at most a sixtieth late: {refusal:?}");
    policy.rate_limits.named.get_mut("principal").expect("one").limit = 90_000;
    let decided = decide(&act, &policy, of_tokens(0)).await;
    assert!(
        matches!(decided.verdict, Verdict::Admitted { .. }),
        "it asks for nothing of what is overdrawn: {decided:?}"
    );
}

#[tokio::test]
async fn a_window_lapses_by_itself_when_its_limit_is_removed() {
    let (stage, mut policy) = (Stage::set().await, policy());
    let act = stage.act();
    act.beat(&CompiledPolicy::new(&policy, PolicyStamp::NONE), START_MS, 1_000).await;
    decide(&act, &policy, AdmitRequest { client_address: Some("a".to_owned()), ..request("paid", "p") }).await;
    policy.rate_limits.named.clear();
    let decided = decide(&act, &policy, request("paid", "p")).await;
    assert_eq!(remaining(&decided), [("burst", 999_998)]);
    let mut left = Vec::new();
    for key in act.probe.keys(&act.prefix).await.expect("keys").iter().filter(|key| key.contains("limit:")) {
        let lasts = act.probe.command("PTTL", [key.as_str()]).await.expect("an answer");
        left.push((key.replace(&act.prefix, ""), lasts.as_i64().expect("a number")));
    }
    left.sort_unstable();
    let names: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["limit:p", "named-limit:address:a", "named-limit:all:", "named-limit:principal:p"]);
    let (short, long) = (left[1].1, [left[2].1, left[3].1]);
    // A quarter longer than their windows and two ticks.
    assert!((1..=1_300).contains(&short), "{left:?}");
    assert!(long.iter().all(|lasts_ms| (30_000..=77_500).contains(lasts_ms)), "{left:?}");
}

#[tokio::test]
async fn a_session_in_use_is_given_more_time_only_when_it_runs_short() {
    let (stage, policy) = (Stage::set().await, policy());
    let act = stage.act();
    let compiled = CompiledPolicy::new(&policy, PolicyStamp::NONE);
    act.beat(&compiled, START_MS, 1_000).await;
    let key = act.key("limit:p");
    let lasts_ms = async || act.probe.command("PTTL", [key.as_str()]).await.expect("an answer").as_i64().expect("ms");
    let admit = async |now_ms| {
        let decided = act.store.at(now_ms).admit(&compiled, &[request("paid", "p")]).await.expect("a decision");
        remaining(&decided[0])[0].1
    };
    assert_eq!(admit(START_MS).await, 999_999);
    // Stands for the time that passes between two admissions.
    act.probe.command("PEXPIRE", [key.as_str(), "70000"]).await.expect("an answer");
    assert_eq!(admit(START_MS + 5_000).await, 999_998);
    assert!(lasts_ms().await <= 70_000, "long enough for what it holds, and left as it was");
    assert_eq!(admit(START_MS + 20_000).await, 999_997);
    assert!(lasts_ms().await > 70_000, "it would have lapsed before what was just admitted leaves the window");
}
