//! Every rule alone: a chain that breaks it, correctly signed, is refused for it and for nothing else.
//!
//! Responsible for the rules about what tokens say. Must never be content with a refusal: the fault and the token are
//! part of each expectation.

use portcullis_delegation::{Chain, Fault, Lifetimes, Refused, Verifier, Widened};
use serde_json::{Value, json};

use crate::forge::{Forge, ISSUER, KEY_ID, NOW, expected, issuer, jwk, key, root_key, verdict};

fn at(hop: usize, fault: Fault) -> Refused {
    Refused { fault, hop: Some(hop) }
}

/// Presents a chain of three after this change.
fn after(change: impl FnOnce(&mut Forge)) -> Result<(), Refused> {
    let mut forge = Forge::genuine(3);
    change(&mut forge);
    verdict(&forge.encode()).map(|_| ())
}

/// Presents a chain of three with this member of this token replaced.
fn with(hop: usize, member: &str, value: Value) -> Result<(), Refused> {
    after(|forge| forge.set(hop, member, value))
}

fn with_header(hop: usize, header: &str) -> Result<(), Refused> {
    after(|forge| header.clone_into(&mut forge.0[hop].header))
}

#[test]
fn what_is_genuine_is_taken_at_every_length() {
    for hops in 1..=8 {
        let presented = verdict(&Forge::genuine(hops).encode()).unwrap();
        assert_eq!(presented.delegation.hops.len(), usize::from(hops));
        assert_eq!(presented.delegation.actor, format!("agent-{}", hops - 1));
    }
}

#[test]
fn a_child_may_not_widen() {
    for hop in [1, 2] {
        let wider = |member| Err(at(hop, Fault::NotNarrower(member)));
        assert_eq!(with(hop, "scope", json!("tools:call:* quota:write")), wider(Widened::Scope));
        assert_eq!(with(hop, "scope", json!("tools:*")), wider(Widened::Scope));
        assert_eq!(with(hop, "scope", json!("tools:call")), wider(Widened::Scope));
        assert_eq!(with(hop, "aud", json!(["https://elsewhere.example"])), wider(Widened::Audience));
        assert_eq!(with(hop, "constraints", json!([{"key": "calls_per_min", "max": 61}])), wider(Widened::Constraint));
        assert_eq!(with(hop, "constraints", json!([{"key": "other", "max": 1}])), wider(Widened::Constraint));
        assert_eq!(after(|forge| forge.remove(hop, "constraints")), wider(Widened::Constraint));
        let shorter = after(|forge| (0..hop).for_each(|above| forge.set(above, "exp", json!(NOW + 299))));
        assert_eq!(shorter, wider(Widened::Expiry));
        let shallower = after(|forge| (0..hop).for_each(|above| forge.set(above, "del_max_depth", json!(7))));
        assert_eq!(shallower, wider(Widened::Depth));
        for member in ["sub", "tid", "sid"] {
            assert_eq!(with(hop, member, json!("other/one")), Err(at(hop, Fault::IdentityChanged)), "{member}");
        }
    }
}

#[test]
fn a_child_is_of_its_parent_and_its_holder() {
    let spliced = after(|forge| {
        forge.0[2].linked = false;
        forge.set(2, "par_hash", json!("A".repeat(43)));
    });
    assert_eq!(spliced, Err(at(2, Fault::Spliced)));
    let reparented = after(|forge| {
        forge.0[2].signer = 7;
        forge.set(2, "iss", json!(issuer(7)));
    });
    assert_eq!(reparented, Err(at(2, Fault::WrongIssuer)));
    for hop in 0..3 {
        let signed_by_another = after(|forge| forge.0[hop].signer = 7);
        assert_eq!(signed_by_another, Err(at(hop, Fault::BadSignature)));
    }
    assert_eq!(after(|forge| forge.remove(1, "cnf")), Err(at(2, Fault::NotDelegable)));
    assert_eq!(after(|forge| forge.remove(0, "cnf")), Err(at(0, Fault::HolderKeyRequired)));
    let before = after(|forge| {
        forge.set(1, "iat", json!(NOW - 31));
        forge.set(1, "exp", json!(NOW + 300));
    });
    assert_eq!(before, Err(at(1, Fault::IssuedBeforeParent)));
}

#[test]
fn times_are_kept() {
    for (hop, cap) in [(0, 3600), (1, 900), (2, 300)] {
        let longer = Err(at(hop, Fault::LifetimeExceeded));
        assert_eq!(with(hop, "exp", json!(NOW + cap + 1)), longer);
        assert_eq!(with(hop, "exp", json!(NOW)), longer);
        assert_eq!(with(hop, "exp", json!(0)), longer);
        assert_eq!(with(hop, "exp", json!(u64::MAX)), longer);
        assert_eq!(with(hop, "iat", json!(NOW + 31)), Err(at(hop, Fault::IssuedInFuture)));
        let over = after(|forge| {
            forge.set(hop, "iat", json!(NOW - 10));
            forge.set(hop, "exp", json!(NOW));
        });
        assert_eq!(over, Err(at(hop, Fault::Expired)));
    }
    assert_eq!(with(2, "iat", json!(NOW + 30)), Ok(()));
    let lowered =
        Verifier::new(vec![root_key(ISSUER, KEY_ID, key(0).public_key())], Lifetimes::lowered(3600, 900, 299).unwrap());
    let chain = Chain::parse(&Forge::genuine(3).encode()).unwrap();
    assert_eq!(lowered.verify(&chain, &expected(), NOW).unwrap_err(), at(2, Fault::LifetimeExceeded));
}

#[test]
fn depth_is_the_place_and_is_bounded() {
    assert_eq!(with(1, "del_depth", json!(2)), Err(at(1, Fault::DepthMismatch)));
    assert_eq!(with(0, "del_max_depth", json!(9)), Err(at(0, Fault::TooDeep)));
    assert_eq!(with(2, "del_max_depth", json!(2)), Err(at(2, Fault::TooDeep)));
    assert_eq!(with(0, "del_max_depth", json!(0)), Err(at(0, Fault::TooDeep)));
    assert_eq!(with(0, "del_max_depth", json!(300)), Err(at(0, Fault::Malformed)));
}

#[test]
fn a_reason_an_audience_and_a_scope_are_required() {
    for hop in 0..3 {
        for reason in ["", "   ", "a\nb", &"r".repeat(201)] {
            assert_eq!(with(hop, "reason", json!(reason)), Err(at(hop, Fault::ReasonRequired)), "{reason:?}");
        }
        assert_eq!(after(|forge| forge.remove(hop, "reason")), Err(at(hop, Fault::ReasonRequired)));
        assert_eq!(with(hop, "reason", json!("é".repeat(200))), Ok(()));
        assert_eq!(after(|forge| forge.remove(hop, "aud")), Err(at(hop, Fault::AudienceRequired)));
        assert_eq!(with(hop, "aud", json!([])), Err(at(hop, Fault::AudienceRequired)));
        assert_eq!(with(hop, "aud", json!(["a", "b", "c", "d", "e"])), Err(at(hop, Fault::Malformed)));
        for scope in ["", " ", "tools:call:a  quota:read", "tools:call:a tools:call:a", "Tools", "tools:*:call"] {
            assert_eq!(with(hop, "scope", json!(scope)), Err(at(hop, Fault::ScopeMalformed)), "{scope:?}");
        }
        let everything = with(hop, "scope", json!("*"));
        assert_eq!(everything, if hop == 0 { Ok(()) } else { Err(at(hop, Fault::ScopeMalformed)) });
    }
}

#[test]
fn members_are_those_of_the_format() {
    let malformed = |hop| Err(at(hop, Fault::Malformed));
    for hop in 0..3 {
        for (member, value) in [
            ("jti", json!("not-a-ulid")),
            ("jti", json!("01jd0000000000000000000000")),
            ("iat", json!(NOW as f64)),
            ("iat", json!(NOW.to_string())),
            ("exp", json!(-1)),
            ("aud", json!("notion.mcp")),
            ("sub", json!("")),
            ("client_id", json!("a b")),
            ("client_id", json!("agent\u{200b}")),
            ("sub", json!("user\r\nX-User-Type: paid")),
            ("sid", json!("s".repeat(257))),
            ("cnf", Value::Null),
            ("cnf", json!([jwk(9)])),
            ("cnf", json!({"jwk": jwk(9), "jkt": "x"})),
            ("cnf", json!({"jwk": {"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)}})),
            ("cnf", json!({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(42)}})),
            ("cnf", json!({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": "A".repeat(43), "d": "A".repeat(43)}})),
            ("constraints", json!([{"key": "Calls", "max": 1}])),
            ("constraints", json!([{"key": "calls", "max": 1}, {"key": "calls", "max": 1}])),
            ("constraints", json!([["calls", 1]])),
            ("constraints", json!([{"key": "calls", "max": -1}])),
            ("act", json!({"sub": "other"})),
        ] {
            assert_eq!(with(hop, member, value.clone()), malformed(hop), "{member} {value}");
        }
        for member in ["iss", "sub", "client_id", "tid", "sid", "iat", "exp", "jti", "scope", "del_depth"] {
            assert_eq!(after(|forge| forge.remove(hop, member)), malformed(hop), "without {member}");
        }
        let twice: [fn(String) -> String; 4] = [
            |text| text.replacen('{', r#"{"scope":"*","#, 1),
            |text| text.replacen('{', r#"{"\u0073ub":"other","#, 1),
            |text| text.replacen(r#"{"key":"#, r#"{"max":1,"key":"#, 1),
            |text| format!("[{text}]"),
        ];
        for rewrite in twice {
            assert_eq!(after(|forge| forge.0[hop].rewrite = rewrite), malformed(hop));
        }
    }
    assert_eq!(with(0, "par_hash", json!("A".repeat(43))), malformed(0));
    assert_eq!(with(0, "iss", json!(issuer(0))), malformed(0));
    assert_eq!(with(1, "iss", json!(ISSUER)), malformed(1));
    assert_eq!(with(1, "ut", json!("paid")), malformed(1));
    assert_eq!(with(0, "ut", json!("paid")), Ok(()));
    let unlinked = after(|forge| forge.0[1].linked = false);
    assert_eq!(unlinked, malformed(1));
}

#[test]
fn weak_keys_are_refused() {
    // The encoding of a point of order 4, and the neutral element.
    for x in ["A".repeat(43), format!("AQ{}", "A".repeat(41))] {
        let weak = json!({"jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}});
        assert_eq!(with(2, "cnf", weak), Err(at(2, Fault::WeakKey)));
    }
}

#[test]
fn the_header_says_ed25519_and_nothing_else() {
    for hop in 0..3 {
        for alg in ["none", "None", "HS256", "RS256", "ES256", "eddsa", "EDDSA", "ed25519", "Ed448", ""] {
            let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#);
            assert_eq!(with_header(hop, &header), Err(at(hop, Fault::AlgorithmRefused)), "{alg}");
        }
        for more in [
            r#","crit":["exp"]"#,
            r#","jku":"https://evil.example/keys""#,
            r#","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#,
            r#","x5u":"https://evil.example/cert""#,
            r#","x5c":[]"#,
            r#","b64":false"#,
            r#","cty":"JWT""#,
            r#","zip":"DEF""#,
            r#","alg":"EdDSA""#,
            r#","kid":null"#,
            r#","kid":"""#,
        ] {
            let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt"{more}}}"#);
            assert_eq!(with_header(hop, &header), Err(at(hop, Fault::Malformed)), "{more}");
        }
        for header in [
            r#"{"alg":"EdDSA"}"#,
            r#"{"alg":"EdDSA","typ":"JWT"}"#,
            r#"{"alg":"EdDSA","typ":"AT+JWT"}"#,
            r#"{"typ":"at+jwt"}"#,
            r#"{"alg":["EdDSA"],"typ":"at+jwt"}"#,
            r#"["EdDSA","at+jwt"]"#,
            "",
        ] {
            assert_eq!(with_header(hop, header), Err(at(hop, Fault::Malformed)), "{header}");
        }
    }
    assert_eq!(with_header(1, r#"{"alg":"EdDSA","typ":"at+jwt","kid":"x"}"#), Err(at(1, Fault::Malformed)));
    assert_eq!(with_header(1, r#"{"alg":"Ed25519","typ":"at+jwt"}"#), Ok(()));
}

#[test]
fn the_root_is_of_a_known_key_and_the_leaf_for_here() {
    let header = |id: &str| format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{id}"}}"#);
    for id in ["other", "../2026-11", "2026-11 ", "https://evil.example/key", "' OR 1=1"] {
        assert_eq!(with_header(0, &header(id)), Err(at(0, Fault::UnknownKey)), "{id}");
    }
    assert_eq!(with(0, "iss", json!("https://evil.example")), Err(at(0, Fault::UnknownIssuer)));
    assert_eq!(with(2, "aud", json!(["notion.mcp"])), Err(at(2, Fault::WrongAudience)));
    let tenant = |tid: &str| after(|forge| (0..3).for_each(|hop| forge.set(hop, "tid", json!(tid))));
    assert_eq!(tenant("globex/p1"), Err(at(0, Fault::WrongTenant)));
    assert_eq!(tenant("acme/p1/"), Err(at(0, Fault::WrongTenant)));
}

#[test]
fn a_root_without_a_key_id_is_taken_only_beyond_doubt() {
    let mut forge = Forge::genuine(2);
    forge.0[0].header = r#"{"alg":"EdDSA","typ":"at+jwt"}"#.into();
    let chain = Chain::parse(&forge.encode()).unwrap();
    let own = root_key(ISSUER, KEY_ID, key(0).public_key());
    let elsewhere = root_key("https://other.example", KEY_ID, key(5).public_key());
    let next = root_key(ISSUER, "2026-12", key(6).public_key());
    let verify = |keys| Verifier::new(keys, Lifetimes::CAPS).verify(&chain, &expected(), NOW).map(|_| ());
    assert_eq!(verify(vec![elsewhere.clone(), own.clone()]), Ok(()));
    assert_eq!(verify(vec![own, next]), Err(at(0, Fault::UnknownKey)));
    assert_eq!(verify(vec![elsewhere]), Err(at(0, Fault::UnknownIssuer)));
    assert_eq!(verify(Vec::new()), Err(at(0, Fault::UnknownIssuer)));
}
