//! What a client reads out of an answer.
//!
//! Responsible for the few headers and fields that a record holds. Must never fail: an answer that lacks something is
//! recorded as it is, and judged elsewhere.

use std::borrow::Cow;

use hyper::header::{HeaderMap, HeaderName, RETRY_AFTER};
use serde::Deserialize;

use crate::record::Answered;

/// Longest body that is read, bytes: many times what any answer to a submission has.
pub(super) const MAX_BODY: usize = 256 * 1024;

const POLICY_REVISION: HeaderName = HeaderName::from_static("x-policy-revision");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The fields of interest; all others are skipped without being kept.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields<'a> {
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    step: Option<Cow<'a, str>>,
    #[serde(borrow)]
    task_id: Option<Cow<'a, str>>,
}

/// Reads an answer.
pub(super) fn read(status: u16, headers: &HeaderMap, body: &[u8]) -> Answered {
    let fields: Fields<'_> = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let own = |field: Option<Cow<'_, str>>| field.map(Cow::into_owned);
    Answered {
        status,
        code: own(fields.code),
        step: own(fields.step),
        retry_after_seconds: text(&RETRY_AFTER).and_then(|seconds| seconds.parse().ok()),
        task_id: own(fields.task_id),
        policy_revision: text(&POLICY_REVISION).and_then(|revision| revision.parse().ok()),
        request_id: text(&REQUEST_ID).map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_admission_and_a_refusal() {
        let mut headers = HeaderMap::new();
        headers.insert("x-policy-revision", "7".parse().expect("a header"));
        headers.insert("x-request-id", "abc".parse().expect("a header"));
        let admitted = read(202, &headers, br#"{"task_id":"t1","status":"queued","depth":{"x":[1]}}"#);
        assert_eq!((admitted.status, admitted.task_id.as_deref(), admitted.code), (202, Some("t1"), None));
        assert_eq!((admitted.policy_revision, admitted.request_id.as_deref()), (Some(7), Some("abc")));
        headers.insert("retry-after", "12".parse().expect("a header"));
        let refused = read(429, &headers, br#"{"code":"burst_limit","step":"rate_limit","retry_after":11.5}"#);
        assert_eq!((refused.code.as_deref(), refused.step.as_deref()), (Some("burst_limit"), Some("rate_limit")));
        assert_eq!(refused.retry_after_seconds, Some(12));
    }

    #[test]
    fn an_answer_of_somebody_else_is_no_failure() {
        for body in
            [&b"<html>bad gateway</html>"[..], b"", br#"{"code":17}"#, b"[]", br#"{"code":null,"step":"a\u00e4"}"#]
        {
            assert_eq!(read(502, &HeaderMap::new(), body).code, None);
        }
    }
}
