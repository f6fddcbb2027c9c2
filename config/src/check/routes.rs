//! Route classes: patterns that compile, classes that can be told apart, and pools that let somebody in.
//!
//! Responsible for relations in which a pattern or a declared class takes part, but for the lockout of administration.
//! Must never judge which paths deserve a guard.

use std::collections::BTreeMap;

use super::Findings;
use crate::fault::Path;
use crate::identity::UserType;
use crate::policy::{BUILT_IN_CLASSES, Policy, RouteClassSettings};
use crate::route;

/// Checks every list of patterns and every declared class.
pub(super) fn check(policy: &Policy, findings: &mut Findings) {
    patterns(&policy.guarded_rest_patterns, &Path::of("guarded_rest_patterns"), findings);
    patterns(&policy.bypass_throttling_patterns, &Path::of("bypass_throttling_patterns"), findings);
    let mut known: BTreeMap<&str, (&str, Path)> = BTreeMap::new();
    for (name, class) in &policy.route_classes {
        let place = Path::of("route_classes").key(name);
        declared(name, class, &place, findings);
        never_admitted(policy, name, class, &place, findings);
        for (index, pattern) in class.patterns.iter().enumerate() {
            let here = place.key("patterns").index(index);
            let (first, there) = known.entry(pattern).or_insert((name, here.clone()));
            if *first != name {
                let message = format!("{pattern:?} is a pattern of {first} too, which goes first for its methods");
                findings.warning(&[here, there.clone()], message);
            }
        }
    }
}

/// A pattern that does not compile would leave its paths unguarded.
fn patterns(patterns: &[String], place: &Path, findings: &mut Findings) {
    let mut compile = true;
    for (index, pattern) in patterns.iter().enumerate() {
        if let Err(reason) = route::check_pattern(pattern) {
            findings.error(&[place.index(index)], format!("not a usable regular expression: {reason}"));
            compile = false;
        }
    }
    if compile && let Err(e) = route::compile(patterns) {
        findings.error(std::slice::from_ref(place), format!("too much to compile together: {e}"));
    }
}

fn declared(name: &str, class: &RouteClassSettings, place: &Path, findings: &mut Findings) {
    if BUILT_IN_CLASSES.contains(&name) {
        let message = "is a class already, by guarded_rest_patterns and bypass_throttling_patterns";
        findings.error(std::slice::from_ref(place), message);
    }
    if class.patterns.is_empty() {
        findings.error(&[place.key("patterns")], "names no path, so that nothing is of this class");
    }
    if class.methods.as_ref().is_some_and(Vec::is_empty) {
        findings.error(&[place.key("methods")], "names no method; leave it out to mean all of them");
    }
    patterns(&class.patterns, &place.key("patterns"), findings);
}

/// A share of whole requests: a low one of a small pool is none at all.
fn never_admitted(policy: &Policy, name: &str, class: &RouteClassSettings, place: &Path, findings: &mut Findings) {
    let Some(most) = class.max_concurrent else { return };
    for user_type in UserType::BUILT_IN.into_iter().filter_map(|name| UserType::new(name).ok()) {
        let Some(threshold) = policy.threshold_of(&user_type) else { continue };
        if (most as f64 * threshold).floor() < 1.0 {
            let message = format!(
                "{threshold} of the {most} requests that {name} takes in is less than one: {user_type} callers are \
                 never admitted to it"
            );
            findings.warning(&[place.key("max_concurrent")], message);
        }
    }
}
