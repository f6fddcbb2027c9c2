//! `Prefer` (RFC 7240): whether a caller would rather wait for the result, and how long.
//!
//! Responsible for reading these preferences and for saying which were applied. Must never refuse a request over one: a
//! preference that is not understood is not applied.

use axum::http::{HeaderMap, HeaderValue};

/// Longest wait granted, seconds: balancers give up on a silent request after a minute.
pub(crate) const MAX_WAIT_SECONDS: u64 = 60;

/// What a caller prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preferences {
    /// The wait to apply, seconds; `None` when none is asked for.
    pub(crate) wait_seconds: Option<u64>,
    /// Whether an answer before the result is what the caller asks for.
    pub(crate) respond_async: bool,
}

impl Preferences {
    /// Those of a request with these headers. The first of several of one name counts, as RFC 7240 §2 says.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let (mut wait, mut respond_async) = (None, false);
        let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in lines.flat_map(preferences) {
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            match name.trim() {
                name if name.eq_ignore_ascii_case("wait") && wait.is_none() => wait = Some(seconds(value)),
                name if name.eq_ignore_ascii_case("respond-async") => respond_async = true,
                _ => {}
            }
        }
        Self { wait_seconds: wait.flatten(), respond_async }
    }
}

/// `Preference-Applied`; `None` when nothing was.
pub(crate) fn applied(wait_seconds: Option<u64>, respond_async: bool) -> Option<HeaderValue> {
    match (wait_seconds, respond_async) {
        (None, false) => None,
        (None, true) => Some(HeaderValue::from_static("respond-async")),
        (Some(seconds), respond_async) => {
            let first = if respond_async { "respond-async, " } else { "" };
            HeaderValue::from_str(&format!("{first}wait={seconds}")).ok()
        }
    }
}

/// The preferences of a line without their parameters. A comma or semicolon in quotes separates nothing.
fn preferences(line: &str) -> impl Iterator<Item = &str> {
    separated(line, ',').filter_map(|preference| separated(preference, ';').next())
}

fn separated(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

fn seconds(value: &str) -> Option<u64> {
    let digits = value.trim().trim_matches('"');
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Too many digits for a u64 is still a long wait.
    let seconds = whole.then(|| digits.parse().unwrap_or(MAX_WAIT_SECONDS).min(MAX_WAIT_SECONDS));
    seconds.filter(|&seconds| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Preferences {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("prefer", line.parse().unwrap());
        }
        Preferences::of(&headers)
    }

    fn wait(lines: &[&str]) -> Option<u64> {
        of(lines).wait_seconds
    }

    #[test]
    fn waits_are_found_among_other_preferences() {
        assert_eq!(wait(&["wait=10"]), Some(10));
        assert_eq!(wait(&["respond-async, WAIT = \"7\"; x=1"]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=3, wait=9"]), Some(3));
        assert_eq!(wait(&["x=\"a, wait=5; b\", wait=6"]), Some(6));
    }

    #[test]
    fn a_long_wait_is_cut() {
        assert_eq!(wait(&["wait=61"]), Some(60));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(60));
    }

    #[test]
    fn what_is_not_understood_is_not_applied() {
        for line in ["", "respond-async", "wait", "wait=", "wait=-1", "wait=1.5", "wait=0", "waits=4", "wait=x, wait=4"]
        {
            assert_eq!(wait(&[line]), None, "{line}");
        }
        assert_eq!(of(&[]), Preferences::default());
    }

    #[test]
    fn what_was_applied_is_said() {
        assert_eq!(of(&["Respond-Async; now, wait=3"]), Preferences { wait_seconds: Some(3), respond_async: true });
        assert_eq!(applied(None, false), None);
        assert_eq!(applied(None, true).unwrap(), "respond-async");
        assert_eq!(applied(Some(3), false).unwrap(), "wait=3");
        assert_eq!(applied(Some(3), true).unwrap(), "respond-async, wait=3");
    }
}
