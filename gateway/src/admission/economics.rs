//! Step 5, economics: what a task may cost.
//!
//! Feeds the script the caller's estimates by unit; a budget whose unit is not among them holds its default estimate.
//! The hold belongs to the task and ends with it. Refuses with `budget_exhausted`, naming the budget.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::refusal::RequestFault;

/// Title and detail of `budget_exhausted`.
pub(super) const WORDS: (&str, &str) =
    ("Budget exhausted", "What is left of the budget named in `budget` is less than this task's estimate.");

/// Units one task may estimate.
pub(crate) const MAX_UNITS: usize = 16;

/// Largest estimate: the largest integer a JSON number and a Redis script both keep exactly.
pub(crate) const MAX_ESTIMATE: u64 = (1 << 53) - 1;

/// Reads `estimate`, an object of unit → whole number. Faults are added with their paths.
pub(super) fn estimates(raw: &RawValue, faults: &mut Vec<RequestFault>) -> Vec<(String, u64)> {
    let Ok(entries) = serde_json::from_str::<BTreeMap<String, &RawValue>>(raw.get()) else {
        faults.push(RequestFault::new("estimate", "must be an object of unit and whole number"));
        return Vec::new();
    };
    if entries.len() > MAX_UNITS {
        faults.push(RequestFault::new("estimate", format!("must have at most {MAX_UNITS} units")));
        return Vec::new();
    }
    let mut estimates = Vec::with_capacity(entries.len());
    for (unit, value) in entries {
        let amount = serde_json::from_str::<u64>(value.get()).ok().filter(|&amount| amount <= MAX_ESTIMATE);
        match amount {
            _ if !is_unit(&unit) => {
                let message = "is not a unit: up to 64 of a-z, 0-9 and _, starting with a letter";
                faults.push(RequestFault::new(format!("estimate.{unit}"), message));
            }
            None => {
                let message = format!("must be a whole number from 0 to {MAX_ESTIMATE}");
                faults.push(RequestFault::new(format!("estimate.{unit}"), message));
            }
            Some(amount) => estimates.push((unit, amount)),
        }
    }
    estimates
}

fn is_unit(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Vec<(String, u64)>, Vec<String>) {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        let mut faults = Vec::new();
        let estimates = estimates(&raw, &mut faults);
        (estimates, faults.into_iter().map(|fault| fault.path).collect())
    }

    #[test]
    fn estimates_are_whole_numbers_by_unit() {
        let (estimates, faults) = read(r#"{"tokens": 1200, "micro_dollars": 0}"#);
        assert_eq!(estimates, [("micro_dollars".to_owned(), 0), ("tokens".to_owned(), 1200)]);
        assert!(faults.is_empty());
    }

    #[test]
    fn every_fault_is_named() {
        let (estimates, faults) =
            read(r#"{"a": 1, "b": -1, "c": 1.5, "d": "1", "E": 1, "f": 9007199254740992, "g": null}"#);
        assert_eq!(estimates, [("a".to_owned(), 1)]);
        assert_eq!(faults, ["estimate.E", "estimate.b", "estimate.c", "estimate.d", "estimate.f", "estimate.g"]);
        assert_eq!(read("[1]").1, ["estimate"]);
        assert_eq!(read("7").1, ["estimate"]);
        let many: BTreeMap<String, u64> = (0..=MAX_UNITS as u64).map(|index| (format!("u{index}"), 1)).collect();
        assert_eq!(read(&serde_json::to_string(&many).unwrap()).1, ["estimate"]);
    }
}
