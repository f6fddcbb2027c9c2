//! Proofs of possession: taken for one request, one chain and one key, and for nothing else.
//!
//! Responsible for every member of a proof being looked at. Must never depend on the real time.

use ed25519_dalek::{Signer, SigningKey};
use portcullis_delegation::{
    Chain, Fault, PROOF_MAX, PROOF_MEMORY_SECONDS, Presentation, Proof, SKEW_SECONDS, TargetUri, prove,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::forge::{Forge, NOW, base64, check, jwk, key};

const TARGET: &str = "https://gw.example/v1/tasks";

/// A chain whose last token is bound to key 2.
fn bound() -> String {
    Forge::genuine(3).encode().rsplit_once('~').unwrap().0.to_owned()
}

fn target(text: &str) -> TargetUri {
    text.parse().unwrap()
}

fn present(proof: &str, now_seconds: u64) -> Result<Option<String>, Fault> {
    let proof = Proof::parse(proof).map_err(|refused| refused.fault)?;
    let how = Presentation::Dpop { proof: &proof, method: "POST", target: &target(TARGET) };
    let presented = check(&bound()).unwrap().present(&how, now_seconds).map_err(|refused| refused.fault)?;
    Ok(presented.proof_id)
}

fn claims() -> Value {
    let ath = base64(&Sha256::digest(bound().as_bytes()));
    json!({"jti": "one", "htm": "POST", "htu": TARGET, "iat": NOW, "ath": ath})
}

fn header() -> Value {
    json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk(2)})
}

/// A proof of these, signed by this key.
fn forged(header: &Value, claims: &Value, signer: u8) -> String {
    let input = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.to_string().as_bytes()));
    let signature = SigningKey::from_bytes(&[signer + 1; 32]).sign(input.as_bytes());
    format!("{input}.{}", base64(&signature.to_bytes()))
}

#[test]
fn the_holder_proves_and_nobody_else() {
    let chain = Chain::parse(&bound()).unwrap();
    let own = prove(&key(2), &chain, "POST", &target(TARGET), NOW).unwrap();
    let again = prove(&key(2), &chain, "POST", &target(TARGET), NOW).unwrap();
    let ids = [present(&own, NOW).unwrap().unwrap(), present(&again, NOW).unwrap().unwrap()];
    assert_ne!(ids[0], ids[1]);
    let other = prove(&key(3), &chain, "POST", &target(TARGET), NOW).unwrap();
    assert_eq!(present(&other, NOW), Err(Fault::ProofWrongKey));
    assert_eq!(present(&forged(&header(), &claims(), 3), NOW), Err(Fault::ProofBadSignature));
    assert_eq!(present(&forged(&header(), &claims(), 2), NOW), Ok(Some("one".into())));
}

#[test]
fn a_proof_is_for_one_request_and_one_chain() {
    let changed = |member: &str, value: Value| {
        let mut claims = claims();
        claims[member] = value;
        present(&forged(&header(), &claims, 2), NOW)
    };
    assert_eq!(changed("htu", json!("HTTPS://GW.example:443/v1/tasks?wait=1")), Ok(Some("one".into())));
    assert_eq!(changed("nonce", json!("more is allowed")), Ok(Some("one".into())));
    assert_eq!(changed("htm", json!("post")), Err(Fault::ProofWrongTarget));
    assert_eq!(changed("htm", json!("GET")), Err(Fault::ProofWrongTarget));
    assert_eq!(changed("htu", json!("https://gw.example/v1/tasks/1")), Err(Fault::ProofWrongTarget));
    assert_eq!(changed("htu", json!("https://evil.example/v1/tasks")), Err(Fault::ProofWrongTarget));
    assert_eq!(changed("htu", json!("/v1/tasks")), Err(Fault::ProofWrongTarget));
    assert_eq!(changed("ath", json!(base64(&Sha256::digest(b"other")))), Err(Fault::ProofWrongToken));
    assert_eq!(changed("jti", json!("")), Err(Fault::ProofMalformed));
    assert_eq!(changed("jti", json!("j".repeat(129))), Err(Fault::ProofMalformed));
    assert_eq!(changed("iat", json!("now")), Err(Fault::ProofMalformed));
    for member in ["jti", "htm", "htu", "iat", "ath"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(member);
        assert_eq!(present(&forged(&header(), &claims, 2), NOW), Err(Fault::ProofMalformed), "without {member}");
    }
}

#[test]
fn a_proof_is_of_now() {
    let own = forged(&header(), &claims(), 2);
    for (now_seconds, taken) in [(NOW - 31, false), (NOW - 30, true), (NOW + 30, true), (NOW + 31, false)] {
        let verdict = present(&own, now_seconds);
        assert_eq!(verdict, if taken { Ok(Some("one".into())) } else { Err(Fault::ProofStale) }, "{now_seconds}");
    }
}

#[test]
fn a_proof_is_not_fresh_any_more_when_its_id_is_forgotten() {
    let own = forged(&header(), &claims(), 2);
    let fresh: Vec<u64> = (NOW - 300..NOW + 300).filter(|now_seconds| present(&own, *now_seconds).is_ok()).collect();
    let (first, last) = (fresh[0], fresh[fresh.len() - 1]);
    // Taken as the first of these seconds begins, it is fresh until the last one is over, and by another clock later.
    let longest = last + 1 - first;
    assert!(PROOF_MEMORY_SECONDS >= longest + SKEW_SECONDS, "fresh for {longest} s");
}

#[test]
fn the_header_of_a_proof_is_of_the_format() {
    for (member, value) in [
        ("typ", json!("at+jwt")),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("kid", json!("x")),
        ("crit", json!(["exp"])),
        ("jwk", json!(null)),
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": base64(&key(2).public_key().to_bytes()), "d": "AAAA"})),
        ("jwk", json!({"kty": "RSA", "n": "AAAA", "e": "AQAB"})),
    ] {
        let mut header = header();
        header[member] = value.clone();
        assert_eq!(present(&forged(&header, &claims(), 2), NOW), Err(Fault::ProofMalformed), "{member} {value}");
    }
    let long = json!({"more": "x".repeat(PROOF_MAX)});
    for text in ["", "a.b.c", "..", &forged(&header(), &long, 2)] {
        assert_eq!(present(text, NOW), Err(Fault::ProofMalformed));
    }
}

#[test]
fn a_proof_is_asked_for_exactly_where_there_is_a_key() {
    let proof = Proof::parse(&forged(&header(), &claims(), 2)).unwrap();
    let how = Presentation::Dpop { proof: &proof, method: "POST", target: &target(TARGET) };
    let bearer = check(&Forge::genuine(3).encode()).unwrap();
    assert_eq!(bearer.present(&how, NOW).unwrap_err(), Fault::ProofUnexpected.into());
    let bound = check(&bound()).unwrap();
    assert_eq!(bound.present(&Presentation::Bearer, NOW).unwrap_err(), Fault::ProofRequired.into());
    assert_eq!(bound.present(&how, NOW).unwrap().delegation.holder, Some(key(2).public_key()));
}
