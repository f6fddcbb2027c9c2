//! From a document to a policy, with every fault it has.
//!
//! Responsible for the order of the steps: one form, environment, slices, shipped policy beneath, shape, relations.
//! Must never stop at the first fault, fall through a source that cannot be read, or let a policy out that was not
//! checked for every component: both read the same document.

use std::fmt;

use serde_json::Value;

use crate::document::{self, strip_nulls};
use crate::examine::examine;
use crate::fault::{Fault, Flaw, Path};
use crate::identity::Scope;
use crate::policy::Policy;
use crate::redis_url::masked;
use crate::slices::{self, Component};
use crate::source::{self, Source};
use crate::storable::storable;
use crate::{alias, placeholder};

/// A policy and where it came from.
#[derive(Clone)]
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

impl fmt::Debug for Loaded {
    /// Without what was written, which may hold the password of a Redis.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, document: _, written: _, source, warnings } = self;
        let mut shown = f.debug_struct("Loaded");
        shown.field("policy", policy).field("source", source).field("warnings", warnings).finish_non_exhaustive()
    }
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

impl LoadError {
    pub(crate) fn invalid(source: Source, flaws: Vec<Flaw>) -> Self {
        Self::Invalid { source, faults: flaws.into_iter().map(Fault::from).collect() }
    }
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
    document: Value,
    source: Source,
    component: Component,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Loaded, LoadError> {
    let Assembled { written, flaws, policies, warnings } = assembled(document, env);
    let mut views = Component::ALL.into_iter().zip(policies.into_iter().flatten()).zip(warnings);
    match views.find(|((each, _), _)| *each == component) {
        Some(((_, policy), warnings)) if flaws.is_empty() => {
            let warnings = warnings.into_iter().map(Fault::from).collect();
            Ok(Loaded { document: shown(&policy), policy, written, source, warnings })
        }
        _ => Err(LoadError::invalid(source, flaws)),
    }
}

/// A whole document with all that was found out about it.
struct Assembled {
    written: Value,
    flaws: Vec<Flaw>,
    policies: Option<[Policy; 2]>,
    warnings: [Vec<Flaw>; 2],
}

fn assembled(mut document: Value, env: &impl Fn(&str) -> Option<String>) -> Assembled {
    strip_nulls(&mut document);
    let (mut written, mut flaws) = alias::canonical(document);
    flaws.extend(slices::check(&mut written));
    let mut resolved = written.clone();
    let unresolved = placeholder::resolve(&mut resolved, env);
    let unresolved_places: Vec<Path> = unresolved.iter().map(|flaw| flaw.path.clone()).collect();
    flaws.extend(unresolved);
    let examined = examine(&resolved, &unresolved_places, None);
    flaws.extend(examined.flaws);
    Assembled { written, flaws, policies: examined.policies, warnings: examined.warnings }
}

/// The policies of a written document that names its scope and holds no placeholder, in the order of
/// [`Component::ALL`].
pub(crate) fn policies_of(written: &Value) -> Result<[Policy; 2], LoadError> {
    match assembled(written.clone(), &|_| None) {
        Assembled { flaws, policies: Some(policies), .. } if flaws.is_empty() => Ok(policies),
        Assembled { flaws, .. } => Err(LoadError::invalid(Source::Document, flaws)),
    }
}

/// The policy of another scope that has no document of its own: this one without what belongs to one process or names
/// another scope. Its [`written`](Loaded::written) form has no placeholder left and may be stored.
pub fn for_scope(boot: &Loaded, scope: &Scope, component: Component) -> Result<Loaded, LoadError> {
    let document = storable(&boot.written, scope);
    assemble(document, boot.source.clone(), component, &|_| None)
}

/// The policy as a document that may be shown.
pub(crate) fn shown(policy: &Policy) -> Value {
    let mut document = serde_json::to_value(policy).unwrap_or_default();
    if let Some(url) = &policy.redis_url {
        document["redis_url"] = masked(url.expose()).into();
    }
    document
}

fn listed(faults: &[Fault]) -> impl fmt::Display {
    let lines: Vec<String> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
    format!("{} fault{}{}", faults.len(), if faults.len() == 1 { "" } else { "s" }, lines.concat())
}
