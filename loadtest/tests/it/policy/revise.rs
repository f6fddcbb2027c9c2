//! `revise.lua`: one writer wins, revisions are contiguous, and what was is kept.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use portcullis_lua::{PolicyStamp, Retention, Revised, StoredPolicy};

use super::replica::{RETENTION, Replica, document, new, revise};
use crate::script::stage::Stage;

fn stored(revised: Revised) -> StoredPolicy {
    match revised {
        Revised::Stored(stored) => stored,
        conflict @ Revised::Conflict { .. } => panic!("{conflict:?}"),
    }
}

#[tokio::test]
async fn of_two_writers_that_saw_the_same_policy_one_wins_and_nothing_of_the_other_is_stored() {
    let stage = Stage::set().await;
    for _ in 0..20 {
        let act = stage.act();
        let (first, second) =
            tokio::join!(revise(&act.store, PolicyStamp::NONE, 1), revise(&act.store, PolicyStamp::NONE, 2));
        let (first, second) = (first.expect("an answer"), second.expect("an answer"));
        let (winner, loser, lost_number) = match (first, second) {
            (Revised::Stored(winner), Revised::Conflict { current }) => (winner, current, 2),
            (Revised::Conflict { current }, Revised::Stored(winner)) => (winner, current, 1),
            other => panic!("not one winner: {other:?}"),
        };
        assert_eq!(winner.stamp.revision(), 1);
        assert_eq!(loser, winner.stamp, "the loser is told what is stored");
        let trace = format!("max_queue_size\\\\\\\":{lost_number}");
        for (key, content) in act.probe.dump(&act.prefix).await.expect("a dump") {
            assert!(!content.contains(&format!("writer of {lost_number}")), "{key} {content}");
            assert!(!content.contains(&trace), "{key} {content}");
        }
        assert_eq!(act.store.stored_policy().await.expect("an answer"), Some(winner));
    }
}

#[tokio::test]
async fn successful_updates_make_contiguous_revisions_each_with_what_was_before() {
    let (writers, each) = (8, 12);
    let stage = Stage::set().await;
    let act = stage.act();
    let written = join_all((0..writers).map(|writer| {
        let replica = Replica::of(&act.store, &format!("r{writer}"));
        async move {
            let mut written = Vec::new();
            for turn in 0..each {
                let number = 1 + writer * each + turn;
                loop {
                    replica.live.catch_up().await.expect("an answer");
                    if let Revised::Stored(stored) = replica.write(number).await.expect("an answer") {
                        written.push((stored.stamp.revision(), number));
                        break;
                    }
                }
            }
            written
        }
    }))
    .await;
    let mut written: Vec<(u64, u64)> = written.into_iter().flatten().collect();
    written.sort_unstable();
    let total = writers * each;
    assert_eq!(written.iter().map(|&(revision, _)| revision).collect::<Vec<_>>(), (1..=total).collect::<Vec<_>>());

    let summaries = act.store.revisions(1000).await.expect("an answer");
    assert_eq!(
        summaries.iter().map(|summary| summary.revision).collect::<Vec<_>>(),
        (1..=total).rev().collect::<Vec<_>>()
    );
    let mut before = None;
    for (revision, number) in written {
        let record = act.store.revision(revision).await.expect("an answer").expect("it is kept");
        assert_eq!(record.after, document(&act.store, number));
        assert_eq!(record.before, before, "revision {revision}");
        assert_eq!(record.summary.about.actor, format!("writer of {number}"));
        before = Some(record.after);
    }
    let audited = act.store.audit(1000).await.expect("an answer");
    let revisions: BTreeSet<u64> = audited.iter().map(|event| event.revision).collect();
    assert_eq!((audited.len() as u64, revisions.len() as u64), (total, total));
    assert!(audited.iter().all(|event| event.event == "policy_revised" && event.by.starts_with("writer of ")));
}

#[tokio::test]
async fn the_same_write_sent_twice_is_one_revision() {
    let stage = Stage::set().await;
    let act = stage.act();
    let write = new(&act.store, 1);
    let first = stored(act.store.revise(PolicyStamp::NONE, RETENTION, &write).await.expect("an answer"));
    let again = stored(act.store.revise(PolicyStamp::NONE, RETENTION, &write).await.expect("an answer"));
    assert_eq!(first, again);
    assert_eq!(act.store.revisions(10).await.expect("an answer").len(), 1);
}

#[tokio::test]
async fn what_is_kept_is_bounded_also_after_the_bound_was_lowered() {
    let stage = Stage::set().await;
    let act = stage.act();
    let mut seen = PolicyStamp::NONE;
    let mut write = async |number: u64, max_revisions: u64| {
        let retention = Retention { max_revisions, max_audit_events: 10 };
        let revised = act.store.revise(seen, retention, &new(&act.store, number)).await.expect("an answer");
        seen = stored(revised).stamp;
        let kept = act.store.revisions(1000).await.expect("an answer");
        kept.iter().map(|summary| summary.revision).collect::<Vec<_>>()
    };
    for number in 1..=30 {
        let kept = write(number, 20).await;
        assert_eq!(kept, (number.saturating_sub(19).max(1)..=number).rev().collect::<Vec<_>>());
    }
    assert_eq!(write(31, 3).await, [31, 30, 29]);
    assert_eq!(write(32, 3).await, [32, 31, 30]);
    for number in 33..=233 {
        write(number, 1000).await;
    }
    assert_eq!(write(234, 3).await, [234, 233, 232]);
}

#[tokio::test]
async fn times_of_policies_rise_even_if_the_clock_does_not() {
    let stage = Stage::set().await;
    let act = stage.act();
    let at = |now_ms: u64| act.store.at(now_ms);
    let first = stored(revise(&at(2000), PolicyStamp::NONE, 1).await.expect("an answer"));
    let second = stored(revise(&at(1000), first.stamp, 2).await.expect("an answer"));
    assert_eq!((first.at_ms, second.at_ms), (2000, 2001));
}
