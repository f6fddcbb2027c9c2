//! The JSON Schema of policies, generated from the types.
//!
//! Responsible for two readings of it: the effective policy, which has every key, and the document a user writes, which
//! may leave any out, slice sections by component and use the reference system's spellings. Must never state a bound
//! or a description of its own where the types can: they come from the attributes and comments there.

use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::policy::Policy;
use crate::slices::{SLICE_NAMES, SLICED_SECTIONS};

static EFFECTIVE: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(Policy).to_value());

/// Definitions whose entries users add by name and therefore give whole: nothing shipped stands beneath them.
const WHOLE: [&str; 3] = ["Budget", "NamedLimit", "RouteClassSettings"];

/// The schema of an effective policy: every key given, none sliced.
pub(crate) fn effective() -> &'static Value {
    &EFFECTIVE
}

/// The schema of the documents users write; published as `config/gateway.schema.json`.
#[must_use]
pub fn of_documents() -> Value {
    let mut schema = effective().clone();
    schema["title"] = json!("Portcullis gateway configuration");
    schema["description"] = json!("Merged over the shipped policy: write down only what differs.");
    schema.as_object_mut().map(|root| root.shift_remove("required"));
    if let Some(definitions) = schema["$defs"].as_object_mut() {
        for (_, definition) in definitions.iter_mut().filter(|(name, _)| !WHOLE.contains(&name.as_str())) {
            definition.as_object_mut().map(|map| map.shift_remove("required"));
        }
    }
    allow_other_spellings(&mut schema);
    for section in SLICED_SECTIONS {
        allow_slices(&mut schema, section);
    }
    schema
}

/// Lets a document use the spellings that `alias.rs` brings into the one form.
fn allow_other_spellings(schema: &mut Value) {
    let same_as = |name: &str, target: &str| json!({ "description": format!("Same as `{name}`."), "$ref": target });
    let whole = json!({ "description": "The whole document may stand under this key.", "$ref": "#" });
    schema["properties"]["gateway"] = whole;
    for (other, own) in [("tenant_id", "tenant"), ("project_id", "project")] {
        schema["properties"][other] = same_as(own, &format!("#/properties/{own}"));
    }
    let concurrency = "max_integrations_ops_concurrency";
    schema["$defs"]["Limits"]["properties"]["max_integrations_concurrency"] =
        same_as(concurrency, &format!("#/$defs/Limits/properties/{concurrency}"));
    let role = format!("^(?!(roles|named|{})$)[a-z][a-z0-9_-]{{0,31}}$", SLICE_NAMES.join("|"));
    schema["$defs"]["RateLimits"]["patternProperties"] = json!({ role: { "$ref": "#/$defs/RoleLimit" } });
}

/// Lets a section hold slices beside, or for a list instead of, its own content.
fn allow_slices(schema: &mut Value, section: &str) {
    let whole = schema["properties"][section].clone();
    let slices_of = |content: &Value| {
        let describe = |name: &&str| {
            let description = format!("What differs for this component ({name}).");
            let mut slice = content.clone();
            slice["description"] = json!(description);
            ((*name).to_owned(), slice)
        };
        SLICE_NAMES.iter().map(describe).collect::<serde_json::Map<_, _>>()
    };
    if let Some(pointer) = whole["$ref"].as_str().map(|r| r.trim_start_matches('#').to_owned()) {
        let slices = slices_of(&json!({ "$ref": whole["$ref"] }));
        if let Some(properties) = schema.pointer_mut(&format!("{pointer}/properties")).and_then(Value::as_object_mut) {
            properties.extend(slices);
        }
    } else {
        let list = json!({ "type": whole["type"], "items": whole["items"], "maxItems": whole["maxItems"] });
        let sliced = json!({ "type": "object", "properties": slices_of(&list), "additionalProperties": false });
        schema["properties"][section] = json!({ "description": whole["description"], "anyOf": [list, sliced] });
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn the_committed_schema_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.schema.json");
        let generated = serde_json::to_string_pretty(&of_documents()).unwrap() + "\n";
        if env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == generated, "run UPDATE_SCHEMA=1 cargo test -p portcullis-config, then commit the result");
    }

    #[test]
    fn every_key_of_the_policy_says_what_it_is_or_is_only_carried() {
        let carried = ["CircuitBreakers", "RedisLifetimes", "Pools", "PublishLimits"];
        let definitions = effective()["$defs"].as_object().unwrap();
        for (name, definition) in definitions.iter().filter(|(name, _)| !carried.contains(&name.as_str())) {
            for (key, property) in definition["properties"].as_object().into_iter().flatten() {
                assert!(property["description"].is_string(), "{name}.{key}");
            }
        }
    }

    #[test]
    fn every_number_of_the_policy_is_bounded() {
        let definitions = effective()["$defs"].as_object().unwrap();
        for (name, definition) in definitions {
            for (key, property) in definition["properties"].as_object().into_iter().flatten() {
                let kind = property["type"].to_string();
                if kind.contains("integer") || kind.contains("number") {
                    let least = property["minimum"].as_f64().or(property["exclusiveMinimum"].as_f64());
                    let most = property["maximum"].as_f64().or(property["exclusiveMaximum"].as_f64());
                    assert!(least.is_some() && most.is_some_and(|most| most < 9_007_199_254_740_992.0), "{name}.{key}");
                }
            }
        }
    }
}
