//! A document made of the current one and what an operator wants changed.
//!
//! Responsible for the form in which documents are stored: whole, of one scope, without a placeholder, without what
//! belongs to one process, without a credential, and of a bounded size. Must never let a document through that was not
//! checked for every component, nor stop at its first fault.

use serde_json::{Value, json};

use crate::alias;
use crate::changes::{PolicyChange, compare};
use crate::examine::examine;
use crate::fault::{Fault, Flaw, Path};
use crate::identity::Scope;
use crate::load::{LoadError, policies_of, shown};
use crate::patch::Patch;
use crate::redis_url::has_credentials;
use crate::shape::expected;
use crate::source::Source;
use crate::storable::name_scope;
use crate::takes_effect::TakesEffect;
use crate::{placeholder, slices};

/// Largest document that is stored, bytes of JSON: every replica reads it whole at every revision.
const MAX_STORED_BYTES: usize = 256 * 1024;

/// What an operator wants changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Amendment {
    /// Merged over the current document (RFC 7396); null takes a key away, which leaves it as shipped. What it says for
    /// both components goes before their slices; `component` in it says whose slices its sections are.
    Patch(Value),
    /// Replaces the current document.
    Whole(Value),
}

/// A document ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Amended {
    /// The document, as it will be read by every replica.
    pub document: Value,
    /// What it means to a gateway: every key given, secrets masked.
    pub effective: Value,
    /// What differs from the policy in force so far; empty: nothing would change.
    pub changes: Vec<PolicyChange>,
    /// What its author should know.
    pub warnings: Vec<Fault>,
}

/// Amends the document `base` of a scope. Placeholders are resolved from `env`, but those of the scope's names by the
/// scope.
///
/// Refuses with all faults at once, each where the author of the amendment wrote it.
pub fn amend(
    base: &Value,
    amendment: Amendment,
    scope: &Scope,
    env: &impl Fn(&str) -> Option<String>,
) -> Result<Amended, LoadError> {
    let env = |name: &str| match name {
        "TENANT_ID" | "TENANT" => Some(scope.tenant().to_owned()),
        "PROJECT_ID" | "PROJECT" | "DEFAULT_PROJECT_NAME" => Some(scope.project().to_owned()),
        "INSTANCE_ID" => None,
        other => env(other),
    };
    let base = without_secrets(base, scope);
    let (mut document, (mut patch, mut flaws)) = match amendment {
        Amendment::Patch(patch) => (base.clone(), Patch::read(patch, &base)),
        Amendment::Whole(whole) => (json!({}), Patch::whole(whole)),
    };
    let mut warnings: Vec<Flaw> = patch.take("instance_id").map(not_stored).into_iter().collect();
    flaws.extend(foreign_names(&patch.content, scope, &env));
    patch.apply(&mut document);
    name_scope(&mut document, scope);
    flaws.extend(slices::check(&mut document));
    let unresolved = placeholder::resolve(&mut document, &env);
    let unresolved_places: Vec<Path> = unresolved.iter().map(|flaw| flaw.path.clone()).collect();
    flaws.extend(unresolved);
    flaws.extend(credentials(&document));
    flaws.extend(too_large(&document));

    let examined = examine(&document, &unresolved_places, Some(&patch.content));
    flaws.extend(examined.flaws);
    let written = |flaw: Flaw| Flaw { path: patch.place_in(&flaw.path), ..flaw };
    let (Some(policies), true) = (examined.policies, flaws.is_empty()) else {
        return Err(LoadError::invalid(Source::Document, flaws.into_iter().map(written).collect()));
    };
    for warning in examined.warnings.into_iter().flatten() {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    let effective = shown(&policies[0]);
    let changes = match policies_of(&base) {
        Ok(before) => compare(&before, &policies),
        // Whatever was in force, it cannot be read here: all of it is new.
        Err(_) => vec![PolicyChange {
            path: String::new(),
            before: None,
            after: Some(effective.clone()),
            takes_effect: TakesEffect::AtOnce,
        }],
    };
    let warnings = warnings.into_iter().map(written).map(Fault::from).collect();
    Ok(Amended { document, effective, changes, warnings })
}

/// The current document as the beginning of one that is stored; a boot document may hold what is never stored.
fn without_secrets(base: &Value, scope: &Scope) -> Value {
    let (mut base, _) = alias::canonical(base.clone());
    if let Some(map) = base.as_object_mut() {
        map.shift_remove("instance_id");
        let unfit = |url: &str| has_credentials(url) || url.contains("{{");
        if map.get("redis_url").and_then(Value::as_str).is_some_and(unfit) {
            map.shift_remove("redis_url");
        }
    }
    name_scope(&mut base, scope);
    base
}

fn not_stored(_: Value) -> Flaw {
    Flaw::at(&Path::of("instance_id"), "names one process and is not stored: set INSTANCE_ID there")
}

/// An amendment that names another scope was meant for that one.
fn foreign_names(amendment: &Value, scope: &Scope, env: &impl Fn(&str) -> Option<String>) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut names = json!({});
    for key in ["tenant", "project"] {
        match amendment.get(key) {
            Some(name @ Value::String(_)) => names[key] = name.clone(),
            None | Some(Value::Null) => {}
            Some(other) => flaws.push(Flaw::at(&Path::of(key), expected("a string", other))),
        }
    }
    flaws.extend(placeholder::resolve(&mut names, env));
    for (key, own) in [("tenant", scope.tenant()), ("project", scope.project())] {
        if let Some(name) = names[key].as_str().filter(|name| *name != own) {
            flaws.push(Flaw::at(
                &Path::of(key),
                format!("is {name:?}, but the document to be changed is that of {scope}"),
            ));
        }
    }
    flaws
}

/// What is stored is read by every replica and every backup.
fn credentials(document: &Value) -> Option<Flaw> {
    let url = document.get("redis_url")?.as_str()?;
    let message = "has credentials, which are not stored: set REDIS_URL where the processes are started";
    has_credentials(url).then(|| Flaw::at(&Path::of("redis_url"), message))
}

fn too_large(document: &Value) -> Option<Flaw> {
    let bytes = document.to_string().len();
    let message = format!("the document has {bytes} bytes of JSON; at most {MAX_STORED_BYTES} are stored");
    (bytes > MAX_STORED_BYTES).then(|| Flaw::at(&Path::default(), message))
}
