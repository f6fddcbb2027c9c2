//! A fault of a document: where it stands and what is wrong with it.
//!
//! Responsible for how places are written (`rate_limits.roles.paid.burst`, `guarded_rest_patterns[2]`), so that every
//! check writes them alike. Must never quote a value that may hold a secret.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// One thing wrong with a document, or one thing its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Fault {
    /// Where it stands; empty for the document as a whole.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A fault whose place has not been written out yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Where the faulty value stands, or where a missing one should.
    pub(crate) path: Path,
    /// What is wrong.
    pub(crate) message: String,
}

impl Flaw {
    /// A flaw at this place.
    pub(crate) fn at(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.clone(), message: message.into() }
    }
}

impl From<Flaw> for Fault {
    fn from(flaw: Flaw) -> Self {
        Self { path: flaw.path.to_string(), message: flaw.message }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The value of this key.
    Key(String),
    /// The element at this index.
    Index(usize),
}

/// A place in a document.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// The place with these dotted keys, as known at compile time.
    pub(crate) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|key| Step::Key(key.to_owned())).collect())
    }

    /// The place with these steps.
    pub(crate) fn from_steps(steps: &[Step]) -> Self {
        Self(steps.to_vec())
    }

    /// The value of this key.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// The element at this index.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    /// This place with a key put in before the step at `position`.
    pub(crate) fn insert_key(&self, position: usize, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.insert(position, Step::Key(key.to_owned()));
        Self(steps)
    }

    /// The steps from the root.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether one of the two stands inside the other, or both are the same.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain =
            |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if !plain(key) => write!(f, "[{key:?}]")?,
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Of these names the one most like the given one; `None` of no names.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known.into_iter().max_by(|a, b| strsim::jaro_winkler(&lower, a).total_cmp(&strsim::jaro_winkler(&lower, b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_with_dots_and_brackets() {
        let path = Path::of("rate_limits.roles").key("paid").key("burst");
        assert_eq!(path.to_string(), "rate_limits.roles.paid.burst");
        assert_eq!(Path::of("guarded_rest_patterns").index(2).to_string(), "guarded_rest_patterns[2]");
        assert_eq!(Path::of("budgets").key("a.b").to_string(), "budgets[\"a.b\"]");
        assert_eq!(Path::default().to_string(), "");
    }

    #[test]
    fn overlap_is_being_inside_in_either_direction() {
        let (outer, inner) = (Path::of("queue"), Path::of("queue.retry"));
        assert!(outer.overlaps(&inner) && inner.overlaps(&outer));
        assert!(!Path::of("queue.retry").overlaps(&Path::of("queue.lease_ms")));
    }

    #[test]
    fn the_nearest_name_is_found_despite_a_slip() {
        let known = ["hourly", "burst", "burst_window"];
        assert_eq!(nearest("brust", known), Some("burst"));
        assert_eq!(nearest("burstWindow", known), Some("burst_window"));
        assert_eq!(nearest("x", []), None);
    }
}
