//! Other spellings of a document that mean the same.
//!
//! Responsible for bringing the reference system's spellings into the one form that the types have: the top-level
//! `gateway:`, `tenant_id`, roles directly under `rate_limits`, `max_integrations_concurrency`. Must never drop what it
//! does not understand: that stays where it is, to be named as an unknown key.

use serde_json::{Map, Value};

use crate::fault::{Flaw, Path};
use crate::identity::UserType;
use crate::shape::expected;
use crate::slices::SLICE_NAMES;

/// The document in the one form that the types have.
pub(crate) fn canonical(document: Value) -> (Value, Vec<Flaw>) {
    canonical_over(document, &Value::Null)
}

/// A patch in the one form, for a document that may declare user types which the patch gives limits.
pub(crate) fn canonical_over(document: Value, beneath: &Value) -> (Value, Vec<Flaw>) {
    let mut flaws = Vec::new();
    let mut map = match unwrap_gateway(document, &mut flaws) {
        Value::Object(map) => map,
        other => {
            flaws.push(Flaw::at(&Path::default(), expected("an object", &other)));
            Map::new()
        }
    };
    let root = Path::default();
    rename(&mut map, "tenant_id", "tenant", &root, &mut flaws);
    rename(&mut map, "project_id", "project", &root, &mut flaws);

    let types = [map.get("user_types"), beneath.get("user_types")].into_iter().flatten().filter_map(Value::as_object);
    let declared: Vec<String> = types.flat_map(|types| types.keys().cloned()).collect();
    for_slices(&mut map, "rate_limits", |limits, place| gather_roles(limits, &declared, place, &mut flaws));
    for_slices(&mut map, "limits", |limits, place| {
        rename(limits, "max_integrations_concurrency", "max_integrations_ops_concurrency", place, &mut flaws);
    });
    (Value::Object(map), flaws)
}

/// The document under a top-level `gateway`, if it stands there.
fn unwrap_gateway(mut document: Value, flaws: &mut Vec<Flaw>) -> Value {
    let Some(map) = document.as_object_mut() else { return document };
    let Some(inner) = map.shift_remove("gateway") else { return document };
    for key in map.keys() {
        flaws.push(Flaw::at(
            &Path::default().key(key),
            "stands beside \"gateway\", which must then hold the whole document",
        ));
    }
    inner
}

/// Gives a key its own name, unless both are there and disagree.
fn rename(map: &mut Map<String, Value>, other: &str, own: &str, place: &Path, flaws: &mut Vec<Flaw>) {
    let Some(value) = map.shift_remove(other) else { return };
    match map.get(own) {
        Some(present) if *present != value => {
            flaws.push(Flaw::at(&place.key(other), format!("disagrees with {own:?}, which is the same thing")));
        }
        Some(_) => {}
        None => {
            map.insert(own.to_owned(), value);
        }
    }
}

/// Moves roles that stand directly in the section under `roles`.
fn gather_roles(limits: &mut Map<String, Value>, declared: &[String], place: &Path, flaws: &mut Vec<Flaw>) {
    let is_role = |key: &str, value: &Value| {
        let known = UserType::BUILT_IN.contains(&key) || declared.iter().any(|name| name == key);
        let has_limits = ["hourly", "burst", "burst_window"].iter().any(|limit| value.get(limit).is_some());
        !SLICE_NAMES.contains(&key) && !matches!(key, "roles" | "named") && (known || has_limits)
    };
    let direct: Vec<String> =
        limits.iter().filter(|(key, value)| is_role(key, value)).map(|(key, _)| key.clone()).collect();
    if direct.is_empty() {
        return;
    }
    let mut roles = match limits.shift_remove("roles") {
        None => Map::new(),
        Some(Value::Object(roles)) => roles,
        Some(other) => {
            limits.insert("roles".to_owned(), other);
            return;
        }
    };
    for key in direct {
        let Some(role) = limits.shift_remove(&key) else { continue };
        if roles.contains_key(&key) {
            flaws.push(Flaw::at(&place.key(&key), "stands here and under \"roles\""));
        } else {
            roles.insert(key, role);
        }
    }
    limits.insert("roles".to_owned(), Value::Object(roles));
}

/// Does the same to a section and to each of its slices.
fn for_slices(map: &mut Map<String, Value>, section: &str, mut change: impl FnMut(&mut Map<String, Value>, &Path)) {
    let Some(content) = map.get_mut(section).and_then(Value::as_object_mut) else { return };
    let place = Path::of(section);
    for name in SLICE_NAMES {
        if let Some(slice) = content.get_mut(name).and_then(Value::as_object_mut) {
            change(slice, &place.key(name));
        }
    }
    change(content, &place);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn clean(document: Value) -> Value {
        let (document, flaws) = canonical(document);
        assert_eq!(flaws, []);
        document
    }

    #[test]
    fn the_reference_systems_spellings_come_into_one_form() {
        let written = json!({"gateway": {
            "tenant_id": "acme", "project_id": "shop",
            "rate_limits": {"paid": {"burst": 1}, "proc": {"anonymous": {"burst": 2}}},
            "limits": {"processor": {"max_integrations_concurrency": 3}},
        }});
        let one_form = json!({
            "tenant": "acme", "project": "shop",
            "rate_limits": {"roles": {"paid": {"burst": 1}}, "proc": {"roles": {"anonymous": {"burst": 2}}}},
            "limits": {"processor": {"max_integrations_ops_concurrency": 3}},
        });
        assert_eq!(clean(written), one_form);
        assert_eq!(clean(one_form.clone()), one_form);
    }

    #[test]
    fn a_declared_type_is_a_role_and_an_unknown_key_stays_where_it_is() {
        let written =
            json!({"user_types": {"gold": {}}, "rate_limits": {"gold": {}, "rolls": {}, "siver": {"burst": 1}}});
        let roles = json!({"rolls": {}, "roles": {"gold": {}, "siver": {"burst": 1}}});
        assert_eq!(clean(written)["rate_limits"], roles);
    }

    #[test]
    fn two_spellings_that_disagree_are_a_fault() {
        let written = json!({
            "tenant": "a", "tenant_id": "b", "project": "p", "project_id": "p",
            "rate_limits": {"roles": {"paid": {"burst": 1}}, "paid": {"burst": 2}},
        });
        let (_, flaws) = canonical(written);
        let places: Vec<String> = flaws.iter().map(|flaw| flaw.path.to_string()).collect();
        assert_eq!(places, ["tenant_id", "rate_limits.paid"]);
    }

    #[test]
    fn nothing_stands_beside_gateway() {
        let (document, flaws) = canonical(json!({"gateway": {"tenant": "a"}, "queue": {}}));
        assert_eq!(document, json!({"tenant": "a"}));
        assert_eq!(flaws[0].path.to_string(), "queue");
    }
}
