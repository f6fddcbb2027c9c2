//! Hostile bodies and headers of submissions.
//!
//! Responsible for the parsers a stranger reaches first: none panics, and what is taken keeps to the policy's bounds.
//! Must never take long by default: `PORTCULLIS_FUZZ_CASES` says how many cases each test tries.

use axum::http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::admission::session::opened::SessionToken;
use crate::identity::test_issuer::fuzz_cases;

const SOUND: &str = r#"{"kind":"chat","payload":{"a":[1,"\u00e9"]},"lane":"l","deadline_ms":500,
    "delay_ms":0,"max_attempts":3,"estimate":{"tokens":1200}}"#;

const PIECES: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\\u",
    "\"kind\":",
    "\"payload\":",
    "\"estimate\":",
    "1e999",
    "-0",
    "null",
    "\u{feff}",
    "18446744073709551616",
];

fn configured() -> ProptestConfig {
    ProptestConfig { cases: fuzz_cases(), failure_persistence: None, ..ProptestConfig::default() }
}

/// A sound body in which some bytes are others, and some pieces are put in.
fn nearly_sound() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), any::<u8>());
    let insertion = (any::<Index>(), prop::sample::select(&PIECES[..]));
    let changed = (prop::collection::vec(change, 0..4), prop::collection::vec(insertion, 0..3));
    changed.prop_map(|(changes, insertions)| {
        let mut body = SOUND.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        for (at, piece) in insertions {
            let at = at.index(body.len());
            body.splice(at..at, piece.bytes());
        }
        body
    })
}

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let name = prop::sample::select(
        &["content-type", "idempotency-key", "traceparent", "tracestate", "x-amzn-trace-id", "prefer"][..],
    );
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "application/json(; ?charset=[a-z0-9-]{0,6})?".prop_map(String::into_bytes),
        "\"[ -~]{0,24}\"?".prop_map(String::into_bytes),
        "00-[0-9a-f]{30,33}-[0-9a-f]{16}-0[01]".prop_map(String::into_bytes),
    ];
    (name, value)
}

proptest! {
    #![proptest_config(configured())]

    #[test]
    fn no_body_and_no_header_makes_a_panic(
        body in prop_oneof![nearly_sound(), prop::collection::vec(any::<u8>(), 0..200)],
        lines in prop::collection::vec(header(), 0..4),
    ) {
        let policy = Policy::shipped("t", "p");
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        match submission(&headers, &Bytes::from(body), "ada", &policy) {
            Ok(taken) => {
                prop_assert!(kind_fault(&taken.kind).is_none());
                prop_assert!(taken.payload.len() as u64 <= policy.queue.max_payload_bytes);
                prop_assert!(taken.delay_ms <= policy.queue.max_delay_ms);
            }
            Err(refused) => prop_assert!(refused.cause == Cause::PayloadTooLarge || !refused.faults.is_empty()),
        }
    }

    #[test]
    fn no_text_makes_a_session_token_that_is_not_one(text in "(gs_)?[A-Za-z0-9_./ é-]{0,80}") {
        if SessionToken::parse(&text).is_some() {
            prop_assert!(text.starts_with("gs_") && text.len() >= 46);
        }
    }
}
