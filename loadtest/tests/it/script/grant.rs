//! What a principal granted at most, and the newest word about it.
//!
//! Responsible for that whatever is noted at once and in any order, and for how long. Must never rest on the order in
//! which it was sent.

use futures_util::future::join_all;
use portcullis_config::UserType;
use portcullis_lua::Granted;
use rand::seq::SliceRandom;

use super::stage::{Stage, cases};

const LASTS_MS: u64 = 3_600_000;

fn granted(rank: usize, name: &str, as_of_ms: u64) -> Granted {
    Granted { rank, user_type: UserType::new(name).expect("a name"), as_of_ms }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_highest_type_and_the_newest_word_stay_whoever_notes_what_first() {
    let stage = Stage::set().await;
    let stores = [stage.store.clone(), stage.another_store().await];
    for _ in 0..cases(20) {
        let act = stage.act();
        let newest_ms = 1_800_000_000_000;
        let mut all = [
            granted(8, "paid", 5),
            granted(4, "registered", newest_ms),
            granted(4, "registered", 0),
            granted(5, "gold", 7),
        ];
        all.shuffle(&mut rand::rng());
        let notes = all.iter().enumerate().map(|(number, granted)| {
            let store = stores[number % 2].scope(act.store.scope());
            async move { store.note_grant("ada", granted, LASTS_MS).await.expect("an answer") }
        });
        join_all(notes).await;
        assert_eq!(act.store.granted_as("ada").await.expect("an answer"), Some(granted(8, "paid", newest_ms)));
        assert_eq!(act.store.granted_as("bob").await.expect("an answer"), None);
        let lowered = granted(4, "registered", newest_ms + 1);
        act.store.replace_grant("ada", &lowered).await.expect("an answer");
        assert_eq!(act.store.granted_as("ada").await.expect("an answer"), Some(lowered.clone()));
        act.store.note_grant("ada", &granted(4, "registered", 0), LASTS_MS).await.expect("an answer");
        assert_eq!(
            act.store.granted_as("ada").await.expect("an answer"),
            Some(lowered),
            "no older word is heard again"
        );
        act.strike().await;
    }
}

#[tokio::test]
async fn it_is_known_as_long_as_anything_is_left_that_was_granted_and_no_longer() {
    let stage = Stage::set().await;
    let act = stage.act();
    let left_ms = async || act.store.granted_for_ms("ada").await.expect("an answer");
    let note = async |lasts_ms| act.store.note_grant("ada", &granted(8, "paid", 5), lasts_ms).await.expect("an answer");
    let longest_ms = 100 * LASTS_MS;
    act.store.replace_grant("ada", &granted(4, "registered", 6)).await.expect("an answer");
    assert_eq!((left_ms().await, act.store.granted_as("ada").await.expect("an answer")), (0, None));
    note(LASTS_MS).await;
    assert!((1..=LASTS_MS).contains(&left_ms().await));
    note(longest_ms).await;
    note(LASTS_MS).await;
    act.store.replace_grant("ada", &granted(4, "registered", 6)).await.expect("an answer");
    assert!((longest_ms - LASTS_MS..=longest_ms).contains(&left_ms().await), "a session outlives a delegation");
}
