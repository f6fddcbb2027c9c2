//! Components and their slices of a document.
//!
//! Responsible for what the reference system calls a component-aware section: one that holds `ingress`, `proc`,
//! `processor` or `worker`. The slice of a component is merged over its siblings, which are kept. Must never look into
//! a section that takes no slices (there such a key is a fault).

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::document::{at, merge_patch};
use crate::fault::{Flaw, Path, Step};
use crate::shape::expected;

/// Keys that make a section component-aware.
pub(crate) const SLICE_NAMES: [&str; 4] = ["ingress", "proc", "processor", "worker"];

/// Sections that may be sliced.
pub(crate) const SLICED_SECTIONS: [&str; 8] = [
    "rate_limits",
    "service_capacity",
    "backpressure",
    "pools",
    "limits",
    "data_bus",
    "guarded_rest_patterns",
    "bypass_throttling_patterns",
];

/// Sections with fixed keys that hold for every component alike.
const WHOLE_SECTIONS: [&str; 6] = ["circuit_breakers", "monitoring", "redis", "queue", "proxy", "writes"];

/// Values about the scope's queue that the ingress decides by, though the documented place of them is the slice of the
/// processors: without one of its own the ingress takes theirs.
const SHARED_WITH_INGRESS: [(&str, &str); 2] =
    [("limits", "max_queue_size"), ("service_capacity", "avg_processing_time_seconds")];

/// A kind of process that reads the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Component {
    /// A gateway.
    #[default]
    Ingress,
    /// A processor.
    Proc,
}

impl Component {
    /// Both components.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Proc];

    /// The component named by `GATEWAY_COMPONENT`; ingress when it is not set.
    pub fn from_env(env: &impl Fn(&str) -> Option<String>) -> Result<Self, UnknownComponent> {
        env("GATEWAY_COMPONENT").filter(|name| !name.is_empty()).map_or(Ok(Self::default()), |name| name.parse())
    }

    /// The keys under which a section may hold this component's slice.
    fn slice_names(self) -> &'static [&'static str] {
        match self {
            Self::Ingress => &SLICE_NAMES[..1],
            Self::Proc => &SLICE_NAMES[1..],
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.slice_names()[0])
    }
}

impl FromStr for Component {
    type Err = UnknownComponent;

    fn from_str(name: &str) -> Result<Self, UnknownComponent> {
        match name.trim().to_ascii_lowercase().as_str() {
            "ingress" | "rest" | "chat-rest" | "chat_rest" => Ok(Self::Ingress),
            "proc" | "processor" | "worker" | "chat-proc" | "chat_proc" => Ok(Self::Proc),
            _ => Err(UnknownComponent(name.to_owned())),
        }
    }
}

/// A name that is no component's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown component {0:?}: it is ingress (rest, chat-rest) or proc (processor, worker, chat-proc)")]
pub struct UnknownComponent(pub String);

/// Faults of slicing, whichever component is meant: slices where none may be, slices that are no section, one slice
/// under two names. What is at fault is taken away.
pub(crate) fn check(document: &mut Value) -> Vec<Flaw> {
    let mut faults = Vec::new();
    for section in WHOLE_SECTIONS {
        let Some(map) = document.get_mut(section).and_then(Value::as_object_mut) else { continue };
        for name in SLICE_NAMES {
            if map.shift_remove(name).is_some() {
                faults.push(Flaw::at(
                    &Path::of(section).key(name),
                    "this section holds for every component; it takes no slices",
                ));
            }
        }
    }
    for section in SLICED_SECTIONS {
        let Some(map) = document.get_mut(section).and_then(Value::as_object_mut) else { continue };
        let found = faults.len();
        section_faults(section, map, &mut faults);
        if faults.len() > found && map.is_empty() {
            document.as_object_mut().map(|document| document.shift_remove(section));
        }
    }
    faults
}

fn section_faults(section: &str, map: &mut Map<String, Value>, faults: &mut Vec<Flaw>) {
    let place = Path::of(section);
    for name in SLICE_NAMES {
        let Some(slice) = map.get(name) else { continue };
        let (fits, what) =
            if holds_list(section) { (slice.is_array(), "a list") } else { (slice.is_object(), "an object") };
        if !fits {
            faults.push(Flaw::at(&place.key(name), expected(what, slice)));
            map.shift_remove(name);
        }
    }
    let mut given = Component::Proc.slice_names().iter().filter(|name| map.contains_key(**name));
    let Some(first) = given.next() else { return };
    for repeated in given.copied().collect::<Vec<_>>() {
        map.shift_remove(repeated);
        faults.push(Flaw::at(&place.key(repeated), format!("the same slice as {first:?} beside it")));
    }
}

/// Whether a section is a list, which can be sliced but not merged.
pub(crate) fn holds_list(section: &str) -> bool {
    section.ends_with("_patterns")
}

/// The document as one component sees it: without slices, its own merged in.
pub(crate) fn select(document: &Value, component: Component) -> Value {
    let mut selected = document.clone();
    for section in SLICED_SECTIONS {
        let Some(content) = document.get(section).and_then(Value::as_object) else { continue };
        if !SLICE_NAMES.iter().any(|name| content.contains_key(*name)) {
            continue;
        }
        let mut siblings = content.clone();
        siblings.retain(|key, _| !SLICE_NAMES.contains(&key.as_str()));
        let slice = slice_of(content, component).map(|(_, slice)| slice.clone());
        match slice {
            Some(list @ Value::Array(_)) if siblings.is_empty() => selected[section] = list,
            None if siblings.is_empty() && holds_list(section) => {
                selected.as_object_mut().map(|map| map.shift_remove(section));
            }
            slice => {
                let mut merged = Value::Object(siblings);
                if let Some(slice) = slice.filter(Value::is_object) {
                    merge_patch(&mut merged, &slice);
                }
                selected[section] = merged;
            }
        }
    }
    if component == Component::Ingress {
        share_with_ingress(document, &mut selected);
    }
    selected
}

/// Where a place of the selected document stands in the document as written.
pub(crate) fn place_in(document: &Value, component: Component, path: &Path) -> Path {
    let Some((Step::Key(section), inner)) = path.steps().split_first() else { return path.clone() };
    let sliced = SLICED_SECTIONS.contains(&section.as_str());
    let Some(siblings) = document.get(section).filter(|_| sliced) else { return path.clone() };
    let Some(content) = siblings.as_object() else { return path.clone() };

    let parent = Path::from_steps(inner.split_last().map_or(&[], |(_, parent)| parent));
    let inner = Path::from_steps(inner);
    let own = slice_of(content, component);
    let theirs = slice_of(content, Component::Proc).filter(|_| component == Component::Ingress);
    let holding = |(_, slice): &(&str, &Value)| at(slice, &inner).is_some();
    let slice = if own.as_ref().is_some_and(holding) {
        own
    } else if at(siblings, &inner).is_some() {
        None
    } else if theirs.as_ref().is_some_and(holding) {
        theirs
    } else {
        // A missing key belongs to whoever gave the object that lacks it.
        own.filter(|(_, slice)| !parent.steps().is_empty() && at(slice, &parent).is_some())
    };
    slice.map_or_else(|| path.clone(), |(name, _)| path.insert_key(1, name))
}

pub(crate) fn slice_of(content: &Map<String, Value>, component: Component) -> Option<(&'static str, &Value)> {
    component.slice_names().iter().find_map(|name| Some((*name, content.get(*name)?)))
}

fn share_with_ingress(document: &Value, selected: &mut Value) {
    for (section, key) in SHARED_WITH_INGRESS {
        let Some(content) = document.get(section).and_then(Value::as_object) else { continue };
        let Some(shared) = slice_of(content, Component::Proc).and_then(|(_, slice)| slice.get(key)) else { continue };
        if let Some(map) = selected[section].as_object_mut()
            && !map.contains_key(key)
        {
            map.insert(key.to_owned(), shared.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn components_are_known_by_all_their_names() {
        for name in ["ingress", "rest", "chat-rest", "chat_rest", " Ingress "] {
            assert_eq!(name.parse(), Ok(Component::Ingress), "{name}");
        }
        for name in ["proc", "processor", "worker", "chat-proc", "chat_proc"] {
            assert_eq!(name.parse(), Ok(Component::Proc), "{name}");
        }
        assert_eq!("gateway".parse::<Component>(), Err(UnknownComponent("gateway".to_owned())));
        assert_eq!(Component::from_env(&|_| None), Ok(Component::Ingress));
        assert_eq!(Component::from_env(&|_| Some(String::new())), Ok(Component::Ingress));
        assert_eq!(Component::from_env(&|_| Some("chat-proc".to_owned())), Ok(Component::Proc));
        assert!(Component::from_env(&|_| Some("pork".to_owned())).is_err());
    }

    #[test]
    fn a_slice_is_merged_over_its_siblings_which_are_kept() {
        let document =
            json!({"limits": {"a": 1, "n": {"x": 1, "y": 1}, "worker": {"n": {"y": 2}}, "ingress": {"a": 3}}});
        assert_eq!(select(&document, Component::Proc), json!({"limits": {"a": 1, "n": {"x": 1, "y": 2}}}));
        assert_eq!(select(&document, Component::Ingress), json!({"limits": {"a": 3, "n": {"x": 1, "y": 1}}}));
    }

    #[test]
    fn a_list_comes_from_its_slice_or_is_not_given() {
        let document = json!({"guarded_rest_patterns": {"proc": ["a"]}});
        assert_eq!(select(&document, Component::Proc), json!({"guarded_rest_patterns": ["a"]}));
        assert_eq!(select(&document, Component::Ingress), json!({}));
    }

    #[test]
    fn a_place_is_found_again_where_it_was_written() {
        let document = json!({"limits": {"a": 1, "b": 1, "processor": {"b": 2, "max_queue_size": 5, "n": {}}}});
        for (path, place) in [
            ("limits.a", "limits.a"),
            ("limits.b", "limits.processor.b"),
            ("limits.n.missing", "limits.processor.n.missing"),
            ("limits.none", "limits.none"),
            ("queue.b", "queue.b"),
        ] {
            assert_eq!(place_in(&document, Component::Proc, &Path::of(path)).to_string(), place);
        }
        for (path, place) in [("limits.b", "limits.b"), ("limits.max_queue_size", "limits.processor.max_queue_size")] {
            assert_eq!(place_in(&document, Component::Ingress, &Path::of(path)).to_string(), place);
        }
    }
}
