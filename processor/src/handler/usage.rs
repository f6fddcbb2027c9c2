//! What a handler says it really used, for the commitment of budgets.
//!
//! Responsible for reading `X-Usage-<Unit>` headers and the `usage` object of model servers (`OpenAI`'s shape). Must
//! never invent a unit or a number: what does not read as one is left out, and the hold's estimate is committed.

use std::collections::BTreeMap;

use reqwest::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most units one response may report.
const UNITS_MAX: usize = 32;

/// Units and amounts of `X-Usage-<Unit>: N` headers: unit in lower case, `-` read as `_`.
pub(super) fn from_headers(headers: &HeaderMap) -> Vec<(String, u64)> {
    let reported = headers.iter().filter_map(|(name, value)| {
        let unit = name.as_str().strip_prefix("x-usage-")?.replace('-', "_");
        Some((unit, value.to_str().ok()?.trim().parse().ok()?))
    });
    reported.filter(|(unit, _)| !unit.is_empty()).take(UNITS_MAX).collect()
}

/// Units and amounts of a JSON body's `usage` object; `None` when it has none. `total_tokens` is the unit `tokens`,
/// every other whole number is a unit of its own name.
pub(super) fn from_json(body: &[u8]) -> Option<Vec<(String, u64)>> {
    #[derive(Deserialize)]
    struct Reporting {
        usage: Map<String, Value>,
    }
    // Most pieces of a stream report nothing; they are not parsed at all.
    body.windows(b"\"usage\"".len()).any(|window| window == b"\"usage\"").then_some(())?;
    let usage = serde_json::from_slice::<Reporting>(body).ok()?.usage;
    let reported = usage.into_iter().filter_map(|(name, value)| {
        let unit = if name == "total_tokens" { "tokens".to_owned() } else { name };
        Some((unit, value.as_u64()?))
    });
    Some(reported.take(UNITS_MAX).collect())
}

/// Both together; a header says more deliberately what is to be paid, so it wins.
pub(super) fn merge(headers: Vec<(String, u64)>, body: Vec<(String, u64)>) -> Vec<(String, u64)> {
    body.into_iter().chain(headers).collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// Whether a content type names JSON.
pub(super) fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(reported: &[(&str, u64)]) -> Vec<(String, u64)> {
        reported.iter().map(|(unit, amount)| ((*unit).to_owned(), *amount)).collect()
    }

    #[test]
    fn headers_name_the_unit() {
        let fields =
            [("X-Usage-Tokens", "12"), ("x-usage-micro-dollars", " 7 "), ("X-Usage-Bad", "-1"), ("X-Usage-", "3")];
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        assert_eq!(from_headers(&headers), units(&[("tokens", 12), ("micro_dollars", 7)]));
    }

    #[test]
    fn model_servers_are_understood() {
        let body = br#"{"id":"x","usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12,
            "prompt_tokens_details":{"cached_tokens":1},"cost":0.5},"choices":[]}"#;
        let expected = units(&[("prompt_tokens", 9), ("completion_tokens", 3), ("tokens", 12)]);
        assert_eq!(from_json(body).unwrap(), expected);
    }

    #[test]
    fn anything_else_reports_nothing() {
        for body in [&b"{}"[..], br#"{"usage":null}"#, br#"{"usage":7}"#, br#"["usage"]"#, b"\"usage\"", b"{\"usage\""]
        {
            assert_eq!(from_json(body), None, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_header_wins_over_the_body() {
        let merged = merge(units(&[("tokens", 5)]), units(&[("tokens", 9), ("images", 1)]));
        assert_eq!(merged, units(&[("images", 1), ("tokens", 5)]));
    }

    #[test]
    fn json_is_told_by_its_type() {
        assert!(is_json("application/json"));
        assert!(is_json("Application/Problem+JSON; charset=utf-8"));
        assert!(!is_json("text/plain"));
        assert!(!is_json("application/jsonl"));
    }
}
