//! Revocations: what dies with what, and what follows from it at admission and at claim.
//!
//! Responsible for the verdict on every member at every moment, against the rules, and for the number that tells of a
//! change. Must never look into the stored set but to damage it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use portcullis_lua::{
    AdmitRequest, Change, CompiledPolicy, Grounds, LiveRevocations, Member, PolicyStamp, REVOKED_MOST,
    REVOKED_MOST_OWN, Revocation, RevocationView, Revoked, StoreError, Topic, Verdict,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::time::timeout;

use super::stage::{Act, START_MS, Stage, cases, request, roomy};
use crate::fixture::PATIENCE;

const LASTS_MS: u64 = 3_600_000;
/// How long a task may wait and still hear of a revocation.
const WAITS_MS: u64 = 8 * 24 * 3_600_000;
const GROUNDS: Grounds<'_> = Grounds { by: "test", reason: "test", max_audit_events: 10_000 };

fn of(member: Member<'_>) -> Revocation {
    Revocation { member: member.to_string(), lasts_ms: LASTS_MS, spares_later: false }
}

fn done(revoked: Revoked) -> (u64, u64) {
    match revoked {
        Revoked::Done { number, changed } => (number, changed),
        Revoked::Full { revoked } => panic!("full with {revoked}"),
    }
}

async fn revoke(act: &Act, member: Member<'_>) -> (u64, u64) {
    done(act.store.revoke(&[of(member)], GROUNDS).await.expect("an answer"))
}

/// A request whose caller dies with these.
fn by(members: &[Member<'_>]) -> AdmitRequest {
    let mut asked = request("paid", "s");
    asked.provenance.members = members.iter().map(ToString::to_string).collect();
    asked
}

fn policy() -> CompiledPolicy {
    CompiledPolicy::new(&roomy(), PolicyStamp::NONE)
}

/// Until when a member kills all, and until when what was issued at a moment or before.
#[derive(Clone, Copy, Debug, Default)]
struct Rule {
    all_until: u64,
    older: (u64, u64),
}

impl Rule {
    /// Revokes it once more; whether that changes anything.
    fn revoke(&mut self, member: &str, now_ms: u64, lasts_ms: u64, spares_later: bool) -> bool {
        // Tasks wait longer than what they were submitted with. An agent may have something else by then.
        let until_ms = now_ms + if member.starts_with(['t', 'c']) && !spares_later { WAITS_MS } else { lasts_ms };
        if member.starts_with('c') || spares_later {
            let (from_ms, slack_ms) = if spares_later { (now_ms, 0) } else { (now_ms + lasts_ms, 60_000) };
            let (held_ms, spared_ms) = if self.older.0 > now_ms { self.older } else { (0, 0) };
            let more = held_ms + 60_000 < until_ms || spared_ms + slack_ms < from_ms;
            if more {
                self.older = (held_ms.max(until_ms), spared_ms.max(from_ms));
            }
            return more;
        }
        let held_ms = if self.all_until > now_ms { self.all_until } else { 0 };
        let more = held_ms + 60_000 < until_ms;
        if more {
            self.all_until = held_ms.max(until_ms);
        }
        more
    }
}

/// Plays one history; how often something changed.
async fn play(act: &Act, seed: u64) -> u64 {
    let (mut random, mut now_ms, mut last, mut changes) = (StdRng::seed_from_u64(seed), START_MS, 0, 0);
    let mut rules = BTreeMap::<String, Rule>::new();
    let members = [Member::Token("t1"), Member::Agent("a"), Member::Principal("ada"), Member::Session("s")];
    for step in 0..40 {
        now_ms += *[0, 1, 1_000, 61_000, 400_000].choose(&mut random).expect("five");
        now_ms += if random.random_bool(0.05) { WAITS_MS / 2 } else { 0 };
        let (store, lasts_ms) = (act.store.at(now_ms), random.random_range(1..600) * 1_000);
        let member = members.choose(&mut random).expect("four").to_string();
        let spares_later = !member.starts_with("t:") && random.random_bool(0.5);
        let expected = rules.entry(member.clone()).or_default().revoke(&member, now_ms, lasts_ms, spares_later);
        let revocation = Revocation { member, lasts_ms, spares_later };
        let (number, more_now) = done(store.revoke(&[revocation], GROUNDS).await.expect("an answer"));
        let has_changed = more_now == 1;
        assert_eq!((has_changed, number > last), (expected, expected), "seed {seed}, step {step}");
        changes += u64::from(has_changed);
        last = number;
        now_ms += *[0, 1, 100_000].choose(&mut random).expect("three");
        let view = read(&act.store.at(now_ms)).await;
        assert_eq!(view.number(), number, "seed {seed}, step {step}");
        for (member, rule) in &rules {
            for issued_ms in [0, rule.older.1, rule.older.1 + 1, now_ms] {
                let dead = now_ms < rule.all_until || (now_ms < rule.older.0 && issued_ms <= rule.older.1);
                let verdict = view.covers(&["x:y".to_owned(), member.clone()], issued_ms).is_some();
                assert_eq!(verdict, dead, "seed {seed}, step {step}: {member} of {issued_ms} at {now_ms}, {rule:?}");
            }
        }
    }
    changes
}

async fn read(store: &portcullis_lua::ScopeStore) -> RevocationView {
    RevocationView::of(store.revoked_set().await.expect("an answer"))
}

#[tokio::test]
async fn a_member_is_dead_exactly_as_long_as_somebody_revoked_it_for() {
    let stage = Stage::set().await;
    let (first, number, mut changes) = (rand::random::<u64>() >> 1, cases(60) as u64, 0);
    for seed in first..first + number {
        let act = stage.act();
        changes += play(&act, seed).await;
        act.strike().await;
    }
    assert!(changes >= 10 * number, "hardly anything changed: {changes}");
}

#[tokio::test]
async fn revoking_twice_is_revoking_once_and_says_the_same() {
    let stage = Stage::set().await;
    let act = stage.act();
    let (number, more_now) = revoke(&act, Member::Token("abc")).await;
    assert_eq!(more_now, 1);
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    assert_eq!(revoke(&act, Member::Token("abc")).await, (number, 0));
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before, "one entry, one event");
    assert_eq!(act.store.audit(10).await.expect("events").len(), 1);
}

#[tokio::test]
async fn who_knows_of_fewer_revocations_than_there_are_decides_nothing() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.store.heartbeat(&policy, &portcullis_loadtest::cluster::stand_in_beat("w".to_owned(), 9)).await.expect("ok");
    let live = LiveRevocations::new(act.store.clone());
    live.catch_up().await.expect("an answer");
    let (number, _) = revoke(&act, Member::Principal("eve")).await;
    let before = act.probe.dump(&act.prefix).await.expect("a dump");
    let asked = [by(&[Member::Principal("ada")])];
    let refused = act.store.knowing(live.load().number()).admit(&policy, &asked).await;
    assert_eq!(refused, Err(StoreError::StaleRevocations { held: 0, current: number }));
    assert_eq!(act.probe.dump(&act.prefix).await.expect("a dump"), before);
    let view = live.hear(number).await.expect("an answer");
    assert_eq!(view.covers(&by(&[Member::Principal("eve")]).provenance.members, 1), Some("p:eve"));
    let decisions = act.store.knowing(view.number()).admit(&policy, &asked).await.expect("decisions");
    assert!(matches!(decisions[0].verdict, Verdict::Admitted { .. }), "{decisions:?}");
    let claimed = act.store.claim(&policy, 1).await.expect("leases");
    assert_eq!((claimed.revocations, &claimed.leases[0].envelope.members[..]), (number, &["p:ada".to_owned()][..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_revocations_at_once_each_is_counted_and_every_reader_sees_one_whole_set() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await, stage.another_store().await];
    let act = stage.act();
    let over = AtomicBool::new(false);
    let reading = async {
        let mut read_sets = 0;
        while !over.load(Ordering::Relaxed) {
            let set = act.store.revocations().await.expect("a set");
            assert_eq!(set.number >> 20, set.members.len() as u64, "the number counts the members");
            read_sets += 1;
        }
        read_sets
    };
    let revoking = async {
        let all = (0..200).map(|number: usize| {
            let store = stores[number % 3].scope(act.store.scope());
            async move { done(store.revoke(&[of(Member::Agent(&number.to_string()))], GROUNDS).await.expect("done")).0 }
        });
        let mut numbers = join_all(all).await;
        over.store(true, Ordering::Relaxed);
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let (read_sets, numbers) = tokio::join!(reading, revoking);
    assert!(read_sets > 0);
    assert_eq!(numbers.iter().map(|number| number >> 20).collect::<Vec<_>>(), (1..=200).collect::<Vec<_>>());
    assert_eq!(act.store.audit(1000).await.expect("events").len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_admitted_once_a_revocation_has_answered() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    act.beat(&policy, START_MS, 1_000_000).await;
    let (answered, admitted_late) = (AtomicBool::new(false), AtomicBool::new(false));
    let gateways = [stage.another_store().await, stage.another_store().await];
    let gateway = |store: &portcullis_lua::Store| {
        let (store, policy) = (store.scope(act.store.scope()), &policy);
        let live = LiveRevocations::new(store.clone());
        let (answered, admitted_late) = (&answered, &admitted_late);
        async move {
            let (mut admitted, asked) = (0_u64, by(&[Member::Principal("ada")]));
            loop {
                let view = live.load();
                if view.covers(&asked.provenance.members, 0).is_some() {
                    return admitted;
                }
                let late = answered.load(Ordering::SeqCst);
                let one = AdmitRequest { task_id: portcullis_lua::TaskId::generate(), ..asked.clone() };
                match store.at(START_MS).knowing(view.number()).admit(policy, &[one]).await {
                    Ok(_) => {
                        admitted += 1;
                        admitted_late.fetch_or(late, Ordering::SeqCst);
                    }
                    Err(StoreError::StaleRevocations { current, .. }) => {
                        live.hear(current).await.expect("an answer");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    let revoking = async {
        // Until both have admitted somebody.
        while act.store.queues(&policy).await.expect("an answer").queued < 20 {}
        revoke(&act, Member::Principal("ada")).await;
        answered.store(true, Ordering::SeqCst);
        act.store.queues(&policy).await.expect("an answer").queued
    };
    let all = Box::pin(async { tokio::join!(gateway(&gateways[0]), gateway(&gateways[1]), revoking) });
    let (here, there, queued) = timeout(PATIENCE, all).await.expect("both gateways hear of it");
    assert!(!admitted_late.load(Ordering::SeqCst), "admitted after the revocation had answered");
    assert_eq!(here + there, queued, "what was admitted was in the queue when the revocation had answered");
}

#[tokio::test]
async fn a_set_that_is_full_takes_no_more_until_something_expires() {
    let stage = Stage::set().await;
    let act = stage.act();
    revoke(&act, Member::Token("first")).await;
    let fill = "for n = 1, tonumber(ARGV[1]) do
        redis.call('ZADD', KEYS[1], ARGV[2], 'c:' .. n)
        redis.call('ZADD', KEYS[2], n, 'c:' .. n)
      end";
    let (keys, now) = (["revoked", "revoked-order"].map(|key| act.key(key)), act.probe.time_ms().await.expect("now"));
    let later = (now + LASTS_MS).to_string();
    let fill = async |most: usize| {
        act.probe.command("EVAL", [fill, "2", &keys[0], &keys[1], &most.to_string(), &later]).await.expect("filled")
    };
    let give_up = async |name| act.store.give_up(&[of(Member::Token(name))], GROUNDS).await.expect("an answer");
    fill(REVOKED_MOST_OWN - 2).await;
    assert_eq!(done(give_up("own").await).1, 1);
    assert_eq!(give_up("more").await, Revoked::Full { revoked: REVOKED_MOST_OWN as u64 });
    assert_eq!(revoke(&act, Member::Token("second")).await.1, 1, "callers cannot keep operators from revoking");
    fill(REVOKED_MOST - 4).await;
    assert_eq!(revoke(&act, Member::Token("last")).await.1, 1);
    let before = act.probe.command("GET", [&act.key("scope")]).await.expect("the scope");
    let more = act.store.revoke(&[of(Member::Token("more"))], GROUNDS).await.expect("an answer");
    assert_eq!(more, Revoked::Full { revoked: REVOKED_MOST as u64 });
    assert_eq!(act.probe.command("GET", [&act.key("scope")]).await.expect("the scope"), before);
    assert_eq!(revoke(&act, Member::Token("first")).await.1, 0, "what is revoked is no more");
    // A gateway reads all of them, in pages, and each kills.
    let view = LiveRevocations::new(act.store.clone()).catch_up().await.expect("an answer");
    assert_eq!(view.len(), REVOKED_MOST);
    assert_eq!(view.covers(&["c:77777".to_owned()], u64::MAX), Some("c:77777"));

    let much_later = act.store.at(now + WAITS_MS);
    let more = much_later.revoke(&[of(Member::Token("more"))], GROUNDS).await.expect("an answer");
    assert_eq!(done(more).1, 1, "those that have expired make room");
}

#[tokio::test]
async fn a_loss_is_noticed_forgets_nothing_and_ends_when_it_is_acknowledged() {
    let stage = Stage::set().await;
    let act = stage.act();
    let live = LiveRevocations::new(act.store.clone());
    assert!(!live.load().is_fresh(Duration::from_secs(3600)), "nothing is known yet");
    assert!(!live.catch_up().await.expect("an answer").is_lost(), "nothing was there to be lost");
    revoke(&act, Member::Principal("ada")).await;
    let copy = act.probe.command("DUMP", [&act.key("revoked")]).await.expect("a copy");
    assert!(copy.is_bytes() || copy.is_string(), "{copy:?}");
    let view = live.catch_up().await.expect("an answer");
    assert!(view.is_fresh(Duration::from_secs(3600)) && !view.is_lost());
    let ada = ["p:ada".to_owned()];
    let check = |view: &RevocationView, lost: bool, dead: bool, when: &str| {
        assert_eq!((view.is_lost(), view.covers(&ada, 0).is_some()), (lost, dead), "{when}");
    };
    check(&view, false, true, "before");

    act.strike().await;
    check(&live.catch_up().await.expect("an answer"), true, true, "all is lost");
    revoke(&act, Member::Principal("bob")).await;
    check(&live.catch_up().await.expect("an answer"), true, true, "others are revoked meanwhile");
    let newcomer = LiveRevocations::new(act.store.clone());
    check(&newcomer.catch_up().await.expect("an answer"), false, false, "who came later has lost nothing");
    act.store.acknowledge_loss(GROUNDS).await.expect("an answer");
    check(&live.catch_up().await.expect("an answer"), false, false, "acknowledged");
    assert_eq!(live.load().covers(&["p:bob".to_owned()], 0), Some("p:bob"));
    check(&newcomer.catch_up().await.expect("an answer"), false, false, "of no concern to who lost nothing");

    // Only the newest is gone, and another was made since: the same number of them.
    revoke(&act, Member::Principal("ada")).await;
    check(&live.catch_up().await.expect("an answer"), false, true, "again");
    for kept in ["revoked", "revoked-order"] {
        act.probe.command("ZREM", [act.key(kept).as_str(), "p:ada"]).await.expect("removed");
    }
    revoke(&act, Member::Principal("eve")).await;
    check(&live.catch_up().await.expect("an answer"), true, true, "one is lost");
}

#[tokio::test]
async fn a_number_that_the_scope_lost_on_its_own_is_given_back() {
    let stage = Stage::set().await;
    let (act, policy) = (stage.act(), policy());
    let (number, _) = revoke(&act, Member::Principal("eve")).await;
    let live = LiveRevocations::new(act.store.clone());
    live.catch_up().await.expect("an answer");
    act.probe.command("DEL", [act.key("scope").as_str()]).await.expect("deleted");
    act.beat(&policy, START_MS, 9).await;
    let store = act.store.at(START_MS).knowing(number);
    let asked = [by(&[Member::Principal("ada")])];
    let refused = store.admit(&policy, &asked).await;
    assert_eq!(refused, Err(StoreError::StaleRevocations { held: number, current: 0 }));
    let view = live.hear(0).await.expect("an answer");
    assert_eq!((view.number(), view.is_lost()), (number, false));
    store.admit(&policy, &asked).await.expect("decisions");
}

#[tokio::test]
async fn a_revocation_is_told_to_whoever_listens_and_many_who_heard_ask_once() {
    let stage = Stage::set().await;
    let act = stage.act();
    let mut changes = stage.store.watch().await.expect("changes");
    act.store.subscribe(&[Topic::Policy]).await.expect("subscribed");
    while changes.recv().await.expect("a change") != Change::Policy(act.store.scope().clone()) {}
    let (number, _) = revoke(&act, Member::Principal("ada")).await;
    while changes.recv().await.expect("a change") != Change::Revoked(act.store.scope().clone()) {}
    let live = Arc::new(LiveRevocations::new(act.store.clone()));
    live.catch_up().await.expect("an answer");
    let (second, _) = revoke(&act, Member::Principal("bob")).await;
    assert!(second > number);
    act.probe.reset_statistics().await.expect("an answer");
    for view in join_all((0..50).map(|_| live.hear(second))).await {
        assert_eq!(view.expect("an answer").len(), 2);
    }
    let costs = act.probe.command_costs().await.expect("costs");
    assert_eq!(costs["evalsha"].calls, 1, "{costs:?}");
}
