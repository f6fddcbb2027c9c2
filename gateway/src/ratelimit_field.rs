//! The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
//!
//! Responsible for their syntax (RFC 9651 lists of strings with integer parameters). Must never decide what is left: it
//! writes down what a decision said.

use axum::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use portcullis_lua::LimitState;

use crate::text::push_number;

/// What the limits are.
pub(crate) const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// What is left of them.
pub(crate) const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Longest integer RFC 9651 allows.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// `"burst";q=10;w=60, "hourly";q=120;w=3600`: the limits as they stand in the policy. `None` when there are none.
pub(crate) fn policy_list(limits: &[LimitState]) -> Option<HeaderValue> {
    list(limits, |text, limit| {
        push_parameter(text, b";q=", limit.limit);
        push_parameter(text, b";w=", limit.window_ms.div_ceil(1000).max(1));
    })
}

/// The same, followed by limits that only some callers have.
pub(crate) fn policy_list_with(field: Option<&HeaderValue>, more: &[LimitState]) -> Option<HeaderValue> {
    let Some(more) = policy_list(more) else { return field.cloned() };
    let Some(field) = field else { return Some(more) };
    HeaderValue::from_maybe_shared(Bytes::from([field.as_bytes(), b", ", more.as_bytes()].concat())).ok()
}

/// `"burst";r=3;t=42, "hourly";r=117`: what is left and the seconds until more is. `None` when there are no limits.
/// The limits were read `aged_ms` ago.
pub(crate) fn state_list(limits: &[LimitState], aged_ms: u64) -> Option<HeaderValue> {
    list(limits, |text, limit| {
        push_parameter(text, b";r=", limit.remaining);
        let reset_ms = limit.reset_ms.saturating_sub(aged_ms);
        if reset_ms > 0 {
            push_parameter(text, b";t=", reset_ms.div_ceil(1000));
        }
    })
}

fn list(limits: &[LimitState], parameters: impl Fn(&mut Vec<u8>, &LimitState)) -> Option<HeaderValue> {
    if limits.is_empty() {
        return None;
    }
    let mut text = Vec::with_capacity(limits.len() * 32);
    for limit in limits {
        if !text.is_empty() {
            text.extend_from_slice(b", ");
        }
        push_name(&mut text, &limit.name);
        parameters(&mut text, limit);
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

fn push_parameter(text: &mut Vec<u8>, name: &[u8], value: u64) {
    text.extend_from_slice(name);
    push_number(text, value.min(MAX_INTEGER));
}

/// An RFC 9651 string: printable ASCII in quotes, quote and backslash escaped. Anything else becomes a question mark.
fn push_name(text: &mut Vec<u8>, name: &str) {
    text.push(b'"');
    if name.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        text.extend_from_slice(name.as_bytes());
    } else {
        for c in name.chars() {
            match c {
                '"' | '\\' => text.extend_from_slice(&[b'\\', c as u8]),
                ' '..='~' => text.push(c as u8),
                _ => text.push(b'?'),
            }
        }
    }
    text.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(name: &str, limit: u64, window_ms: u64, remaining: u64, reset_ms: u64) -> LimitState {
        LimitState { name: name.to_owned(), limit, window_ms, remaining, reset_ms }
    }

    #[test]
    fn policy_names_quota_and_window_in_whole_seconds() {
        let limits = [limit("burst", 10, 60_000, 3, 41_001), limit("hourly", 120, 3_600_000, 117, 0)];
        assert_eq!(policy_list(&limits).unwrap(), r#""burst";q=10;w=60, "hourly";q=120;w=3600"#);
        assert_eq!(policy_list(&[limit("burst", 1, 200, 1, 0)]).unwrap(), r#""burst";q=1;w=1"#);
    }

    #[test]
    fn state_rounds_the_wait_up_and_leaves_it_out_when_nothing_is_used() {
        let limits = [limit("burst", 10, 60_000, 3, 41_001), limit("hourly", 120, 3_600_000, 120, 0)];
        assert_eq!(state_list(&limits, 0).unwrap(), r#""burst";r=3;t=42, "hourly";r=120"#);
    }

    #[test]
    fn the_wait_shrinks_with_the_age_of_the_decision() {
        let limits = [limit("burst", 10, 60_000, 3, 41_001)];
        assert_eq!(state_list(&limits, 1_001).unwrap(), r#""burst";r=3;t=40"#);
        assert_eq!(state_list(&limits, 50_000).unwrap(), r#""burst";r=3"#);
    }

    #[test]
    fn no_limits_give_no_field() {
        assert_eq!(policy_list(&[]), None);
        assert_eq!(state_list(&[], 0), None);
    }

    #[test]
    fn what_only_some_callers_have_follows_what_all_of_a_type_do() {
        let (all, more) = (policy_list(&[limit("burst", 10, 60_000, 0, 0)]), [limit("chain:0:x", 5, 60_000, 0, 0)]);
        assert_eq!(policy_list_with(all.as_ref(), &more).unwrap(), r#""burst";q=10;w=60, "chain:0:x";q=5;w=60"#);
        assert_eq!(policy_list_with(all.as_ref(), &[]), all);
        assert_eq!(policy_list_with(None, &more), policy_list(&more));
        assert_eq!(policy_list_with(None, &[]), None);
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let limits = [limit("a\"b\\c\r\nd\u{e9}", 1, 1000, 0, 1)];
        assert_eq!(state_list(&limits, 0).unwrap(), r#""a\"b\\c??d?";r=0;t=1"#);
    }

    #[test]
    fn integers_stay_within_the_syntax() {
        assert_eq!(policy_list(&[limit("x", u64::MAX, 1000, 0, 0)]).unwrap(), r#""x";q=999999999999999;w=1"#);
    }
}
