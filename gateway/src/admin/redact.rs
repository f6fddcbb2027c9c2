//! What is shown to operators, without the secrets in it.
//!
//! Responsible for two signs of a secret: the name of the member it stands under, and its own shape. Must never shorten
//! or hint: what is redacted becomes the same three characters whatever it was, for whoever asks. Flags and nothing
//! (null) hold no secret; everything else under such a name goes, at any depth.

use portcullis_config::{is_secret_name, is_secret_parameter};
use serde_json::{Map, Value};

const REDACTED: &str = "***";

/// Members of a policy whose own members are named by operators: those names say nothing about what stands there.
const NAMED_BY_OPERATORS: [&str; 6] = ["budgets", "named", "kinds", "pools", "route_classes", "estimate"];

/// Deeper than any document; what is deeper goes as a whole.
const MAX_DEPTH: usize = 64;

/// Shortest rest of an opaque credential after its prefix, characters: of a whole one it is 43.
const MIN_OPAQUE: usize = 16;

/// The document with every secret in it redacted.
#[must_use]
pub(crate) fn document(value: Value) -> Value {
    shown(value, "", MAX_DEPTH)
}

/// The value with everything redacted that has the shape of a secret, whatever its name: for records, whose names are
/// known and where hashes of tokens are what things are revoked by.
#[must_use]
pub(crate) fn values(value: Value) -> Value {
    match value {
        Value::String(inside) => Value::String(text(&inside)),
        Value::Array(items) => items.into_iter().map(values).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, values(value))).collect(),
        other => other,
    }
}

/// A text that people read, with every credential in it redacted.
#[must_use]
pub(crate) fn text(text: &str) -> String {
    if let Some((before, _)) = text.split_once("-----BEGIN ") {
        return format!("{}{REDACTED}", self::text(before));
    }
    if is_url(text) {
        return url(text);
    }
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

/// The text with its user information and secret query parameters redacted if it is a URL.
#[must_use]
pub(crate) fn url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    // Up to the last `@`: a password that was not percent-encoded may hold an `@` or a slash itself.
    let rest = match rest.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => rest.to_owned(),
    };
    let Some((address, query)) = rest.split_once('?') else { return format!("{scheme}://{}", opaque(&rest)) };
    let parameters: Vec<String> = query.split('&').map(parameter).collect();
    format!("{scheme}://{}?{}", opaque(address), parameters.join("&"))
}

fn shown(value: Value, of: &str, depth: usize) -> Value {
    if depth == 0 {
        return REDACTED.into();
    }
    match value {
        Value::String(inside) => Value::String(text(&inside)),
        Value::Array(items) => items.into_iter().map(|item| shown(item, of, depth - 1)).collect(),
        Value::Object(members) => {
            let named = NAMED_BY_OPERATORS.contains(&of);
            members.into_iter().map(|(name, value)| member(name, value, named, depth)).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

fn member(name: String, value: Value, named_by_operators: bool, depth: usize) -> (String, Value) {
    // Where operators choose names there are settings below them, and amounts; a bare text is neither.
    let judged = !named_by_operators || value.is_string();
    let value = if judged && is_secret_name(&name) { hidden(value, depth - 1) } else { shown(value, &name, depth - 1) };
    (name, value)
}

/// What stands under the name of a secret.
fn hidden(value: Value, depth: usize) -> Value {
    match value {
        Value::Array(items) if depth > 0 => items.into_iter().map(|item| hidden(item, depth - 1)).collect(),
        Value::Object(members) if depth > 0 => {
            members.into_iter().map(|(name, value)| (name, hidden(value, depth - 1))).collect()
        }
        Value::Null | Value::Bool(_) => value,
        _ => REDACTED.into(),
    }
}

/// Whether all of a text is one URL: the name of a scheme (RFC 3986 §3.1) and what follows it.
fn is_url(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let in_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.is_some_and(|scheme| !scheme.is_empty() && scheme.bytes().all(in_scheme))
}

fn word(word: &str) -> String {
    let end = word.trim_end().len();
    let (inside, blank) = word.split_at(end);
    let shown = if inside.contains("://") { url(inside) } else { opaque(inside) };
    shown + blank
}

fn parameter(parameter: &str) -> String {
    let Some((name, value)) = parameter.split_once('=') else { return opaque(parameter) };
    if is_secret_parameter(name) { format!("{name}={REDACTED}") } else { format!("{name}={}", opaque(value)) }
}

/// The text with each run of letters redacted that a credential could be: a session or key of this interface, or the
/// compact form of something signed.
fn opaque(text: &str) -> String {
    let in_run = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '~');
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(in_run) {
        let (before, run) = rest.split_at(start);
        let (run, after) = run.split_at(run.find(|c| !in_run(c)).unwrap_or(run.len()));
        shown.push_str(before);
        shown.push_str(if is_credential(run) { REDACTED } else { run });
        rest = after;
    }
    shown + rest
}

fn is_credential(run: &str) -> bool {
    let signed = run.find("eyJ").is_some_and(|at| run[at..].matches('.').count() >= 2);
    let opaque = ["gs_", "gk_"].iter().any(|prefix| {
        run.match_indices(prefix).any(|(at, _)| {
            let begins = at == 0 || !run.as_bytes()[at - 1].is_ascii_alphanumeric();
            begins && run.len() - at >= prefix.len() + MIN_OPAQUE
        })
    });
    signed || opaque
}

#[cfg(test)]
mod tests;
