//! Passes of agents whose ends cannot be recorded, among those of everybody else.
//!
//! Responsible for one agent's pass holding up nobody: neither whoever ends several at once, nor whoever takes back
//! what has lapsed, however many of them there are. Must never let one of them end without its event.

use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Lapsed, PassEnd, PassEnded, PassLease, PassOutcome, PolicyStamp, ScopeStore,
};
use serde_json::json;

use crate::fixture::{cluster, start, until};
use crate::script::ended::through;
use crate::script::pass::{account, ask, budget, end, pass};
use crate::script::stage::{Act, START_MS, Stage, roomy};

const LEASE_MS: u64 = 1_000;

/// Tokens that a pass holds unless it says otherwise.
const HELD: u64 = 10;

fn policy() -> CompiledPolicy {
    let mut policy = roomy();
    budget(&mut policy, 1_000_000);
    CompiledPolicy::new(&policy, PolicyStamp::NONE)
}

fn own() -> AdmitRequest {
    pass("guarded", "paid", LEASE_MS)
}

fn agents() -> AdmitRequest {
    through(&["planner"], own())
}

async fn given(act: &Act, policy: &CompiledPolicy, now_ms: u64, asked: &AdmitRequest, number: usize) -> Vec<PassLease> {
    let (leases, refused) = ask(act, policy, now_ms, asked, number).await;
    assert_eq!((leases.len(), refused), (number, Vec::new()));
    leases
}

async fn blocked(act: &Act, key: &str) {
    act.probe.command("DEL", [&act.key(key)]).await.expect("deleted");
    act.probe.command("SADD", [&act.key(key), "in the way"]).await.expect("added");
}

async fn mended(act: &Act, key: &str) {
    act.probe.command("DEL", [&act.key(key)]).await.expect("deleted");
}

/// How often a script was called so far, on this server.
async fn calls(act: &Act) -> u64 {
    act.probe.command_costs().await.expect("what commands cost")["evalsha"].calls
}

#[tokio::test]
async fn whoever_ends_several_at_once_ends_all_but_those_of_agents() {
    const EACH: usize = 40;
    let stage = Stage::set().await;
    let policy = policy();
    for key in ["ended", "ended-head"] {
        let act = stage.act();
        act.beat(&policy, START_MS, 1000).await;
        let agents = given(&act, &policy, START_MS, &agents(), EACH).await;
        let own = given(&act, &policy, START_MS, &own(), EACH).await;
        let used = |lease| PassEnd { usage: vec![("tokens".to_owned(), 3)], ..end(lease, PassOutcome::Succeeded) };
        let ends: Vec<PassEnd> = agents.iter().zip(&own).flat_map(|(agents, own)| [used(agents), used(own)]).collect();
        let store = act.store.at(START_MS + 1);

        blocked(&act, key).await;
        for [of_agents, of_others] in [[PassEnded::Refused, PassEnded::Now], [PassEnded::Refused, PassEnded::Before]] {
            let before = calls(&act).await;
            let answers = store.finish(&policy, &ends).await.expect("an answer");
            assert_eq!(answers, [of_agents, of_others].repeat(EACH), "{key}");
            assert!(calls(&act).await - before < EACH as u64, "{key}: none alone");
        }
        let each = EACH as u64;
        assert_eq!(account(&act, &policy, START_MS + 1).await, (3 * each, HELD * each), "{key}");
        let fed = store.breakers(&policy).await.expect("breakers").remove(0);
        assert_eq!(fed.calls, each, "{key}");

        mended(&act, key).await;
        let answers = store.finish(&policy, &ends).await.expect("an answer");
        assert_eq!(answers, [PassEnded::Now, PassEnded::Before].repeat(EACH), "{key}");
        assert_eq!(account(&act, &policy, START_MS + 1).await, (2 * 3 * each, 0), "{key}");
        assert_eq!(act.store.ended(1000).await.expect("events").len(), EACH, "{key}");
    }
}

/// What a sweep over all that has lapsed finds, as a gateway makes it.
async fn swept(store: &ScopeStore, policy: &CompiledPolicy) -> Vec<Lapsed> {
    let (mut found, mut first) = (Vec::new(), 0);
    // As many as it can need.
    for _ in 0..3 {
        let lapsed = store.lapse(policy, first).await.expect("an answer");
        first += lapsed.refused;
        found.push(lapsed);
        if !lapsed.more {
            break;
        }
    }
    found
}

#[tokio::test]
async fn what_lapsed_behind_any_number_of_them_is_taken_back() {
    const STUCK: usize = 130;
    const BEHIND: usize = 5;
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1000).await;
    given(&act, &policy, START_MS, &agents(), STUCK).await;
    given(&act, &policy, START_MS + 1, &own(), BEHIND).await;
    let held = given(&act, &policy, START_MS + 2, &own(), 1).await;
    let store = act.store.at(START_MS + LEASE_MS + 1);

    blocked(&act, "ended").await;
    let refused = |refused, taken_back, more| Lapsed { taken_back, refused, more };
    let expected = [refused(64, 0, true), refused(64, 0, true), refused(2, BEHIND, false)];
    assert_eq!(swept(&store, &policy).await, expected);
    let left = HELD * (STUCK + 1) as u64;
    assert_eq!(account(&act, &policy, START_MS + LEASE_MS + 1).await, (0, left), "and what they held is free");

    mended(&act, "ended").await;
    let expected = [refused(0, 64, true), refused(0, 64, true), refused(0, 2, false)];
    assert_eq!(swept(&store, &policy).await, expected);
    assert_eq!(account(&act, &policy, START_MS + LEASE_MS + 1).await, (0, HELD));
    assert_eq!(act.store.ended(1000).await.expect("events").len(), STUCK);
    assert!(store.pass(&held[0].pass_id).await.expect("an answer").is_some(), "which nobody has let lapse");
}

#[tokio::test]
async fn gateways_take_back_what_lapsed_behind_them() {
    const STUCK: usize = 130;
    const BEHIND: usize = 5;
    let rules = json!({ "guarded_rest_patterns": ["^/guarded/"] });
    let mut cluster = start(cluster().gateways(2).policy(rules.clone())).await;
    cluster.stand_in(1000).await.expect("capacity");
    let (store, probe) = (cluster.store().await.expect("a store"), cluster.probe().await.expect("a connection"));
    let key = |name: &str| format!("{}:{name}", cluster.key_prefix());
    let policy = CompiledPolicy::new(&roomy(), PolicyStamp::NONE);
    probe.command("SADD", [&key("ended"), "in the way"]).await.expect("added");
    for (asked, number) in [(agents(), STUCK), (own(), BEHIND)] {
        for _ in 0..number {
            let asked = AdmitRequest { task_id: portcullis_lua::TaskId::generate(), ..asked.clone() };
            store.admit(&policy, &[asked]).await.expect("a decision");
        }
    }
    let left = async || {
        let left = probe.command("HLEN", [&key("pass-record")]).await.expect("a length");
        left.convert::<usize>().expect("a number")
    };
    until("all but the agents' are taken back", || async { (left().await == STUCK).then_some(()) }).await;
    probe.command("DEL", [&key("ended")]).await.expect("deleted");
    until("and then those", || async { (left().await == 0).then_some(()) }).await;
    assert_eq!(store.ended(1000).await.expect("events").len(), STUCK);
}
