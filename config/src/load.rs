//! From a document to a policy, with every fault it has.
//!
//! Responsible for the order of the steps: one form, environment, slices, shipped policy beneath, shape, relations.
//! Must never stop at the first fault, fall through a source that cannot be read, or let a policy out that was not
//! checked for every component: both read the same document.

use std::fmt;

use serde_json::Value;

use crate::check::{self, Finding};
use crate::document::{self, at, merge_patch, restore, strip_nulls};
use crate::fault::{Fault, Flaw, Path};
use crate::policy::Policy;
use crate::slices::{self, Component};
use crate::source::{self, Source};
use crate::{alias, placeholder, schema, shape, shipped};

/// A policy and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The policy as the component sees it.
    pub policy: Policy,
    /// The same as a document to show: every key given, a password in `redis_url` masked.
    pub document: Value,
    /// What its author wrote, in one form but with its slices and placeholders: the base for later patches.
    pub written: Value,
    /// Where it came from.
    pub source: Source,
    /// What its author should know; only about values the document itself gives.
    pub warnings: Vec<Fault>,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The document was read but is no policy.
    #[error("{source}: {}", listed(faults))]
    Invalid {
        /// Where it came from.
        r#source: Source,
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
    /// The document could not be read at all.
    #[error("{source}: {reason}")]
    Unreadable {
        /// Where it should have come from.
        r#source: Source,
        /// Why not.
        reason: String,
    },
}

/// Loads the policy this environment names: `GATEWAY_CONFIG_JSON`, else `GATEWAY_YAML_PATH`, else
/// `PLATFORM_DESCRIPTORS_DIR/gateway.yaml`, else the shipped one. A variable set to nothing is not set.
pub fn load(env: &impl Fn(&str) -> Option<String>, component: Component) -> Result<Loaded, LoadError> {
    let (source, document) = source::read(env).map_err(|(source, reason)| LoadError::Unreadable { source, reason })?;
    assemble(document, source, component, env)
}

/// [`load`] from the environment of this process.
pub fn from_env(component: Component) -> Result<Loaded, LoadError> {
    load(&|name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()), component)
}

/// Makes a policy of a document in JSON or YAML.
pub fn parse(text: &str, component: Component, env: &impl Fn(&str) -> Option<String>) -> Result<Loaded, LoadError> {
    let document =
        document::from_either(text).map_err(|reason| LoadError::Unreadable { source: Source::Document, reason })?;
    assemble(document, Source::Document, component, env)
}

/// Makes a policy of a document.
pub fn parse_value(
    document: Value,
    component: Component,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Loaded, LoadError> {
    assemble(document, Source::Document, component, env)
}

fn assemble(
    mut document: Value,
    source: Source,
    component: Component,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Loaded, LoadError> {
    strip_nulls(&mut document);
    let (mut written, mut flaws) = alias::canonical(document);
    flaws.extend(slices::check(&mut written));
    let mut resolved = written.clone();
    let unresolved = placeholder::resolve(&mut resolved, env);
    let unresolved_places: Vec<Path> = unresolved.iter().map(|flaw| flaw.path.clone()).collect();
    flaws.extend(unresolved);

    let mut chosen = None;
    for each in Component::ALL {
        let view = view(&resolved, each, &unresolved_places);
        for flaw in view.flaws {
            if !flaws.contains(&flaw) {
                flaws.push(flaw);
            }
        }
        if each == component {
            chosen = Some((view.policy, view.warnings));
        }
    }
    let faults: Vec<Fault> = flaws.into_iter().map(Fault::from).collect();
    let Some((Some(policy), warnings)) = chosen.filter(|_| faults.is_empty()) else {
        return Err(LoadError::Invalid { source, faults });
    };
    let document = shown(&policy);
    Ok(Loaded { policy, document, written, source, warnings: warnings.into_iter().map(Fault::from).collect() })
}

/// A document as one component sees it.
struct View {
    policy: Option<Policy>,
    flaws: Vec<Flaw>,
    warnings: Vec<Flaw>,
}

fn view(document: &Value, component: Component, unresolved: &[Path]) -> View {
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
    let in_place = |flaw: Flaw| Flaw { path: slices::place_in(document, component, &flaw.path), ..flaw };
    // Of the places a relation is between, its author looks for the one that they wrote.
    let at_given = |finding: Finding| {
        let place = finding.places.iter().find(given).or(finding.places.first()).cloned().unwrap_or_default();
        Flaw { path: place, message: finding.message }
    };
    flaws.extend(findings.errors.into_iter().filter(judged).map(at_given));
    let advice =
        findings.warnings.into_iter().filter(judged).filter(|finding| finding.places.iter().any(|p| given(&p)));
    let warnings = advice.map(at_given).map(in_place).collect();
    View { policy: Some(policy), flaws: flaws.into_iter().map(in_place).collect(), warnings }
}

/// The policy as a document that may be shown.
fn shown(policy: &Policy) -> Value {
    let mut document = serde_json::to_value(policy).unwrap_or_default();
    if let Some(url) = policy.redis_url.as_deref() {
        document["redis_url"] = masked(url).into();
    }
    document
}

/// A URL without the password that may stand between the scheme and the last `@`.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((userinfo, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let user = userinfo.split_once(':').map_or("", |(user, _)| user);
    format!("{scheme}://{user}:***@{host}")
}

fn listed(faults: &[Fault]) -> impl fmt::Display {
    let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    format!("{} fault{}{}", faults.len(), if faults.len() == 1 { "" } else { "s" }, lines.concat())
}
