//! Keys as issuers publish them (JSON Web Key Set, RFC 7517).
//!
//! Responsible for which of them may verify what: for signatures only, with a `kid` of their own, of the kind and
//! strength that their algorithm needs. Must never take an algorithm from a token, nor a key that is too weak because
//! its issuer offers it.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use portcullis_config::from_json;
use serde_json::Value;

/// Most keys in a set.
const MAX_KEYS: usize = 50;

/// Longest `kid`, bytes.
pub(crate) const MAX_KID: usize = 256;

/// Bits of an RSA modulus: fewer can be factored, many more only cost time.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Keys by `kid`.
pub(crate) type KeySet = HashMap<String, Arc<VerifyingKey>>;

/// A key and what it may verify.
pub(crate) struct VerifyingKey {
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("algorithms", &self.algorithms).finish_non_exhaustive()
    }
}

impl VerifyingKey {
    /// A key for these algorithms.
    pub(crate) fn new(algorithms: Vec<Algorithm>, key: DecodingKey) -> Self {
        Self { algorithms, key }
    }

    /// Whether this is the key's signature (base64url, not padded) of the message.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &str) -> bool {
        self.algorithms.contains(&algorithm)
            && jsonwebtoken::crypto::verify(signature, message, &self.key, algorithm).unwrap_or(false)
    }
}

/// The keys of this set that may verify one of these algorithms; others are passed over, as RFC 7517 §5 asks. None is an
/// answer too: the issuer has taken back what there was.
pub(crate) fn parse(body: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| "is not UTF-8")?;
    let document = from_json(text).map_err(|_| "is not JSON")?;
    let entries = document["keys"].as_array().ok_or("has no list of keys")?;
    if entries.len() > MAX_KEYS {
        return Err("has too many keys");
    }
    let mut keys = KeySet::new();
    let mut twice = Vec::new();
    for entry in entries {
        let Some((kid, key)) = usable(entry, algorithms) else { continue };
        if keys.insert(kid.to_owned(), Arc::new(key)).is_some() {
            twice.push(kid);
        }
    }
    // Which of two keys is meant by one name cannot be known.
    for kid in twice {
        keys.remove(kid);
    }
    Ok(keys)
}

fn usable<'a>(entry: &'a Value, algorithms: &[Algorithm]) -> Option<(&'a str, VerifyingKey)> {
    let kid = entry["kid"].as_str().filter(|kid| (1..=MAX_KID).contains(&kid.len()))?;
    if !entry["use"].is_null() && entry["use"] != "sig" {
        return None;
    }
    if let Some(operations) = entry.get("key_ops")
        && !operations.as_array()?.iter().any(|operation| operation == "verify")
    {
        return None;
    }
    let (fitting, key) = match entry["kty"].as_str()? {
        "RSA" => rsa(entry)?,
        "EC" => elliptic(entry)?,
        "OKP" => edwards(entry)?,
        _ => return None,
    };
    let named = match entry.get("alg") {
        Some(name) => Some(name.as_str()?.parse::<Algorithm>().ok()?),
        None => None,
    };
    let fits = |algorithm: &&Algorithm| fitting.contains(algorithm) && named.is_none_or(|named| named == **algorithm);
    let algorithms: Vec<Algorithm> = algorithms.iter().filter(fits).copied().collect();
    (!algorithms.is_empty()).then(|| (kid, VerifyingKey::new(algorithms, key)))
}

fn rsa(entry: &Value) -> Option<(&'static [Algorithm], DecodingKey)> {
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    let (modulus, exponent) = (bytes(&entry["n"])?, bytes(&entry["e"])?);
    let significant = modulus.iter().position(|byte| *byte != 0)?;
    let bits = (modulus.len() - significant) * 8 - modulus[significant].leading_zeros() as usize;
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    let exponent_is_sound = odd(&exponent) && exponent.len() <= 4 && exponent != [1];
    if !RSA_BITS.contains(&bits) || !odd(&modulus) || !exponent_is_sound {
        return None;
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus[significant..], &exponent);
    Some((&[RS256, RS384, RS512, PS256, PS384, PS512], key))
}

fn elliptic(entry: &Value) -> Option<(&'static [Algorithm], DecodingKey)> {
    let (algorithms, length): (&[Algorithm], usize) = match entry["crv"].as_str()? {
        "P-256" => (&[Algorithm::ES256], 32),
        "P-384" => (&[Algorithm::ES384], 48),
        _ => return None,
    };
    let (x, y) = (entry["x"].as_str()?, entry["y"].as_str()?);
    let whole = |text: &str| URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == length);
    let key = DecodingKey::from_ec_components(x, y).ok().filter(|_| whole(x) && whole(y))?;
    Some((algorithms, key))
}

fn edwards(entry: &Value) -> Option<(&'static [Algorithm], DecodingKey)> {
    if entry["crv"] != "Ed25519" || bytes(&entry["x"])?.len() != 32 {
        return None;
    }
    let key = DecodingKey::from_ed_components(entry["x"].as_str()?).ok()?;
    Some((&[Algorithm::EdDSA], key))
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(value.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use Algorithm::{ES256, RS256};
    use serde_json::json;

    use super::*;
    use crate::identity::test_issuer::TestKey;

    fn kids(keys: &[Value]) -> Vec<String> {
        let body = json!({ "keys": keys }).to_string();
        let mut kids: Vec<String> = parse(body.as_bytes(), &[RS256, ES256]).unwrap_or_default().into_keys().collect();
        kids.sort();
        kids
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    #[test]
    fn keys_for_signatures_of_a_wanted_kind_are_taken_and_others_passed_over() {
        let (rsa, ec) = (TestKey::rsa("r").jwk(), TestKey::es256("e").jwk());
        assert_eq!(kids(&[rsa.clone(), ec.clone()]), ["e", "r"]);
        let passed_over = [
            with(rsa.clone(), "use", json!("enc")),
            with(rsa.clone(), "use", json!(1)),
            with(rsa.clone(), "key_ops", json!(["sign"])),
            with(rsa.clone(), "key_ops", json!("verify")),
            with(rsa.clone(), "alg", json!("RS512")),
            with(rsa.clone(), "alg", json!("HS256")),
            with(rsa.clone(), "alg", json!(null)),
            with(rsa.clone(), "kty", json!("EC")),
            with(rsa.clone(), "kty", json!("oct")),
            with(rsa.clone(), "kid", json!("")),
            with(rsa.clone(), "kid", json!("k".repeat(MAX_KID + 1))),
            with(rsa.clone(), "e", json!("AQ")),
            with(rsa.clone(), "e", json!("Ag")),
            with(ec.clone(), "crv", json!("P-384")),
            with(ec.clone(), "x", json!("AAAA")),
            json!(null),
            json!({ "kty": "oct", "kid": "s", "k": "AAAA" }),
        ];
        for key in passed_over {
            assert_eq!(kids(&[key.clone(), ec.clone()]), kids(std::slice::from_ref(&ec)), "{key}");
        }
    }

    #[test]
    fn a_weak_modulus_is_no_key() {
        let rsa = TestKey::rsa("r").jwk();
        let weak = URL_SAFE_NO_PAD.encode([0xffu8; 128]);
        let padded = [vec![0u8; 128], vec![0xffu8; 128]].concat();
        assert!(kids(&[with(rsa.clone(), "n", json!(weak))]).is_empty());
        assert!(kids(&[with(rsa.clone(), "n", json!(URL_SAFE_NO_PAD.encode(padded)))]).is_empty());
        assert!(kids(&[with(rsa, "n", json!(URL_SAFE_NO_PAD.encode([0u8; 256])))]).is_empty());
    }

    #[test]
    fn two_keys_of_one_name_are_neither() {
        let (first, second, other) = (TestKey::es256("k").jwk(), TestKey::es256("k").jwk(), TestKey::es256("o").jwk());
        assert_eq!(kids(&[first, second, other]), ["o"]);
    }

    #[test]
    fn a_set_that_is_none_or_too_large_is_refused() {
        for body in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#] {
            assert!(parse(body.as_bytes(), &[RS256]).is_err(), "{body}");
        }
        assert!(parse(&[0xff, 0xfe], &[RS256]).is_err());
        assert!(parse(br#"{"keys":[]}"#, &[RS256]).is_ok_and(|keys| keys.is_empty()));
        let other = json!({ "keys": [TestKey::es256("k").jwk()] }).to_string();
        assert!(parse(other.as_bytes(), &[RS256]).is_ok_and(|keys| keys.is_empty()), "none that is believed");
        let many: Vec<Value> = (0..=MAX_KEYS).map(|_| json!({})).collect();
        assert_eq!(parse(json!({ "keys": many }).to_string().as_bytes(), &[RS256]).unwrap_err(), "has too many keys");
    }
}
