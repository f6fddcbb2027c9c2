//! What a document leaves to the environment: its tenant and project, its instance, its Redis.
//!
//! Responsible for the placeholders of these four. Must never read the environment itself: it is handed in.

use serde_json::Value;

use crate::fault::{Flaw, Path};

/// Words that stand for a name when they stand in its place bare.
const BARE: [&str; 5] = ["TENANT_ID", "PROJECT_ID", "DEFAULT_PROJECT_NAME", "TENANT", "PROJECT"];

/// Puts in what the environment says; what it does not say is a flaw.
pub(crate) fn resolve(document: &mut Value, env: &impl Fn(&str) -> Option<String>) -> Vec<Flaw> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let mut flaws = Vec::new();
    flaws.extend(scope_name(document, "tenant", &["TENANT_ID"], &env));
    flaws.extend(scope_name(document, "project", &["PROJECT_ID", "DEFAULT_PROJECT_NAME"], &env));
    if let Some(instance) = env("INSTANCE_ID") {
        document["instance_id"] = instance.into();
    }
    for key in ["instance_id", "redis_url"] {
        let Some(text) = document.get(key).and_then(Value::as_str) else { continue };
        match substitute(text, &env) {
            Ok(resolved) => document[key] = resolved.into(),
            Err(name) => {
                flaws.push(Flaw::at(&Path::of(key), format!("the environment has no {name}")));
                document.as_object_mut().map(|map| map.shift_remove(key));
            }
        }
    }
    flaws
}

/// Resolves the tenant or project; `variables` are asked when it is not given or its placeholder names no variable.
fn scope_name(
    document: &mut Value,
    key: &str,
    variables: &[&str],
    env: &impl Fn(&str) -> Option<String>,
) -> Option<Flaw> {
    let written = match document.get(key) {
        Some(Value::String(text)) => text.trim().to_owned(),
        None => String::new(),
        Some(_) => return None,
    };
    let inner = written.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    let placeholder =
        inner.or_else(|| (written.is_empty() || BARE.contains(&written.as_str())).then_some(written.as_str()));
    let name = placeholder?;
    let resolved =
        Some(name).filter(|name| !name.is_empty()).and_then(env).or_else(|| variables.iter().find_map(|v| env(v)));
    match resolved {
        Some(value) => {
            document[key] = value.into();
            None
        }
        None => Some(Flaw::at(&Path::of(key), format!("missing: name it here or set {}", variables.join(" or ")))),
    }
}

/// Replaces each `{{NAME}}` by its value, or says which variable is not set.
fn substitute(text: &str, env: &impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut resolved = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        resolved.push_str(before);
        resolved.push_str(&env(name.trim()).ok_or_else(|| name.trim().to_owned())?);
        rest = after;
    }
    Ok(resolved + rest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(name: &str) -> Option<String> {
        let value = match name {
            "TENANT_ID" => "acme",
            "DEFAULT_PROJECT_NAME" => "shop",
            "OTHER" => "else",
            "PROJECT_ID" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn resolved(mut document: Value) -> Value {
        assert_eq!(resolve(&mut document, &env), []);
        document
    }

    #[test]
    fn every_form_of_placeholder_is_resolved() {
        for (tenant, project) in [
            ("{{TENANT_ID}}", "{{ PROJECT_ID }}"),
            ("TENANT", "PROJECT"),
            ("TENANT_ID", "DEFAULT_PROJECT_NAME"),
            ("", " "),
        ] {
            let document = resolved(json!({"tenant": tenant, "project": project}));
            assert_eq!(document, json!({"tenant": "acme", "project": "shop"}), "{tenant} {project}");
        }
        assert_eq!(resolved(json!({})), json!({"tenant": "acme", "project": "shop"}));
        assert_eq!(resolved(json!({"tenant": "{{OTHER}}"}))["tenant"], "else");
        assert_eq!(resolved(json!({"tenant": "own"}))["tenant"], "own");
    }

    #[test]
    fn what_stays_unresolved_is_a_flaw_at_its_place() {
        let mut document = json!({"tenant": "{{TENANT_ID}}", "redis_url": "redis://:{{SECRET}}@host"});
        let places: Vec<_> = resolve(&mut document, &|_| None).into_iter().map(|flaw| flaw.path.to_string()).collect();
        assert_eq!(places, ["tenant", "project", "redis_url"]);
    }

    #[test]
    fn the_environment_names_the_instance() {
        let mut document = json!({"tenant": "a", "project": "b", "instance_id": "written"});
        let env = |name: &str| (name == "INSTANCE_ID").then(|| "pod-7".to_owned());
        assert_eq!(resolve(&mut document, &env), []);
        assert_eq!(document["instance_id"], "pod-7");
    }

    #[test]
    fn placeholders_inside_a_url_are_replaced() {
        let url = resolved(json!({"redis_url": "redis://:{{ OTHER }}@host/{{TENANT_ID}}"}))["redis_url"].clone();
        assert_eq!(url, "redis://:else@host/acme");
    }
}
