//! The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
//!
//! Responsible for their syntax (RFC 9651 lists of strings with integer parameters). Must never decide what is left: it
//! writes down what a decision said.

use std::fmt::Write;

use axum::http::HeaderValue;
use portcullis_lua::LimitState;

/// Longest integer RFC 9651 allows.
const MAX_INTEGER: u64 = 999_999_999_999_999;

/// `"burst";q=10;w=60, "hourly";q=120;w=3600`: the limits as they stand in the policy. `None` when there are none.
pub(crate) fn policy_list(limits: &[LimitState]) -> Option<HeaderValue> {
    list(limits, |text, limit| {
        let window_seconds = limit.window_ms.div_ceil(1000).max(1);
        write!(text, ";q={};w={}", limit.limit.min(MAX_INTEGER), window_seconds.min(MAX_INTEGER))
    })
}

/// `"burst";r=3;t=42, "hourly";r=117`: what is left and the seconds until more is. `None` when there are no limits.
pub(crate) fn state_list(limits: &[LimitState]) -> Option<HeaderValue> {
    list(limits, |text, limit| {
        write!(text, ";r={}", limit.remaining.min(MAX_INTEGER))?;
        if limit.reset_ms > 0 {
            write!(text, ";t={}", limit.reset_ms.div_ceil(1000).min(MAX_INTEGER))?;
        }
        Ok(())
    })
}

fn list(
    limits: &[LimitState],
    parameters: impl Fn(&mut String, &LimitState) -> std::fmt::Result,
) -> Option<HeaderValue> {
    let mut text = String::with_capacity(limits.len() * 32);
    for limit in limits {
        if !text.is_empty() {
            text.push_str(", ");
        }
        push_string(&mut text, &limit.name);
        // Writing to a String does not fail.
        parameters(&mut text, limit).ok()?;
    }
    if text.is_empty() { None } else { HeaderValue::from_str(&text).ok() }
}

/// An RFC 9651 string: printable ASCII in quotes, quote and backslash escaped. Anything else becomes a question mark.
fn push_string(text: &mut String, name: &str) {
    text.push('"');
    for c in name.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            ' '..='~' => text.push(c),
            _ => text.push('?'),
        }
    }
    text.push('"');
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
        assert_eq!(state_list(&limits).unwrap(), r#""burst";r=3;t=42, "hourly";r=120"#);
    }

    #[test]
    fn no_limits_give_no_field() {
        assert_eq!(policy_list(&[]), None);
        assert_eq!(state_list(&[]), None);
    }

    #[test]
    fn names_cannot_break_out_of_their_quotes() {
        let limits = [limit("a\"b\\c\r\nd\u{e9}", 1, 1000, 0, 1)];
        assert_eq!(state_list(&limits).unwrap(), r#""a\"b\\c??d?";r=0;t=1"#);
    }

    #[test]
    fn integers_stay_within_the_syntax() {
        assert_eq!(policy_list(&[limit("x", u64::MAX, 1000, 0, 0)]).unwrap(), r#""x";q=999999999999999;w=1"#);
    }
}
