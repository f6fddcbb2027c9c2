//! Whether a document has the shape of a policy: known keys, right types, values within their bounds.
//!
//! Responsible for finding every such fault in one pass, which serde cannot: it stops at the first. The shape is the
//! JSON Schema generated from the types, so that it cannot disagree with them. Must never look at two values at once:
//! relations are the business of `check.rs`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

use crate::fault::{Fault, Flaw, Path, nearest};

/// Every fault of shape in a document of another kind than the policy, by the schema of its types.
#[must_use]
pub fn shape_faults(document: &Value, schema: &Value) -> Vec<Fault> {
    faults(document, schema).into_iter().map(Fault::from).collect()
}

/// Every fault of shape in this document.
pub(crate) fn faults(document: &Value, schema: &Value) -> Vec<Flaw> {
    let mut walk = Walk { root: schema, faults: Vec::new() };
    walk.value(document, schema, &Path::default());
    walk.faults
}

struct Walk<'a> {
    root: &'a Value,
    faults: Vec<Flaw>,
}

impl<'a> Walk<'a> {
    fn fault(&mut self, path: &Path, message: impl Into<String>) {
        self.faults.push(Flaw::at(path, message));
    }

    fn value(&mut self, value: &Value, schema: &'a Value, path: &Path) {
        let schema = self.resolve(schema);
        if let Some(names) = choices(schema) {
            return self.choice(value, &names, path);
        }
        match kind(schema) {
            "object" => self.object(value, schema, path),
            "array" => self.list(value, schema, path),
            "string" => self.string(value, schema, path),
            "boolean" if !value.is_boolean() => self.fault(path, expected("true or false", value)),
            "integer" => match value.as_number().filter(|n| n.is_u64() || n.is_i64()) {
                Some(_) => self.bounds(value, schema, path),
                None => self.fault(path, expected("a whole number", value)),
            },
            "number" if value.is_number() => self.bounds(value, schema, path),
            "number" => self.fault(path, expected("a number", value)),
            _ => {}
        }
    }

    fn object(&mut self, value: &Value, schema: &'a Value, path: &Path) {
        let Some(map) = value.as_object() else {
            return self.fault(path, expected("an object", value));
        };
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let by_pattern = schema["patternProperties"].as_object().and_then(|patterns| patterns.iter().next());
        let key_pattern =
            schema["propertyNames"]["pattern"].as_str().or(by_pattern.map(|(pattern, _)| pattern.as_str()));
        let entries = by_pattern.map(|(_, entry)| entry).or_else(|| schema.get("additionalProperties"));

        for (key, inner) in map {
            let place = path.key(key);
            if properties.contains_key(key) {
                self.value(inner, &schema["properties"][key], &place);
            } else if let Some(pattern) = key_pattern.filter(|pattern| !matches(pattern, key)) {
                self.fault(&place, format!("not a valid name: it must match {pattern}"));
            } else if let Some(entry) = entries.filter(|entry| entry.is_object()) {
                self.value(inner, entry, &place);
            } else {
                self.fault(&place, unknown("key", key, properties.keys().map(String::as_str)));
            }
        }
        self.count(map.len(), &schema["maxProperties"], path);
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for key in required.filter(|key| !map.contains_key(*key)) {
            self.fault(&path.key(key), "missing");
        }
    }

    fn list(&mut self, value: &Value, schema: &'a Value, path: &Path) {
        let Some(elements) = value.as_array() else {
            return self.fault(path, expected("a list", value));
        };
        self.count(elements.len(), &schema["maxItems"], path);
        for (index, element) in elements.iter().enumerate() {
            self.value(element, &schema["items"], &path.index(index));
        }
    }

    fn string(&mut self, value: &Value, schema: &Value, path: &Path) {
        let Some(text) = value.as_str() else {
            return self.fault(path, expected("a string", value));
        };
        if schema["minLength"].as_u64().is_some_and(|least| (text.chars().count() as u64) < least) {
            self.fault(path, "must not be empty");
        }
        if let Some(pattern) = schema["pattern"].as_str().filter(|pattern| !matches(pattern, text)) {
            self.fault(path, format!("{text:?} must match {pattern}"));
        }
    }

    fn choice(&mut self, value: &Value, names: &[&str], path: &Path) {
        match value.as_str() {
            Some(text) if names.contains(&text) => {}
            Some(text) => {
                let like = nearest(text, names.iter().copied()).unwrap_or_default();
                self.fault(path, format!("must be one of {}; {text:?} is nearest to {like:?}", names.join(", ")));
            }
            None => self.fault(path, expected(&format!("one of {}", names.join(", ")), value)),
        }
    }

    fn count(&mut self, entries: usize, most: &Value, path: &Path) {
        if let Some(most) = most.as_u64().filter(|most| entries as u64 > *most) {
            self.fault(path, format!("must have at most {most} entries, has {entries}"));
        }
    }

    fn bounds(&mut self, value: &Value, schema: &Value, path: &Path) {
        let Some(number) = value.as_f64() else { return };
        let bound = |name: &str| schema[name].as_f64();
        let broken = [
            ("at least", bound("minimum").filter(|least| number < *least)),
            ("above", bound("exclusiveMinimum").filter(|least| number <= *least)),
            ("at most", bound("maximum").filter(|most| number > *most)),
            ("below", bound("exclusiveMaximum").filter(|most| number >= *most)),
        ];
        for (relation, limit) in broken {
            if let Some(limit) = limit {
                self.fault(path, format!("must be {relation} {limit}, is {value}"));
            }
        }
    }

    /// Follows references, and steps over the null of an optional value.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        loop {
            let referred = schema["$ref"].as_str().and_then(|r| self.root.pointer(r.trim_start_matches('#')));
            let present = || schema["anyOf"].as_array()?.iter().find(|option| option["type"] != "null");
            match referred.or_else(present) {
                Some(inner) => schema = inner,
                None => return schema,
            }
        }
    }
}

/// The names an enum allows, whether its variants are documented or not.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(names) = schema["enum"].as_array() {
        return Some(names.iter().filter_map(Value::as_str).collect());
    }
    Some(schema["oneOf"].as_array()?.iter().filter_map(|variant| variant["const"].as_str()).collect())
}

/// The type of a value, leaving out the null of an optional one.
fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|t| *t != "null").unwrap_or_default(),
        single => single.as_str().unwrap_or_default(),
    }
}

/// Patterns of the schema, of which there are few, compiled: every name in every document is matched by one.
static COMPILED: Mutex<BTreeMap<String, Option<Regex>>> = Mutex::new(BTreeMap::new());

fn matches(pattern: &str, text: &str) -> bool {
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = match compiled.get(pattern) {
        Some(regex) => regex.clone(),
        None => compiled.entry(pattern.to_owned()).or_insert(Regex::new(pattern).ok()).clone(),
    };
    drop(compiled);
    regex.is_some_and(|regex| regex.is_match(text))
}

/// Says what was found by its kind, and by value only where it is short and cannot be a secret.
pub(crate) fn expected(what: &str, found: &Value) -> String {
    match found {
        Value::Null => format!("must be {what}, is null"),
        Value::Bool(_) | Value::Number(_) => format!("must be {what}, is {found}"),
        Value::String(_) => format!("must be {what}, is a string"),
        Value::Array(_) => format!("must be {what}, is a list"),
        Value::Object(_) => format!("must be {what}, is an object"),
    }
}

/// Says that a name is not known and which known one is most like it.
pub(crate) fn unknown<'k>(what: &str, name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
    match nearest(name, known) {
        Some(like) => format!("unknown {what} {name:?}; the nearest known one is {like:?}"),
        None => format!("unknown {what} {name:?}"),
    }
}
