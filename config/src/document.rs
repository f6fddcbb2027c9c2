//! Documents as values: reading JSON and YAML, reaching into them, merging one over another.
//!
//! Responsible for reading strictly: a key given twice with two values, a key that is no string and a number that is
//! not finite are errors, because each of them silently loses something the author wrote. Must never know what the keys
//! mean.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::fault::{Path, Step};

/// Reads a JSON document; a key given two values is an error.
pub fn from_json(text: &str) -> Result<Value, String> {
    serde_json::from_str::<Strict>(text).map(|strict| strict.0).map_err(|e| e.to_string())
}

/// Reads a YAML document; aliases and `<<` merges are resolved.
pub(crate) fn from_yaml(text: &str) -> Result<Value, String> {
    let mut value: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    value.apply_merge().map_err(|e| e.to_string())?;
    Strict::deserialize(value).map(|strict| strict.0).map_err(|e| e.to_string())
}

/// Reads a document that is JSON if it looks like JSON and can be read so, else YAML.
pub fn from_either(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        from_json(text).or_else(|json_error| from_yaml(text).map_err(|_| json_error))
    } else {
        from_yaml(text)
    }
}

/// Merges a patch into a document (RFC 7396): objects key by key, null removes a key, all else replaces.
pub fn merge_patch(document: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *document = patch.clone();
        return;
    };
    if !document.is_object() {
        *document = Value::Object(Map::new());
    }
    let Value::Object(target) = document else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge_patch(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

/// Takes away every key whose value is null: it is as if it had not been given.
pub(crate) fn strip_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, inner| !inner.is_null());
        map.values_mut().for_each(strip_nulls);
    }
}

/// The value at this place, if there is one.
pub(crate) fn at<'a>(value: &'a Value, path: &Path) -> Option<&'a Value> {
    path.steps().iter().try_fold(value, |inner, step| match step {
        Step::Key(key) => inner.get(key),
        Step::Index(index) => inner.get(index),
    })
}

/// Puts what `shipped` holds back in the place of a faulty value, or takes away the entry that `shipped` does not know;
/// returns the place that was put right. What follows can then be checked as if the fault were mended.
pub(crate) fn restore(document: &mut Value, shipped: &Value, faulty: &Path) -> Path {
    let mut depth = 0;
    let (mut target, mut source) = (document, shipped);
    for (position, step) in faulty.steps().iter().enumerate() {
        // A list is put back as a whole: its elements have no counterpart.
        let Step::Key(key) = step else { break };
        let last = position + 1 == faulty.steps().len();
        depth = position + 1;
        let Some(map) = target.as_object_mut() else { break };
        match source.get(key) {
            Some(inner) if last || !inner.is_object() => {
                map.insert(key.clone(), inner.clone());
                break;
            }
            Some(inner) => (target, source) = (map.entry(key.as_str()).or_insert(Value::Null), inner),
            None => {
                map.shift_remove(key);
                break;
            }
        }
    }
    Path::from_steps(&faulty.steps()[..depth])
}

/// A value read strictly.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            // The reference system's samples repeat a section word for word, which loses nothing.
            if map.get(&key).is_some_and(|given| *given != value) {
                return Err(de::Error::custom(format!("key {key:?} is given twice, with different values")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_would_silently_lose_something_is_an_error() {
        for text in [r#"{"a": 1, "a": 2}"#, r#"{"a": 1"#, r#"{"a": {"b": 1, "b": 2}}"#, ""] {
            assert!(from_json(text).is_err(), "{text}");
        }
        for text in ["a: 1\na: 2", "1: a", "a: .nan", "a: [", "a: 1\n---\nb: 1", "a: !secret x"] {
            assert!(from_yaml(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_repeated_with_its_value_loses_nothing() {
        assert_eq!(from_json(r#"{"a": {"b": 1}, "a": {"b": 1}}"#), Ok(json!({"a": {"b": 1}})));
    }

    #[test]
    fn yaml_anchors_and_merges_are_resolved() {
        let text = "base: &base { hourly: 1 }\npaid:\n  <<: *base\n  burst: 2\n";
        assert_eq!(from_yaml(text).unwrap()["paid"], json!({"hourly": 1, "burst": 2}));
    }

    #[test]
    fn either_form_is_read_and_a_slip_in_json_is_told_as_one_in_json() {
        assert_eq!(from_either("a: 1"), Ok(json!({"a": 1})));
        assert_eq!(from_either(" {\"a\": 1}"), Ok(json!({"a": 1})));
        assert_eq!(from_either("{a: 1}"), Ok(json!({"a": 1})));
        assert!(from_either("{\"a\": 1 \"b\": 2}").unwrap_err().contains("line 1 column"));
    }

    #[test]
    fn a_patch_merges_objects_replaces_lists_and_removes_by_null() {
        let mut document = json!({"a": {"b": 1, "c": 2}, "l": [1, 2], "d": 1});
        merge_patch(&mut document, &json!({"a": {"b": 3, "n": {"x": null}}, "l": [9], "d": null}));
        assert_eq!(document, json!({"a": {"b": 3, "c": 2, "n": {}}, "l": [9]}));
    }

    #[test]
    fn a_faulty_value_is_restored_and_an_unknown_entry_taken_away() {
        let shipped = json!({"roles": {"paid": {"burst": 1}}, "list": []});
        let mut document = json!({"roles": {"paid": {"burst": "x"}, "gold": {"burst": "x"}}, "list": [1, 2], "odd": 1});
        let mut put_right = |path: Path| restore(&mut document, &shipped, &path).to_string();
        assert_eq!(put_right(Path::of("roles.paid.burst")), "roles.paid.burst");
        assert_eq!(put_right(Path::of("roles.gold.hourly")), "roles.gold");
        assert_eq!(put_right(Path::of("list").index(1)), "list");
        assert_eq!(put_right(Path::of("odd")), "odd");
        assert_eq!(document, shipped);
    }
}
