//! A budget's account, by a calendar that is not the scripts' own.
//!
//! Must never compute a date by itself.

use portcullis_config::policy::Period;
use time::{Date, Duration, Month, OffsetDateTime, Time};

/// What was spent in the period that ends at `ends_ms`, and what is held whatever the period.
#[derive(Clone, Debug)]
pub struct Account {
    period: Period,
    ends_ms: u64,
    /// Units committed in the period.
    pub spent: u64,
    /// Units held by tasks that have not ended.
    pub held: u64,
}

impl Account {
    pub(super) fn new(period: Period, now_ms: u64) -> Self {
        Self { period, ends_ms: period_end_ms(period, now_ms), spent: 0, held: 0 }
    }

    /// The account at `now_ms`: a new period has spent nothing.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Self {
        if now_ms < self.ends_ms {
            return self.clone();
        }
        Self { held: self.held, ..Self::new(self.period, now_ms) }
    }

    pub(super) fn reset_ms(&self, now_ms: u64) -> u64 {
        self.ends_ms - now_ms
    }
}

/// When the calendar period that holds `now_ms` ends, UTC; never, for a time beyond the calendar.
#[must_use]
pub fn period_end_ms(period: Period, now_ms: u64) -> u64 {
    end(period, now_ms).map_or(u64::MAX, |end| end.unix_timestamp() as u64 * 1000)
}

fn end(period: Period, now_ms: u64) -> Option<OffsetDateTime> {
    let now = OffsetDateTime::from_unix_timestamp(i64::try_from(now_ms / 1000).ok()?).ok()?;
    let day = now.date();
    Some(match period {
        Period::Minute => now.replace_second(0).ok()? + Duration::minutes(1),
        Period::Hour => now.replace_time(Time::from_hms(now.hour(), 0, 0).ok()?) + Duration::hours(1),
        Period::Day => midnight(day.next_day()?),
        Period::Week => midnight(day + Duration::days(7 - i64::from(day.weekday().number_days_from_monday()))),
        Period::Month => {
            let year = if day.month() == Month::December { day.year() + 1 } else { day.year() };
            midnight(Date::from_calendar_date(year, day.month().next(), 1).ok()?)
        }
    })
}

fn midnight(day: Date) -> OffsetDateTime {
    day.midnight().assume_utc()
}
