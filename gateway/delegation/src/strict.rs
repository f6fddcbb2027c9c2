//! JSON and base64url in exactly one reading.
//!
//! Responsible for refusing what another reader might read otherwise: a list where an object belongs, a `null` where a
//! member should be absent, padding, bits left over. Must never know what is read. Members that are unknown or stand
//! twice are refused by the types themselves, which deny unknown fields.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

/// Base64url without padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of unpadded base64url in its only canonical form.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// As [`decode`], for exactly `N` bytes.
pub(crate) fn decode_exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Checked first: nothing is decoded that cannot be right.
    if text.len() != (N * 8).div_ceil(6) {
        return None;
    }
    decode(text)?.try_into().ok()
}

/// SHA-256 of the bytes, in base64url.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    encode(&Sha256::digest(bytes))
}

/// The object that these bytes are the JSON of.
pub(crate) fn from_json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Option<T> {
    serde_json::from_slice::<Object<T>>(bytes).ok().map(|object| object.0)
}

/// A member that may be absent, but not `null`.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// A member that is an object.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<T, D::Error> {
    Object::deserialize(source).map(|object: Object<T>| object.0)
}

/// A member that is an object if it is there.
pub(crate) fn present_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    object(source).map(Some)
}

/// A member that is a list of objects.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Vec<T>, D::Error> {
    let list = Vec::<Object<T>>::deserialize(source)?;
    Ok(list.into_iter().map(|object| object.0).collect())
}

/// Reads an object only from an object: serde's structs can be read from a list of their values too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        source.deserialize_map(OfMap(PhantomData)).map(Self)
    }
}

struct OfMap<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OfMap<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        n: u64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(deserialize_with = "object")]
        inner: Inner,
        #[serde(default, deserialize_with = "present_object")]
        other: Option<Inner>,
        #[serde(default, deserialize_with = "present")]
        word: Option<String>,
        #[serde(default, deserialize_with = "objects")]
        list: Vec<Inner>,
    }

    fn read(text: &str) -> Option<Outer> {
        from_json(text.as_bytes())
    }

    #[test]
    fn an_object_is_read_in_one_way_only() {
        let all = read(r#"{"inner":{"n":1},"other":{"n":2},"word":"w","list":[{"n":3}]}"#).unwrap();
        let expected = Outer {
            inner: Inner { n: 1 },
            other: Some(Inner { n: 2 }),
            word: Some("w".into()),
            list: vec![Inner { n: 3 }],
        };
        assert_eq!(all, expected);
        assert_eq!(read(r#"{"inner":{"n":1}}"#).unwrap().other, None);
        let refused = [
            r#"[{"n":1}]"#,
            r#"{"inner":[1]}"#,
            r#"{"inner":{"n":1},"other":null}"#,
            r#"{"inner":{"n":1},"other":[1]}"#,
            r#"{"inner":{"n":1},"word":null}"#,
            r#"{"inner":{"n":1},"list":[[1]]}"#,
            r#"{"inner":{"n":1},"list":null}"#,
            r#"{"inner":{"n":1,"n":1}}"#,
            r#"{"inner":{"n":1},"inner":{"n":1}}"#,
            r#"{"inner":{"n":1},"\u0069nner":{"n":1}}"#,
            r#"{"inner":{"n":1},"more":1}"#,
            r#"{"inner":{"n":1.0}}"#,
            r#"{"inner":{"n":1}} x"#,
        ];
        for text in refused {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn base64url_is_unpadded_and_canonical() {
        assert_eq!(decode("-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(decode_exactly::<2>("-_8"), Some([0xfb, 0xff]));
        for text in ["-_8=", "-_9", "+/8", "-_8 ", " -_8", "-_8\n", "-"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
        assert_eq!(decode_exactly::<3>("-_8"), None);
    }
}
