//! Policy documents without the secrets in them.
//!
//! Responsible for the credentials a URL may carry, which are the only secrets a policy has. Must never shorten or
//! hint: what is redacted becomes the same three characters whatever it was.

use serde_json::Value;

const REDACTED: &str = "***";

/// The document with the credentials of every URL in it redacted.
#[must_use]
pub(crate) fn document(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(url(&text)),
        Value::Array(items) => items.into_iter().map(document).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, document(value))).collect(),
        other => other,
    }
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
    let Some((address, query)) = rest.split_once('?') else { return format!("{scheme}://{rest}") };
    let parameters: Vec<String> = query.split('&').map(parameter).collect();
    format!("{scheme}://{address}?{}", parameters.join("&"))
}

fn parameter(parameter: &str) -> String {
    let Some((name, _)) = parameter.split_once('=') else { return parameter.to_owned() };
    let lower = name.to_ascii_lowercase();
    let secret = ["user", "pass", "secret", "token"].iter().any(|word| lower.contains(word));
    if secret { format!("{name}={REDACTED}") } else { parameter.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn credentials_of_urls_are_gone_and_the_rest_stays() {
        let table = [
            ("redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
            ("redis://user:canary@db:6379", "redis://***@db:6379"),
            ("rediss://:can/ary@x@db:6379/0?timeout=5", "rediss://***@db:6379/0?timeout=5"),
            (
                "redis-sentinel://a:1,b:2?sentinelServiceName=m&sentinelPassword=canary",
                "redis-sentinel://a:1,b:2?sentinelServiceName=m&sentinelPassword=***",
            ),
            ("^/api/users@me", "^/api/users@me"),
        ];
        for (text, expected) in table {
            assert_eq!(url(text), expected);
        }
    }

    #[test]
    fn secrets_are_found_at_any_depth() {
        let shown = document(json!({"a": [["redis://u:canary@h"]], "b": {"c": "redis://u:canary@h"}, "amount": 3}));
        assert!(!shown.to_string().contains("canary"), "{shown}");
        assert_eq!(shown["amount"], 3);
    }
}
