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
const WHOLE_SECTIONS: [&str; 4] = ["circuit_breakers", "monitoring", "redis", "queue"];

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
        let wants_list = section.ends_with("_patterns");
        let Some(map) = document.get_mut(section).and_then(Value::as_object_mut) else { continue };
        for name in SLICE_NAMES {
            let Some(slice) = map.get(name) else { continue };
            if slice.is_object() == wants_list || slice.is_array() != wants_list {
                let what = if wants_list { "a list" } else { "an object" };
                faults.push(Flaw::at(&Path::of(section).key(name), expected(what, slice)));
                map.shift_remove(name);
            }
        }
        let given: Vec<&str> =
            Component::Proc.slice_names().iter().copied().filter(|name| map.contains_key(*name)).collect();
        for repeated in given.iter().skip(1) {
            map.shift_remove(*repeated);
            faults.push(Flaw::at(
                &Path::of(section).key(repeated),
                format!("the same slice as {:?} beside it", given[0]),
            ));
        }
    }
    faults
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
            None if siblings.is_empty() && section.ends_with("_patterns") => {
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

fn slice_of(content: &Map<String, Value>, component: Component) -> Option<(&'static str, &Value)> {
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
