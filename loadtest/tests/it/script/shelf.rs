//! Policies that are written, lost and given back, on the scripts and on the model at once.
//!
//! Responsible for comparing every answer of `revise` and `restore`, and what is stored after each. Must never write
//! what replicas would not: they give back what they have read, whenever that was.

use portcullis_loadtest::model::{Draft, Shelf};
use portcullis_lua::{About, NewRevision, Origin, Retention, Revised, StoredPolicy};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::stage::{Act, START_MS, Stage, cases};

const RETENTION: Retention = Retention { max_revisions: 100, max_audit_events: 100 };

fn about() -> About {
    About { origin: Origin::Update, actor: "a".to_owned(), reason: None, rolled_back_to: None, changed: Vec::new() }
}

/// Redis and the model lose everything.
async fn lose(act: &Act, shelf: &mut Shelf) {
    act.strike().await;
    *shelf = Shelf::default();
}

/// Plays one history; how often something was stored by being given back.
async fn play(act: &Act, seed: u64) -> u64 {
    let (mut random, mut shelf, mut now_ms) = (StdRng::seed_from_u64(seed), Shelf::default(), START_MS);
    let (mut known, mut given_back) = (Vec::<StoredPolicy>::new(), 0);
    for step in 0..40 {
        now_ms += *[0, 1, 500].choose(&mut random).expect("three");
        let store = act.store.at(now_ms);
        match random.random_range(0..10) {
            0 => lose(act, &mut shelf).await,
            1..=5 => {
                // One author in four has seen an older policy, one write in eight is an earlier one repeated.
                let older = known.choose(&mut random).filter(|_| random.random_bool(0.25));
                let base = older.map_or(shelf.stamp(), |older| older.stamp);
                let document = json!({ "n": random.random_range(0..3) });
                let repeated = known.choose(&mut random).filter(|_| random.random_bool(0.125));
                let write_id = repeated.map_or(format!("w{step}"), |repeated| repeated.write_id.clone());
                let draft = Draft { document: document.to_string(), about: about(), write_id: write_id.clone() };
                let new = NewRevision { document, about: about(), write_id };
                let revised = store.revise(base, RETENTION, &new).await.expect("an answer");
                let expected = shelf.revise(now_ms, base, draft);
                match (revised, expected) {
                    (Revised::Stored(stored), Ok(expected)) => {
                        assert_eq!((stored.stamp, stored.at_ms), (expected.stamp, expected.at_ms), "seed {seed}");
                        known.push(expected);
                    }
                    (Revised::Conflict { current }, Err(expected)) => assert_eq!(current, expected, "seed {seed}"),
                    (revised, expected) => panic!("seed {seed}, step {step}: {revised:?}, not {expected:?}"),
                }
            }
            _ => {
                let Some(held) = known.choose(&mut random) else { continue };
                let (before, stamp) = (shelf.stamp(), shelf.restore(held));
                let restored = store.restore(held, RETENTION, "r").await.expect("an answer");
                assert_eq!(restored, stamp, "seed {seed}, step {step}: {held:?} given back");
                given_back += u64::from(stamp != before);
                known.extend(shelf.stored().cloned());
            }
        }
        let stored = store.stored_policy().await.expect("an answer");
        assert_eq!(stored.as_ref(), shelf.stored(), "seed {seed}, step {step}");
    }
    given_back
}

#[tokio::test]
async fn policies_are_stored_and_given_back_as_the_rules_say() {
    let stage = Stage::set().await;
    let (first, number, mut given_back) = (rand::random::<u64>() >> 1, cases(100) as u64, 0);
    for seed in first..first + number {
        let act = stage.act();
        given_back += play(&act, seed).await;
        act.strike().await;
    }
    assert!(given_back >= number, "hardly anything was given back: {given_back}");
}
