//! A Redis that lost its data or came back from an older copy gets the newest policy back, whoever is first.

use std::sync::Arc;

use futures_util::future::join_all;
use portcullis_lua::{PolicyStamp, Revised, StoredPolicy};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::replica::{Replica, revise};
use crate::script::stage::{Act, Stage, cases};

/// A copy of the scope's keys, to come back from.
async fn copy(act: &Act) -> Vec<(String, String)> {
    let mut copy = Vec::new();
    for key in act.probe.keys(&act.prefix).await.expect("keys") {
        let spare = format!("spare:{key}");
        act.probe.command("COPY", [&key, &spare, "REPLACE"]).await.expect("a copy");
        copy.push((key, spare));
    }
    copy
}

/// The scope becomes what it was when the copy was made; an empty copy is a loss of everything.
async fn come_back(act: &Act, copy: &[(String, String)]) {
    act.strike().await;
    for (key, spare) in copy {
        act.probe.command("COPY", [spare, key]).await.expect("a copy");
    }
}

/// Waits until the server's clock shows another millisecond, so that times of writes differ.
async fn another_millisecond(act: &Act) {
    let now = async || {
        let (seconds, micros): (u64, u64) =
            act.probe.command("TIME", []).await.expect("the time").convert().expect("two numbers");
        seconds * 1000 + micros / 1000
    };
    let began = now().await;
    while now().await == began {}
}

async fn write(replica: &Replica, number: u64) {
    loop {
        replica.live.catch_up().await.expect("an answer");
        if let Revised::Stored(_) = replica.write(number).await.expect("an answer") {
            return;
        }
    }
}

#[tokio::test]
async fn the_newest_policy_comes_back_whichever_replica_is_first() {
    let stage = Stage::set().await;
    for first in 0..3 {
        let act = stage.act();
        let replicas = [0, 1, 2].map(|number| Replica::of(&act.store, &format!("r{number}")));
        // Replica 0 stops at revision 1, replica 1 at 2, replica 2 holds 3.
        for (upto, number) in [(0, 1), (1, 2), (2, 3)] {
            write(&replicas[upto], number).await;
        }
        act.strike().await;
        for turn in 0..3 {
            replicas[(first + turn) % 3].live.catch_up().await.expect("an answer");
        }
        for replica in &replicas {
            replica.live.catch_up().await.expect("an answer");
            assert_eq!((replica.number(), replica.live.stamp().revision()), (3, 3), "first was {first}");
        }
        let events = act.store.audit(100).await.expect("an answer");
        assert!(events.iter().all(|event| event.event == "policy_restored"), "{events:?}");
        assert!(events.len() <= 3, "replicas fight: {events:?}");
    }
}

#[tokio::test]
async fn what_was_written_after_a_loss_wins_over_what_was_lost() {
    let stage = Stage::set().await;
    let act = stage.act();
    let old = Replica::of(&act.store, "old");
    for number in 1..=7 {
        write(&old, number).await;
    }
    act.strike().await;
    another_millisecond(&act).await;
    // Somebody who never saw the old policy writes a new one, under a number that was used before.
    let Revised::Stored(new) = revise(&act.store, PolicyStamp::NONE, 100).await.expect("an answer") else {
        panic!("nothing is stored")
    };
    assert_eq!(new.stamp.revision(), 1);
    let stamp = old.live.catch_up().await.expect("an answer");
    assert_eq!((old.number(), stamp.revision()), (100, 8), "the new document, above every revision ever held");
    assert_eq!(old.live.stamp(), stamp);
}

#[tokio::test]
async fn two_documents_of_one_number_are_never_taken_for_each_other() {
    let stage = Stage::set().await;
    let act = stage.act();
    let (lost, other) = (Replica::of(&act.store, "lost"), Replica::of(&act.store, "other"));
    write(&other, 1).await;
    let copy = copy(&act).await;
    write(&lost, 2).await;
    come_back(&act, &copy).await;
    another_millisecond(&act).await;
    // A failover that lost revision 2, and another revision 2 before anybody noticed.
    let seen = other.live.catch_up().await.expect("an answer");
    let Revised::Stored(second) = revise(&act.store, seen, 3).await.expect("an answer") else { panic!("a conflict") };
    assert_eq!((second.stamp.revision(), lost.live.stamp().revision()), (2, 2));
    assert_ne!(second.stamp, lost.live.stamp());
    for replica in [&lost, &other, &lost] {
        replica.live.catch_up().await.expect("an answer");
    }
    assert_eq!((lost.number(), other.number()), (3, 3));
    assert_eq!(lost.live.stamp(), other.live.stamp());
}

#[tokio::test]
async fn a_stamp_lost_on_its_own_is_put_back() {
    let stage = Stage::set().await;
    let act = stage.act();
    let replica = Replica::of(&act.store, "r");
    write(&replica, 1).await;
    act.probe.command("DEL", [&act.key("scope")]).await.expect("deleted");
    // As a gateway hears it from `admit`.
    replica.live.hear(PolicyStamp::NONE).await.expect("an answer");
    let compiled = replica.live.load();
    let convergence = {
        use portcullis_lua::FromBasis;
        act.store.convergence(&compiled.basis().compiled).await.expect("an answer")
    };
    assert_eq!(convergence.stored, replica.live.stamp());
}

/// Everything that can still know a policy, and so what must win.
fn newest(replicas: &[Replica], stored: Option<StoredPolicy>) -> Option<(u64, PolicyStamp, String)> {
    let held = replicas.iter().filter_map(Replica::held).map(Arc::unwrap_or_clone);
    held.chain(stored).map(|policy| (policy.at_ms, policy.stamp, policy.document)).max()
}

#[tokio::test]
async fn after_any_losses_all_replicas_come_to_hold_the_newest_policy_that_anybody_knew() {
    let stage = Stage::set().await;
    for seed in 0..cases(60) as u64 {
        let mut random = StdRng::seed_from_u64(seed);
        let act = stage.act();
        let replicas: Vec<Replica> = (0..4).map(|number| Replica::of(&act.store, &format!("r{number}"))).collect();
        let mut copies = vec![Vec::new()];
        let mut highest = PolicyStamp::NONE;
        for number in 1..=random.random_range(4..20) {
            let replica = &replicas[random.random_range(0..replicas.len())];
            match random.random_range(0..10) {
                0..=4 => {
                    another_millisecond(&act).await;
                    // Not always from what is stored: a conflict is then all there is to it.
                    if random.random_bool(0.7) {
                        replica.live.catch_up().await.expect("an answer");
                    }
                    replica.write(number).await.expect("an answer");
                }
                5..=6 => drop(replica.live.catch_up().await.expect("an answer")),
                7 => copies.push(copy(&act).await),
                _ => come_back(&act, &copies[random.random_range(0..copies.len())]).await,
            }
            highest = replicas.iter().map(|replica| replica.live.stamp()).max().unwrap_or_default().max(highest);
        }
        let expected = newest(&replicas, act.store.stored_policy().await.expect("an answer"));
        // All at once: no order may matter, and nobody may need more than two looks.
        for _ in 0..2 {
            join_all(replicas.iter().map(|replica| replica.live.catch_up())).await;
        }
        let Some((_, _, document)) = expected else { continue };
        let stored = act.store.stored_policy().await.expect("an answer").expect("something is stored");
        assert_eq!(stored.document, document, "seed {seed}");
        assert!(stored.stamp.revision() >= highest.revision(), "seed {seed}: {} after {highest}", stored.stamp);
        for replica in &replicas {
            assert_eq!(replica.live.stamp(), stored.stamp, "seed {seed}");
        }
        act.strike().await;
    }
}
