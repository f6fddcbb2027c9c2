//! Hostile input: nothing that is presented makes a parser panic, and nothing but a genuine chain is taken.
//!
//! Responsible for the parsers of what strangers send. Must never take long by default: `PORTCULLIS_FUZZ_CASES` says
//! how many cases each test tries.

use std::sync::LazyLock;

use portcullis_delegation::{Chain, Proof, PublicKey, ScopeSet, SecretKey, TargetUri};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::forge::{Forge, base64, check};

const CASES_DEFAULT: u32 = 256;

const MEMBERS: [&str; 11] =
    ["iss", "aud", "iat", "exp", "scope", "cnf", "jwk", "constraints", "del_depth", "reason", "x"];

static GENUINE: LazyLock<String> = LazyLock::new(|| Forge::genuine(3).encode());

fn configured() -> ProptestConfig {
    let cases = std::env::var("PORTCULLIS_FUZZ_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig { cases: cases.unwrap_or(CASES_DEFAULT), failure_persistence: None, ..ProptestConfig::default() }
}

/// Text in which the characters that mean something are common.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[A-Za-z0-9_=~. -]{0,24}",
        1 => ".{0,12}",
        1 => Just("eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCJ9".to_owned()),
        1 => Just("eyJ0eXAiOiJkcG9wK2p3dCJ9".to_owned()),
    ];
    prop::collection::vec((piece, "[.~]?"), 0..12)
        .prop_map(|pieces| pieces.into_iter().map(|(piece, joint)| piece + &joint).collect())
}

/// JSON that is nearly the payload of a token.
fn hostile_json() -> impl Strategy<Value = String> {
    let name = prop::sample::select(&MEMBERS[..]);
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("[[{}]]".to_owned()),
        Just("1e999".to_owned()),
        Just("\"\\ud800\"".to_owned()),
        Just("{\"jwk\":{\"kty\":\"OKP\"}}".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
        "[a-z:* ]{0,12}".prop_map(|text| format!("\"{text}\"")),
    ];
    prop::collection::vec((name, value), 0..12).prop_map(|members| {
        let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// A change of the presented text.
#[derive(Clone, Debug)]
enum Change {
    Replace(Index, char),
    Insert(Index, char),
    Remove(Index, Index),
    Repeat(Index, Index),
    Swap(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let letter = || prop_oneof![8 => prop::char::ranges(vec!['!'..='~'].into()), 1 => any::<char>()];
    let place = any::<Index>;
    prop_oneof![
        (place(), letter()).prop_map(|(at, letter)| Change::Replace(at, letter)),
        (place(), letter()).prop_map(|(at, letter)| Change::Insert(at, letter)),
        (place(), place()).prop_map(|(from, to)| Change::Remove(from, to)),
        (place(), place()).prop_map(|(from, to)| Change::Repeat(from, to)),
        (place(), place()).prop_map(|(one, other)| Change::Swap(one, other)),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for change in changes {
        let length = letters.len();
        if length == 0 {
            break;
        }
        match change {
            Change::Replace(at, letter) => letters[at.index(length)] = *letter,
            Change::Insert(at, letter) => letters.insert(at.index(length), *letter),
            Change::Remove(from, to) => drop(letters.drain(range(*from, *to, length))),
            Change::Repeat(from, to) => letters.extend_from_within(range(*from, *to, length)),
            Change::Swap(one, other) => letters.swap(one.index(length), other.index(length)),
        }
    }
    letters.into_iter().collect()
}

fn range(from: Index, to: Index, length: usize) -> std::ops::Range<usize> {
    let (from, to) = (from.index(length), to.index(length));
    from.min(to)..from.max(to)
}

proptest! {
    #![proptest_config(configured())]

    #[test]
    fn nothing_hostile_is_a_chain_a_proof_or_a_key(text in hostile()) {
        prop_assert!(check(&text).is_err());
        prop_assert!(Proof::parse(&text).is_err());
        prop_assert!(PublicKey::from_text(&text).is_err() && SecretKey::from_text(&text).is_err());
        prop_assert!(Chain::is_shape_of(&text) || Chain::parse(&text).is_err());
        if let Ok(target) = text.parse::<TargetUri>() {
            prop_assert_eq!(target.as_str().parse::<TargetUri>(), Ok(target.clone()));
        }
        if let Ok(scopes) = text.parse::<ScopeSet>() {
            prop_assert_eq!(scopes.to_string(), text);
        }
    }

    #[test]
    fn no_hostile_payload_is_taken(payload in hostile_json(), proof in any::<bool>()) {
        let header = if proof { r#"{"typ":"dpop+jwt","alg":"EdDSA"}"# } else { r#"{"alg":"EdDSA","typ":"at+jwt"}"# };
        let text = format!("{}.{}.{}", base64(header.as_bytes()), base64(payload.as_bytes()), "A".repeat(86));
        prop_assert!(check(&text).is_err());
        prop_assert!(Proof::parse(&text).is_err());
        prop_assert!(Chain::is_shape_of(&text) || Chain::parse(&text).is_err());
    }

    #[test]
    fn no_changed_chain_is_taken(changes in prop::collection::vec(change(), 1..4)) {
        let text = changed(&GENUINE, &changes);
        prop_assert_eq!(check(&text).is_ok(), text == *GENUINE || is_genuine_prefix(&text));
        prop_assert!(Chain::is_shape_of(&text) || Chain::parse(&text).is_err());
    }
}

/// Whether what is left is the chain without its last tokens: genuine, but worth nothing without the holder's key.
fn is_genuine_prefix(text: &str) -> bool {
    GENUINE.strip_prefix(text).is_some_and(|rest| rest.starts_with('~'))
}
