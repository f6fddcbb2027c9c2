//! Passes whose records are gone or damaged.
//!
//! Responsible for their ending all the same, with what is known of them. Must never have one of them hold up another.

use portcullis_lua::{
    CompiledPolicy, Decision, Lapsed, PassEnd, PassEnded, PassLease, PassOutcome, PolicyStamp, Verdict,
};

use super::pass::{budget, end, pass, pool};
use super::stage::{Act, START_MS, Stage, request, roomy};

const LEASE_MS: u64 = 1_000;

/// A class with a pool of its own, and a budget.
fn policy() -> CompiledPolicy {
    let mut policy = roomy();
    pool(&mut policy, "reports", 100);
    budget(&mut policy, 100_000);
    CompiledPolicy::new(&policy, PolicyStamp::NONE)
}

async fn taken(act: &Act, policy: &CompiledPolicy, number: usize) -> Vec<PassLease> {
    let asked: Vec<_> = (0..number).map(|_| pass("reports", "paid", LEASE_MS)).collect();
    let decisions = act.store.at(START_MS).admit(policy, &asked).await.expect("decisions");
    let leases = decisions.into_iter().map(|decision| match decision.verdict {
        Verdict::Passed { lease } => lease.expect("a place"),
        other => panic!("{other:?}"),
    });
    leases.collect()
}

/// Damages the records of the first of these, each in its own way; how many they are.
async fn damage(act: &Act, leases: &[PassLease]) -> usize {
    let record = act.key("pass-record");
    let head = "0123456789abcdef\u{1}";
    let damaged = [String::new(), "?".to_owned(), head.to_owned(), format!("{head}{{}}"), format!("{head}\u{0}{{")];
    for (lease, bytes) in leases.iter().zip(&damaged) {
        let arguments = [record.as_str(), lease.pass_id.as_str(), bytes.as_str()];
        act.probe.command("HSET", arguments).await.expect("an answer");
    }
    let gone = [record.as_str(), leases[damaged.len()].pass_id.as_str()];
    act.probe.command("HDEL", gone).await.expect("an answer");
    damaged.len() + 1
}

/// Keys in which something of a pass is left.
async fn left(act: &Act) -> Vec<String> {
    let mut keys = act.probe.keys(&act.prefix).await.expect("keys");
    keys.retain(|key| key.ends_with(":pass") || key.contains("pass-record") || key.ends_with(":pool:reports"));
    keys
}

/// Spent and held of the budget.
async fn account(act: &Act, policy: &CompiledPolicy, now_ms: u64) -> (u64, u64) {
    let decisions = act.store.at(now_ms).peek(policy, &[request("paid", "s")]).await.expect("a decision");
    (decisions[0].budgets[0].spent, decisions[0].budgets[0].held)
}

#[tokio::test]
async fn a_holder_ends_one_like_any_other() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    let leases = taken(&act, &policy, 8).await;
    let damaged = damage(&act, &leases).await;
    for (number, lease) in leases.iter().enumerate() {
        let found = act.store.pass(&lease.pass_id).await.expect("an answer");
        assert_eq!(found.is_some(), number >= damaged, "what cannot be read is nobody's");
    }
    assert!(!left(&act).await.is_empty(), "the names of the keys are those that are looked for");
    let used = |lease| PassEnd { usage: vec![("tokens".to_owned(), 3)], ..end(lease, PassOutcome::Succeeded) };
    let ends: Vec<PassEnd> = leases.iter().map(used).collect();
    let store = act.store.at(START_MS + 1);
    assert_eq!(store.finish(&policy, &ends).await, Ok(vec![PassEnded::Now; 8]));
    assert_eq!(store.finish(&policy, &ends).await, Ok(vec![PassEnded::Before; 8]), "once");
    assert_eq!(account(&act, &policy, START_MS + 1).await, (24, 0));
    assert_eq!(left(&act).await, Vec::<String>::new());
}

#[tokio::test]
async fn one_whose_breaker_is_damaged_keeps_no_other_from_ending_or_being_taken_back() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1000).await;
    let decisions = act.store.at(START_MS).admit(&policy, &[pass("other", "paid", LEASE_MS)]).await.expect("decisions");
    let [Decision { verdict: Verdict::Passed { lease: Some(stuck) }, .. }] = &decisions[..] else {
        panic!("{decisions:?}")
    };
    let [early, late]: [PassLease; 2] = taken(&act, &policy, 2).await.try_into().expect("two");
    act.probe.command("SADD", [&act.key("breaker:other"), "in the way"]).await.expect("damaged");
    let ends = [&early, stuck].map(|lease| end(lease, PassOutcome::Succeeded));
    let answers = act.store.at(START_MS).finish(&policy, &ends).await;
    assert_eq!(answers, Ok(vec![PassEnded::Now, PassEnded::Refused]));
    let store = act.store.at(START_MS + LEASE_MS);
    assert_eq!(store.lapse(&policy, 0).await, Ok(Lapsed { taken_back: 1, refused: 1, more: false }));
    assert_eq!(
        (store.pass(&late.pass_id).await, store.pass(&stuck.pass_id).await.is_ok_and(|found| found.is_some())),
        (Ok(None), true)
    );
    act.probe.command("DEL", [&act.key("breaker:other")]).await.expect("mended");
    assert_eq!(store.lapse(&policy, 0).await, Ok(Lapsed { taken_back: 1, refused: 0, more: false }));
}

#[tokio::test]
async fn one_that_nobody_ends_is_taken_back_and_holds_up_nobody() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    let leases = taken(&act, &policy, 8).await;
    let damaged = damage(&act, &leases).await;
    let store = act.store.at(START_MS + LEASE_MS);
    let whole = Lapsed { taken_back: 8, refused: 0, more: false };
    assert_eq!(store.lapse(&policy, 0).await, Ok(whole));
    assert_eq!(store.lapse(&policy, 0).await, Ok(Lapsed::default()));
    let held = 10 * damaged as u64;
    assert_eq!(account(&act, &policy, START_MS + LEASE_MS).await, (0, held), "what it held stood in its record");
    // Which pool it was in stood there too: what is left in that one has lapsed, and does not count.
    let kept = left(&act).await;
    assert!(kept.iter().all(|key| key.ends_with(":pool:reports")), "{kept:?}");
    let view = store.queues(&policy).await.expect("an answer");
    assert_eq!(view.pools["reports"].in_flight, 0);
}
