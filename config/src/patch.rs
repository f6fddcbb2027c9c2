//! How a patch lands on a written document.
//!
//! Responsible for what a patch means where a section is sliced: a value given for both components goes before what
//! the slices of the document say of it, a list for one component leaves the other's alone, and slices meet whatever
//! they are called. Must never lose where its author wrote a value: faults are told there.

use serde_json::{Map, Value};

use crate::alias;
use crate::document::{merge_patch, strip_nulls};
use crate::fault::{Flaw, Path, Step};
use crate::slices::{Component, SLICE_NAMES, SLICED_SECTIONS, holds_list, slice_of};

/// A patch in the form of the document it is for.
#[derive(Debug)]
pub(crate) struct Patch {
    /// What it says; null takes a key away.
    pub(crate) content: Value,
    moved: Vec<Moved>,
}

/// A slice of the patch that goes by another name in the document.
#[derive(Debug)]
struct Moved {
    section: &'static str,
    slice: String,
    /// Its name in the patch; `None` if the section itself is meant, by a `component` beside it.
    written: Option<String>,
}

impl Patch {
    /// Reads a patch for this document, which is in its one form.
    ///
    /// A `component` in it says whose slices its sections are, as in the reference system's updates.
    pub(crate) fn read(mut patch: Value, document: &Value) -> (Self, Vec<Flaw>) {
        let mut flaws = Vec::new();
        let beside = take_component(&mut patch, &mut flaws);
        let (mut content, found) = alias::canonical_over(patch, document);
        flaws.extend(found);
        let inside = take_component(&mut content, &mut flaws);
        let component = beside.or(inside);
        let mut moved = Vec::new();
        for section in SLICED_SECTIONS {
            let Some(change) = content.get_mut(section) else { continue };
            let name = name_in(document, section);
            if let Some(component) = component {
                match into_slice(change, section, component, name.as_deref()) {
                    Ok(own) => moved.extend(own),
                    Err(flaw) => flaws.push(flaw),
                }
            }
            moved.extend(rename_slice(change, section, name.as_deref()));
        }
        (Self { content, moved }, flaws)
    }

    /// A document that is merged over nothing.
    pub(crate) fn whole(mut document: Value) -> (Self, Vec<Flaw>) {
        strip_nulls(&mut document);
        let (content, flaws) = alias::canonical(document);
        (Self { content, moved: Vec::new() }, flaws)
    }

    /// Takes a key out of it, with what it says there but null.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.content.as_object_mut()?.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Merges it into the document (RFC 7396, and what the module says of slices).
    pub(crate) fn apply(&self, document: &mut Value) {
        for section in SLICED_SECTIONS {
            let (Some(Value::Object(change)), Some(current)) = (self.content.get(section), document.get_mut(section))
            else {
                continue;
            };
            if holds_list(section) {
                give_each_its_list(current);
            } else if let Some(current) = current.as_object_mut() {
                make_way(current, change);
            }
        }
        merge_patch(document, &self.content);
    }

    /// Where a place of the patched document stands in the patch as it was written.
    pub(crate) fn place_in(&self, place: &Path) -> Path {
        let [Step::Key(section), Step::Key(slice), inner @ ..] = place.steps() else { return place.clone() };
        let Some(moved) = self.moved.iter().find(|moved| moved.section == section && moved.slice == *slice) else {
            return place.clone();
        };
        let outer = [Some(section), moved.written.as_ref()].into_iter().flatten().map(|key| Step::Key(key.clone()));
        Path::from_steps(&outer.chain(inner.iter().cloned()).collect::<Vec<_>>())
    }
}

fn take_component(patch: &mut Value, flaws: &mut Vec<Flaw>) -> Option<Component> {
    let flaw = |message: String| Flaw::at(&Path::of("component"), message);
    match patch.as_object_mut()?.shift_remove("component")? {
        Value::Null => None,
        Value::String(name) => name.parse().map_err(|e: crate::UnknownComponent| flaws.push(flaw(e.to_string()))).ok(),
        other => {
            flaws.push(flaw(crate::shape::expected("the name of a component", &other)));
            None
        }
    }
}

/// What the slice of the processors is called in this section of the document, if it has one, or will have: a list for
/// both becomes one for each.
fn name_in(document: &Value, section: &str) -> Option<String> {
    match document.get(section)? {
        Value::Array(_) if holds_list(section) => Some(Component::Proc.to_string()),
        content => slice_of(content.as_object()?, Component::Proc).map(|(name, _)| name.to_owned()),
    }
}

/// Moves what a section says of no component by name into the slice of this one.
fn into_slice(
    change: &mut Value,
    section: &'static str,
    component: Component,
    proc_name: Option<&str>,
) -> Result<Option<Moved>, Flaw> {
    let named = component.to_string();
    let name = proc_name.filter(|_| component == Component::Proc).unwrap_or(&named);
    let mut slices = Map::new();
    let own = match change.take() {
        Value::Object(mut content) => {
            for slice in SLICE_NAMES {
                slices.extend(content.shift_remove_entry(slice));
            }
            if content.is_empty() && !slices.is_empty() {
                *change = Value::Object(slices);
                return Ok(None);
            }
            Value::Object(content)
        }
        other => other,
    };
    let given = slices.keys().find(|slice| slice.parse() == Ok(component)).cloned();
    slices.insert(name.to_owned(), own);
    *change = Value::Object(slices);
    match given {
        Some(slice) => {
            let message = format!("what stands beside it is meant for {component} too, by \"component\"");
            Err(Flaw::at(&Path::of(section).key(&slice), message))
        }
        None => Ok(Some(Moved { section, slice: name.to_owned(), written: None })),
    }
}

/// Calls the slice of the processors what the document calls it.
fn rename_slice(change: &mut Value, section: &'static str, proc_name: Option<&str>) -> Option<Moved> {
    let (change, name) = (change.as_object_mut()?, proc_name?);
    if change.contains_key(name) {
        return None;
    }
    let (written, _) = slice_of(change, Component::Proc)?;
    let slice = change.shift_remove(written)?;
    change.insert(name.to_owned(), slice);
    Some(Moved { section, slice: name.to_owned(), written: Some(written.to_owned()) })
}

/// Turns a list for both components into one for each, so that one of them can be replaced.
fn give_each_its_list(current: &mut Value) {
    if current.is_array() {
        let list = current.take();
        *current = Component::ALL.map(|component| (component.to_string(), list.clone())).into_iter().collect();
    }
}

/// Takes out of the slices of a section what a change says for both components.
fn make_way(section: &mut Map<String, Value>, change: &Map<String, Value>) {
    let is_shared = |key: &String| !SLICE_NAMES.contains(&key.as_str());
    for slice in SLICE_NAMES {
        if let Some(slice) = section.get_mut(slice).and_then(Value::as_object_mut) {
            change.iter().filter(|(key, _)| is_shared(key)).for_each(|(key, value)| take_out(slice, key, value));
        }
    }
}

fn take_out(slice: &mut Map<String, Value>, key: &str, change: &Value) {
    let emptied = match (slice.get_mut(key), change) {
        (Some(Value::Object(inner)), Value::Object(change)) => {
            change.iter().for_each(|(key, value)| take_out(inner, key, value));
            inner.is_empty() && !change.is_empty()
        }
        _ => true,
    };
    if emptied {
        slice.shift_remove(key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(mut document: Value, patch: Value) -> Value {
        let (patch, flaws) = Patch::read(patch, &document);
        assert_eq!(flaws, []);
        patch.apply(&mut document);
        document
    }

    #[test]
    fn a_value_for_both_goes_before_what_the_slices_say() {
        let document = json!({"limits": {"a": 1, "ingress": {"a": 2, "b": 1}, "proc": {"n": {"x": 1}, "b": 2}}});
        let patch = json!({"limits": {"a": 5, "n": {"x": 6}}});
        let expected = json!({"limits": {"a": 5, "ingress": {"b": 1}, "proc": {"b": 2}, "n": {"x": 6}}});
        assert_eq!(patched(document.clone(), patch), expected);
        let gone = json!({"limits": {"ingress": {"b": 1}, "proc": {"n": {"x": 1}, "b": 2}}});
        assert_eq!(patched(document, json!({"limits": {"a": null}})), gone, "as shipped for both");
    }

    #[test]
    fn a_list_for_one_component_leaves_the_others_alone() {
        let document = json!({"guarded_rest_patterns": ["/a"]});
        let of_ingress = json!({"guarded_rest_patterns": {"ingress": ["/b"], "proc": ["/a"]}});
        for patch in [
            json!({"guarded_rest_patterns": {"ingress": ["/b"]}}),
            json!({"component": "rest", "guarded_rest_patterns": ["/b"]}),
        ] {
            assert_eq!(patched(document.clone(), patch), of_ingress);
        }
        let shipped = json!({"guarded_rest_patterns": {"proc": ["/a"]}});
        assert_eq!(patched(document, json!({"guarded_rest_patterns": {"ingress": null}})), shipped);
        assert_eq!(
            patched(of_ingress, json!({"guarded_rest_patterns": ["/c"]})),
            json!({"guarded_rest_patterns": ["/c"]})
        );
    }

    #[test]
    fn a_component_beside_the_sections_means_its_slices() {
        let document = json!({"limits": {"worker": {"a": 1}}, "queue": {"a": 1}});
        let patch = json!({"component": "chat-proc", "limits": {"a": 2}, "pools": {"b": 1}, "queue": {"a": 2}});
        let expected = json!({"limits": {"worker": {"a": 2}}, "queue": {"a": 2}, "pools": {"proc": {"b": 1}}});
        assert_eq!(patched(document.clone(), patch), expected);
        let inside = json!({"gateway": {"component": "ingress", "limits": {"a": null}}});
        assert_eq!(patched(document, inside)["limits"], json!({"worker": {"a": 1}, "ingress": {}}));
    }

    #[test]
    fn slices_meet_under_the_name_the_document_has_for_them() {
        let document = json!({"limits": {"worker": {"a": 1, "b": 1}}});
        let (patch, _) = Patch::read(json!({"limits": {"proc": {"b": 2}}}), &document);
        let mut after = document;
        patch.apply(&mut after);
        assert_eq!(after, json!({"limits": {"worker": {"a": 1, "b": 2}}}));
        assert_eq!(patch.place_in(&Path::of("limits.worker.b")).to_string(), "limits.proc.b");
        assert_eq!(patch.place_in(&Path::of("limits.ingress.b")).to_string(), "limits.ingress.b");
    }

    #[test]
    fn the_other_spellings_are_known_in_a_patch_and_take_away_too() {
        let document = json!({
            "user_types": {"gold": {}}, "limits": {"max_integrations_ops_concurrency": 4},
            "rate_limits": {"roles": {"gold": {"burst": 1}, "paid": {"burst": 2}}},
        });
        let patch = json!({"rate_limits": {"gold": null, "paid": {"burst": 3}},
            "limits": {"max_integrations_concurrency": null}});
        let after = patched(document, patch);
        assert_eq!(after["rate_limits"], json!({"roles": {"paid": {"burst": 3}}}));
        assert_eq!(after["limits"], json!({}));
    }

    #[test]
    fn an_unknown_component_and_a_slice_beside_its_component_are_faults() {
        let faults = |patch| {
            let (_, flaws) = Patch::read(patch, &json!({}));
            flaws.into_iter().map(|flaw| flaw.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(faults(json!({"component": "pork"})), ["component"]);
        assert_eq!(faults(json!({"component": 5})), ["component"]);
        let twice = json!({"component": "proc", "limits": {"a": 1, "worker": {"a": 2}}});
        assert_eq!(faults(twice), ["limits.worker"]);
    }

    #[test]
    fn a_list_for_one_component_by_any_of_its_names_leaves_the_others_alone() {
        for name in ["proc", "processor", "worker"] {
            let document = json!({"guarded_rest_patterns": ["/x$"]});
            let after = patched(document, json!({"guarded_rest_patterns": {name: ["/y$"]}}));
            assert_eq!(after["guarded_rest_patterns"], json!({"ingress": ["/x$"], "proc": ["/y$"]}), "{name}");
        }
    }
}
