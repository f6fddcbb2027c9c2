//! Following what is revoked: change by change, from the beginning, and after Redis lost some of it.
//!
//! Responsible for the two ways to the same knowledge, and for who hears of a loss. Must never compare a view with
//! anything but one that was read whole.

use portcullis_lua::{AsOf, Grounds, LiveRevocations, Member, Revocation, RevocationView, Revoked, ScopeStore, Stated};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::stage::{Stage, cases, user_type};

const HOUR_MS: u64 = 3_600_000;
const GROUNDS: Grounds<'_> = Grounds { by: "test", reason: "test", max_audit_events: 10_000 };

async fn revoke(store: &ScopeStore, member: String, lasts_ms: u64, spares_later: bool) {
    let revoked = store.revoke(&[Revocation { member, lasts_ms, spares_later }], GROUNDS).await.expect("an answer");
    assert!(matches!(revoked, Revoked::Done { .. }), "{revoked:?}");
}

async fn whole(store: &ScopeStore) -> RevocationView {
    RevocationView::of(store.revoked_set().await.expect("a set"))
}

/// All that a view says.
fn said(view: &RevocationView, names: &[String]) -> Vec<String> {
    let ceiling = |name: &String| view.ceiling(name).map(ToString::to_string);
    let dead = |name: &String| {
        let covered = |kind, issued_ms| view.covers(&[format!("{kind}:{name}")], issued_ms).is_some();
        let of = |issued_ms| ["t", "c", "p", "s"].map(|kind| covered(kind, issued_ms));
        format!("{name}: {:?} {:?} {:?}", of(0), of(u64::MAX), ceiling(name))
    };
    names.iter().map(dead).collect()
}

#[tokio::test]
async fn who_reads_what_has_changed_knows_what_who_reads_everything_knows() {
    let stage = Stage::set().await;
    let (first, number, mut reads) = (rand::random::<u64>() >> 1, cases(20) as u64, 0);
    let names: Vec<String> = (0..6).map(|name| format!("n{name}")).collect();
    for seed in first..first + number {
        let (mut random, act) = (StdRng::seed_from_u64(seed), stage.act());
        let (every, now_and_then) = (LiveRevocations::new(act.store.clone()), LiveRevocations::new(act.store.clone()));
        for step in 0..40 {
            let name = names.choose(&mut random).expect("six");
            let lasts_ms = random.random_range(1..5) * HOUR_MS;
            match random.random_range(0..8) {
                0 => drop(act.store.acknowledge_loss(GROUNDS).await.expect("an answer")),
                1 | 2 => {
                    let [most, less] = [("privileged", 8), ("registered", 4)];
                    let (now, of) = (Some(AsOf::Now), if random.random_bool(0.5) { most } else { less });
                    let most = Stated { principal: name, user_type: &user_type(most.0), rank: most.1, word: None };
                    let told = Stated { user_type: &user_type(of.0), rank: of.1, word: now, ..most };
                    act.store.note_grant(most, lasts_ms, GROUNDS).await.expect("an answer");
                    act.store.note_word(told, GROUNDS).await.expect("an answer");
                }
                kind => {
                    let kind = ["t", "c", "p", "s"][kind % 4];
                    let spares_later = kind != "t" && random.random_bool(0.5);
                    revoke(&act.store, format!("{kind}:{name}"), lasts_ms, spares_later).await;
                }
            }
            let expected = whole(&act.store).await;
            let view = every.catch_up().await.expect("an answer");
            assert_eq!(said(&view, &names), said(&expected, &names), "seed {seed}, step {step}");
            assert_eq!((view.number(), view.len(), view.is_lost()), (expected.number(), expected.len(), false));
            if random.random_bool(0.2) {
                let view = now_and_then.catch_up().await.expect("an answer");
                assert_eq!(said(&view, &names), said(&expected, &names), "seed {seed}, step {step}, at once");
                reads += 1;
            }
        }
        act.strike().await;
    }
    assert!(reads > number, "hardly ever were several changes read at once: {reads}");
}

#[tokio::test]
async fn a_long_set_is_whole_although_it_changes_while_it_is_read() {
    let stage = Stage::set().await;
    let act = stage.act();
    let member = |number: usize| Member::Session(&format!("s{number}")).to_string();
    let fill = async |numbers: std::ops::Range<usize>| {
        for number in numbers {
            revoke(&act.store, member(number), HOUR_MS, false).await;
        }
    };
    fill(0..3000).await;
    let live = LiveRevocations::new(act.store.clone());
    let (mut pages, mut number) = (0, 3000);
    // As a gateway reads: a page is a command. What is read already is changed again, and new members come.
    let view = loop {
        pages += 1;
        if let Some(view) = live.step(portcullis_lua::News::unknown()).await.expect("a page") {
            break view;
        }
        fill(number..number + 10).await;
        revoke(&act.store, member(pages), 5 * HOUR_MS, false).await;
        number += 10;
    };
    assert!((3..=5).contains(&pages), "{pages} pages");
    assert_eq!(view.len(), number);
    assert!((0..number).all(|each| view.covers(&[member(each)], u64::MAX).is_some()));
}

#[tokio::test]
async fn who_was_started_after_a_loss_hears_of_it_from_who_noticed_it() {
    let stage = Stage::set().await;
    let act = stage.act();
    let witness = LiveRevocations::new(act.store.clone());
    revoke(&act.store, "p:eve".to_owned(), HOUR_MS, false).await;
    witness.catch_up().await.expect("an answer");
    act.strike().await;
    let noticed = witness.catch_up().await.expect("an answer");
    assert!(noticed.is_untold_loss());
    let newcomer = LiveRevocations::new(act.store.clone());
    assert!(!newcomer.catch_up().await.expect("an answer").is_lost(), "nobody has said anything");
    assert!(act.store.note_loss(noticed.number(), GROUNDS).await.expect("an answer"));
    for live in [&newcomer, &witness, &LiveRevocations::new(act.store.clone())] {
        let view = live.catch_up().await.expect("an answer");
        assert!(view.is_lost() && !view.is_untold_loss());
    }
    let known = newcomer.load().number();
    assert!(!act.store.note_loss(known, GROUNDS).await.expect("an answer"), "it is known");
    act.store.acknowledge_loss(GROUNDS).await.expect("an answer");
    assert!(!act.store.note_loss(known, GROUNDS).await.expect("an answer"), "it was acknowledged since it was noticed");
    for live in [&newcomer, &witness] {
        assert!(!live.catch_up().await.expect("an answer").is_lost());
    }
    let events: Vec<String> = act.store.audit(10).await.expect("events").into_iter().map(|event| event.event).collect();
    assert_eq!(events, ["revocations.acknowledged", "revocations.lost"]);
}
