//! The settings that exist, taken from the schema of the effective policy.
//!
//! Responsible for naming each once: `user_types.*.weight`, where `*` is a name of the author's own. Must never list a
//! setting by hand.

use portcullis_config::Policy;
use serde_json::Value;

/// A setting and what its values look like.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Its place, without slices.
    pub(crate) path: String,
    /// The schema of its value, with references followed.
    pub(crate) schema: Value,
}

/// Every setting.
pub(crate) fn all() -> Vec<Leaf> {
    let root = schemars::schema_for!(Policy).to_value();
    let mut leaves = Vec::new();
    walk(&root, &root, String::new(), &mut leaves);
    leaves
}

fn walk(root: &Value, schema: &Value, path: String, leaves: &mut Vec<Leaf>) {
    let schema = resolved(root, schema);
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let properties = schema["properties"].as_object();
    let patterns = schema["patternProperties"].as_object().and_then(|patterns| patterns.values().next());
    let entry = patterns.or_else(|| schema.get("additionalProperties").filter(|entry| entry.is_object()));
    match (properties, entry) {
        (Some(properties), _) => {
            properties.iter().for_each(|(key, inner)| walk(root, inner, below(key), leaves));
        }
        (None, Some(entry)) => walk(root, entry, below("*"), leaves),
        (None, None) => leaves.push(Leaf { path, schema: schema.clone() }),
    }
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(target) = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        return resolved(root, target);
    }
    match schema["anyOf"].as_array().and_then(|options| options.iter().find(|option| option["type"] != "null")) {
        Some(present) => resolved(root, present),
        None => schema,
    }
}
