//! Limits that a chain of delegations brings along: each hop has windows of its own, whoever comes through it.
//!
//! Responsible for the definition, under a load far above every limit. Must never take the model's word alone: at the
//! end it is counted what was admitted.

use std::collections::BTreeMap;
use std::sync::Arc;

use portcullis_config::policy::Subject;
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_loadtest::model::{Model, Ticks, most_in_any_window};
use portcullis_lua::{AdmitRequest, CompiledPolicy, Hop, MOST_HOPS, PolicyStamp, Provenance, StoreError, Verdict};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::stage::{Act, START_MS, Stage, cases, named_limit, request, roomy};
use super::ticks::ticks_of;

/// A hop of this number; what it allows follows from it, as it does from a token.
fn hop(number: u64) -> Hop {
    Hop {
        hash: format!("hop-{number}"),
        calls_per_min: (number != 1).then_some(3 + 9 * number),
        calls_per_hour: (number != 2).then_some(50 - 5 * number),
        ..Hop::default()
    }
}

/// By way of none, of one hop, or of several of which the first is everybody's.
fn draw(random: &mut StdRng) -> AdmitRequest {
    let numbers: &[u64] = [&[][..], &[0], &[0, 1], &[0, 2, 3], &[4]].choose(random).expect("five");
    let provenance = Provenance { hops: numbers.iter().copied().map(hop).collect(), ..Provenance::default() };
    let cost = random.random_range(1..4);
    AdmitRequest { cost, provenance, ..request("paid", &format!("s{}", random.random_range(0..3))) }
}

/// Plays one load to its end; the names of the limits that refused.
async fn play(act: &Act, ticks: &Ticks, seed: u64) -> Vec<String> {
    let mut policy = roomy();
    named_limit(&mut policy, "all", Subject::Tenant, "requests", 200, 60);
    let (compiled, mut random) = (CompiledPolicy::new(&policy, PolicyStamp::NONE), StdRng::seed_from_u64(seed));
    let mut model = Model::new(&Arc::new(policy), ticks.clone());
    act.beat(&compiled, START_MS, u32::MAX).await;
    model.heartbeat(START_MS, &stand_in_beat("stand-in".to_owned(), u32::MAX));
    let (mut now_ms, mut given, mut refused) = (START_MS, BTreeMap::<u64, Vec<_>>::new(), Vec::new());
    for _ in 0..40 {
        now_ms += *[1, 400, 9_000, 61_000, 1_900_000].choose(&mut random).expect("five");
        let requests: Vec<AdmitRequest> = (0..random.random_range(1..17)).map(|_| draw(&mut random)).collect();
        let decisions = act.store.at(now_ms).admit(&compiled, &requests).await.expect("decisions");
        for (asked, decision) in requests.iter().zip(decisions) {
            match &decision.verdict {
                Verdict::Refused(refusal) => refused.extend(refusal.name.clone()),
                _ => {
                    for number in (0..5).filter(|number| asked.provenance.hops.contains(&hop(*number))) {
                        given.entry(number).or_default().push((now_ms, u64::from(asked.cost)));
                    }
                }
            }
            assert_eq!(decision, model.admit(now_ms, asked), "seed {seed}: {asked:?}");
        }
    }
    for (number, admitted) in given {
        let hop = hop(number);
        for (limit, window_ms) in [(hop.calls_per_min, 60_000), (hop.calls_per_hour, 3_600_000)] {
            let most = most_in_any_window(&admitted, window_ms);
            assert!(limit.is_none_or(|limit| most <= limit), "seed {seed}: {most} in {window_ms} ms through {hop:?}");
        }
    }
    refused
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_through_a_hop_more_often_than_any_of_its_chain_allows() {
    let (stage, mut policy) = (Stage::set().await, roomy());
    named_limit(&mut policy, "all", Subject::Tenant, "requests", 200, 60);
    let ticks = ticks_of(&stage, &CompiledPolicy::new(&policy, PolicyStamp::NONE), &["paid"]).await;
    let (first_seed, mut refused) = (rand::random::<u64>() >> 1, BTreeMap::new());
    for case in 0..cases(40) as u64 {
        let act = stage.act();
        for name in play(&act, &ticks, first_seed + case).await {
            *refused.entry(name).or_insert(0_u32) += 1;
        }
        act.strike().await;
    }
    for name in ["chain:0:calls_per_min", "chain:0:calls_per_hour"] {
        assert!(refused.contains_key(name), "a load that hardly reaches the limits: {refused:?}");
    }
}

#[tokio::test]
async fn a_chain_is_bounded_and_what_one_of_its_hops_refuses_takes_nothing_from_the_others() {
    let (stage, policy) = (Stage::set().await, CompiledPolicy::new(&roomy(), PolicyStamp::NONE));
    let act = stage.act();
    act.beat(&policy, START_MS, 100).await;
    let through = |hops: Vec<Hop>, cost| AdmitRequest {
        cost,
        provenance: Provenance { hops: hops.into(), ..Provenance::default() },
        ..request("paid", "s")
    };
    let hops = |allowed: [u64; 2]| {
        let numbered = ["root", "leaf"].into_iter().zip(allowed);
        let hop =
            |(hash, most): (&str, u64)| Hop { hash: hash.to_owned(), calls_per_min: Some(most), ..Hop::default() };
        numbered.map(hop).collect::<Vec<_>>()
    };
    let store = act.store.at(START_MS);
    let batch = [through(hops([10, 2]), 2), through(hops([10, 2]), 1), through(hops([10, 2]), 3)];
    let decisions = store.admit(&policy, &batch).await.expect("decisions");
    assert!(matches!(decisions[0].verdict, Verdict::Admitted { .. }), "{decisions:?}");
    for (decision, helps) in decisions[1..].iter().zip([true, false]) {
        let Verdict::Refused(refusal) = &decision.verdict else { panic!("{decision:?}") };
        assert_eq!((refusal.reason.code(), refusal.name.as_deref()), ("rate_limit", Some("chain:1:calls_per_min")));
        assert_eq!(refusal.retry_after_ms > 0, helps, "{refusal:?}");
        let left: Vec<u64> = decision.limits.iter().rev().take(2).map(|limit| limit.remaining).collect();
        assert_eq!(left, [0, 8], "of the leaf and of the root");
    }
    let told = store.decisions(1).await.expect("decisions").remove(0);
    assert_eq!(told.name.as_deref(), Some("chain:1:calls_per_min"));
    assert_eq!(told.origin.hops, hops([10, 2]));
    let mut none = hops([10, 0]);
    none[1].hash = "nobody".to_owned();
    let decisions = store.admit(&policy, &[through(none.clone(), 1), through(hops([10, 2])[..1].to_vec(), 1)]).await;
    let decisions = decisions.expect("decisions");
    let Verdict::Refused(refusal) = &decisions[0].verdict else { panic!("{decisions:?}") };
    assert_eq!((refusal.name.as_deref(), refusal.retry_after_ms), (Some("chain:1:calls_per_min"), 0), "nobody, ever");
    assert!(matches!(decisions[1].verdict, Verdict::Admitted { .. }), "and nobody else is the worse: {decisions:?}");
    let endless = through(vec![Hop::default(); MOST_HOPS + 1], 1);
    assert!(matches!(store.admit(&policy, &[endless]).await, Err(StoreError::Protocol(_))));
}
