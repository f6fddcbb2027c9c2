//! `Prefer: wait=N` (RFC 7240): how long a caller would rather wait for the result.
//!
//! Responsible for reading that preference. Must never refuse a request over it: a preference that is not understood is
//! not applied.

use axum::http::HeaderMap;

/// Longest wait granted, seconds: balancers give up on a silent request after a minute.
pub(crate) const MAX_WAIT_SECONDS: u64 = 60;

/// The wait to apply, seconds; `None` when none is asked for. The first of several counts, as RFC 7240 §2 says.
pub(crate) fn wait_seconds(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let seconds = value.trim().trim_matches('"');
        let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        if !name.trim().eq_ignore_ascii_case("wait") || !digits {
            return None;
        }
        // Too many digits for a u64 is still a long wait.
        Some(seconds.parse().unwrap_or(MAX_WAIT_SECONDS).min(MAX_WAIT_SECONDS)).filter(|&seconds| seconds > 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(lines: &[&str]) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("prefer", line.parse().unwrap());
        }
        wait_seconds(&headers)
    }

    #[test]
    fn waits_are_found_among_other_preferences() {
        assert_eq!(wait(&["wait=10"]), Some(10));
        assert_eq!(wait(&["respond-async, WAIT = \"7\"; x=1"]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=3, wait=9"]), Some(3));
    }

    #[test]
    fn a_long_wait_is_cut() {
        assert_eq!(wait(&["wait=61"]), Some(60));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(60));
    }

    #[test]
    fn what_is_not_understood_is_not_applied() {
        for line in ["", "respond-async", "wait", "wait=", "wait=-1", "wait=1.5", "wait=0", "waits=4"] {
            assert_eq!(wait(&[line]), None, "{line}");
        }
        assert_eq!(wait(&[]), None);
    }
}
