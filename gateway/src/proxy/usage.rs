//! What an application says a request has really used, for the commitment of budgets.
//!
//! Responsible for reading `X-Usage-<Unit>` fields, of an answer's head or of its trailers. Must never invent a unit or
//! a number: what does not read as one is left out, and the hold's estimate is committed.

use axum::http::HeaderMap;

/// Most units one answer may report.
const UNITS_MAX: usize = 32;

/// Largest amount: the largest integer a JSON number and a Redis script both keep exactly.
const AMOUNT_MAX: u64 = (1 << 53) - 1;

/// Adds what these fields report; the later report of a unit counts. Unit in lower case, `-` read as `_`.
pub(crate) fn add(usage: &mut Vec<(String, u64)>, headers: &HeaderMap) {
    for (name, value) in headers {
        let Some(unit) = name.as_str().strip_prefix("x-usage-").filter(|unit| !unit.is_empty()) else { continue };
        let amount = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
        let Some(amount) = amount.filter(|amount| *amount <= AMOUNT_MAX) else { continue };
        let unit = unit.replace('-', "_");
        if let Some((_, reported)) = usage.iter_mut().find(|(known, _)| *known == unit) {
            *reported = amount;
        } else if usage.len() < UNITS_MAX {
            usage.push((unit, amount));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(reports: &[&[(&str, &str)]]) -> Vec<(String, u64)> {
        let mut usage = Vec::new();
        for report in reports {
            let fields = report.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            add(&mut usage, &fields.collect());
        }
        usage
    }

    #[test]
    fn fields_name_the_unit_and_the_last_report_counts() {
        let head =
            [("X-Usage-Tokens", "12"), ("x-usage-bad", "-1"), ("x-usage-", "3"), ("x-usage-huge", "9007199254740992")];
        let trailers = [("x-usage-tokens", " 15 "), ("x-usage-micro-dollars", "7")];
        let expected = [("tokens".to_owned(), 15), ("micro_dollars".to_owned(), 7)];
        assert_eq!(read(&[&head, &trailers]), expected);
        assert_eq!(read(&[&[("content-type", "text/plain")]]), []);
    }

    #[test]
    fn an_answer_reports_only_so_many_units() {
        let names: Vec<String> = (0..=UNITS_MAX).map(|unit| format!("x-usage-u{unit}")).collect();
        let fields: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert_eq!(read(&[&fields]).len(), UNITS_MAX);
    }
}
