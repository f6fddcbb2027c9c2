//! Points in time as the public interface writes them: RFC 3339, UTC, milliseconds.
//!
//! Responsible for that one spelling. Must never read a clock: every time shown is given, ms since the epoch. It comes
//! from Redis, or whoever shows it says whose clock it is.

use time::OffsetDateTime;

/// `2026-01-31T12:00:00.250Z` for a time in ms since the epoch. Times past the year 9999 are shown as its last second.
#[must_use]
pub fn rfc3339(epoch_ms: u64) -> String {
    /// The last millisecond of the year 9999, after which RFC 3339 has no spelling.
    const LAST_MS: u64 = 253_402_300_799_999;
    let nanos = i128::from(epoch_ms.min(LAST_MS)) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_three_digits_of_milliseconds() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(rfc3339(1_795_305_599_999), "2026-11-21T23:59:59.999Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
