//! Hostile documents: nothing that is sent as a policy makes the loader panic, and what is taken is sound.
//!
//! Must never take long by default: `PORTCULLIS_FUZZ_CASES` says how many cases each test tries.

use portcullis_config::{Component, LoadError, from_json, parse};
use proptest::prelude::*;
use proptest::sample::Index;

use super::env;

const EXAMPLE: &str = include_str!("../../gateway.example.yaml");

const PIECES: [&str; 14] = [
    "{",
    "}",
    "[",
    "&a ",
    "*a",
    "!!binary ",
    "|\n",
    "- ",
    ": ",
    "? ",
    "1e999",
    "0x7fffffffffffffff",
    "\u{feff}",
    "null",
];

fn configured() -> ProptestConfig {
    let cases = std::env::var("PORTCULLIS_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(64), failure_persistence: None, ..ProptestConfig::default() }
}

/// A few lines of the example with something put in or left out.
fn nearly_sound() -> impl Strategy<Value = String> {
    let lines: Vec<&str> = EXAMPLE.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let most = lines.len();
    let part = (0..most, 1_usize..12).prop_map(move |(from, count)| lines[from..most.min(from + count)].join("\n"));
    let insertion = (any::<Index>(), prop::sample::select(&PIECES[..]));
    (part, prop::collection::vec(insertion, 0..4), any::<Index>()).prop_map(|(mut text, insertions, cut)| {
        for (at, piece) in insertions {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            if !places.is_empty() {
                text.insert_str(places[at.index(places.len())], piece);
            }
        }
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        if !places.is_empty() && cut.index(4) == 0 {
            text.truncate(places[cut.index(places.len())]);
        }
        text
    })
}

proptest! {
    #![proptest_config(configured())]

    #[test]
    fn no_document_makes_a_panic(text in prop_oneof![nearly_sound(), "[ -~\\n]{0,120}", ".{0,40}"]) {
        for component in Component::ALL {
            match parse(&text, component, &env) {
                Ok(loaded) => prop_assert!(loaded.policy.scope().is_ok()),
                Err(LoadError::Invalid { faults, .. }) => prop_assert!(!faults.is_empty()),
                Err(LoadError::Unreadable { reason, .. }) => prop_assert!(!reason.is_empty()),
            }
        }
    }

    #[test]
    fn no_body_of_a_change_makes_a_panic(text in "[\\[\\]{}:,\"a-z0-9 .eE+-]{0,60}") {
        _ = from_json(&text);
    }
}
