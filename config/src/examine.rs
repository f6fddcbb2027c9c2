//! What a document means to each component, with every fault it has.
//!
//! Responsible for looking at one document as both components do: slices, the shipped policy beneath, shape, relations.
//! Must never stop at the first fault, nor judge one component only: both read the same document.

use serde_json::Value;

use crate::check::{self, Finding};
use crate::document::{at, merge_patch, restore};
use crate::fault::{Flaw, Path};
use crate::policy::Policy;
use crate::slices::{self, Component};
use crate::{schema, shape, shipped};

/// A document as both components see it, in the order of [`Component::ALL`].
pub(crate) struct Examined {
    /// What is wrong with it; without anything both policies are there.
    pub(crate) flaws: Vec<Flaw>,
    /// What each component makes of it.
    pub(crate) policies: Option<[Policy; 2]>,
    /// What its author should know, by component; only about values the document itself gives.
    pub(crate) warnings: [Vec<Flaw>; 2],
}

/// Examines a document in its one form whose placeholders are resolved, but for those at the `unresolved` places.
/// A relation between several places is reported at the first that `authored` gives: a patch is corrected there, not
/// in the document it is for. Without it the whole document has one author.
pub(crate) fn examine(document: &Value, unresolved: &[Path], authored: Option<&Value>) -> Examined {
    let [ingress, proc] = Component::ALL.map(|component| view(document, component, unresolved, authored));
    let mut flaws = ingress.flaws;
    for flaw in proc.flaws {
        if !flaws.contains(&flaw) {
            flaws.push(flaw);
        }
    }
    Examined {
        flaws,
        policies: ingress.policy.zip(proc.policy).map(Into::into),
        warnings: [ingress.warnings, proc.warnings],
    }
}

/// A document as one component sees it.
struct View {
    policy: Option<Policy>,
    flaws: Vec<Flaw>,
    warnings: Vec<Flaw>,
}

fn view(document: &Value, component: Component, unresolved: &[Path], authored: Option<&Value>) -> View {
    let selected = slices::select(document, component);
    let mut effective = shipped::document().clone();
    merge_patch(&mut effective, &selected);

    let mut flaws = shape::faults(&effective, schema::effective());
    // Relations are checked between the values that have a shape; one with a value that has none is not judged.
    let mut mended: Vec<Path> =
        flaws.iter().map(|flaw| restore(&mut effective, shipped::document(), &flaw.path)).collect();
    mended.extend_from_slice(unresolved);
    let policy: Policy = match serde_json::from_value(effective) {
        Ok(policy) => policy,
        Err(e) => {
            flaws.push(Flaw::at(&Path::default(), e.to_string()));
            return View { policy: None, flaws, warnings: Vec::new() };
        }
    };
    let findings = check::relations(&policy);
    let judged = |finding: &Finding| !finding.places.iter().any(|place| mended.iter().any(|path| path.overlaps(place)));
    let given = |place: &&Path| at(&selected, place).is_some();
    let authored = authored.map(|authored| slices::select(authored, component));
    let written = |place: &&Path| authored.as_ref().is_some_and(|authored| at(authored, place).is_some());
    let in_place = |flaw: Flaw| Flaw { path: slices::place_in(document, component, &flaw.path), ..flaw };
    // Of the places a relation is between, its author looks for the one that they wrote.
    let at_given = |finding: Finding| {
        let mut places = finding.places.iter();
        let place = places.clone().find(written).or_else(|| places.clone().find(given)).or_else(|| places.next());
        let place = place.cloned().unwrap_or_default();
        Flaw { path: place, message: finding.message }
    };
    flaws.extend(findings.errors.into_iter().filter(judged).map(at_given));
    let advice =
        findings.warnings.into_iter().filter(judged).filter(|finding| finding.places.iter().any(|p| given(&p)));
    let warnings = advice.map(at_given).map(in_place).collect();
    View { policy: Some(policy), flaws: flaws.into_iter().map(in_place).collect(), warnings }
}
