//! `Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP date.
//!
//! Must never believe more than an hour: a backend's mistake would otherwise park a task for good.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// Longest wait taken from a backend.
const LONGEST: Duration = Duration::from_secs(3600);

/// The wait a response asks for. A date is read against the response's own `Date`, so that a difference between our
/// clock and the backend's does not matter; `now` stands in where it sends none.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit mean more than an hour.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        until.duration_since(date(headers, &DATE).unwrap_or(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(fields: &[(HeaderName, &str)]) -> Option<u64> {
        let headers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds() {
        for (text, wait) in [("0", 0), ("7", 7), (" 120 ", 120), ("3601", 3600), ("99999999999999999999999", 3600)] {
            assert_eq!(parse(&[(RETRY_AFTER, text)]), Some(wait), "{text}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(parse(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:50:37 GMT")]), Some(60));
        assert_eq!(parse(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:40:00 GMT")]), Some(0));
        assert_eq!(parse(&[(RETRY_AFTER, "Sat, 06 Nov 2094 08:49:37 GMT")]), Some(3600));
    }

    #[test]
    fn a_date_is_read_against_the_responses_own_clock() {
        let fields = [(RETRY_AFTER, "Sun, 06 Nov 1994 10:00:30 GMT"), (DATE, "Sun, 06 Nov 1994 10:00:00 GMT")];
        assert_eq!(parse(&fields), Some(30));
    }

    #[test]
    fn nonsense_is_no_wish() {
        for text in ["", "soon", "-5", "1.5", "7s", "Sun, 99 Nov 1994 08:50:37 GMT"] {
            assert_eq!(parse(&[(RETRY_AFTER, text)]), None, "{text}");
        }
        assert_eq!(parse(&[]), None);
    }
}
