//! What Redis says about a scope, as the admin interface shows it.
//!
//! Responsible for the JSON of processors, queues, breakers, statistics and decisions. Points in time become RFC 3339
//! UTC under a name in `_at`; durations keep their unit in the name. Must never leave anything out that the store told,
//! but what has the shape of a credential.

use std::collections::BTreeMap;

use portcullis_lua::{BreakerView, DecisionEvent, HourStatistics, ProcessorView, QueueView, StoreError};
use serde::Serialize;
use serde_json::{Value, json};

use super::redact;
use crate::timestamp::rfc3339;

/// A live or lately lost processor.
pub(crate) fn processor(view: &ProcessorView) -> Value {
    let shown = with_time(view, "last_heartbeat_ms", "last_heartbeat_at", view.last_heartbeat_ms);
    with_time(&shown, "policy_since_ms", "policy_since_at", view.policy_since_ms)
}

/// The queue of a scope: how deep, how full, and when each user type is refused.
pub(crate) fn queue(view: &QueueView) -> Value {
    let mut shown = object(view);
    shown.insert("depth".to_owned(), json!(view.queued + view.running));
    Value::Object(shown)
}

/// A breaker of a task kind.
pub(crate) fn breaker(view: &BreakerView) -> Value {
    Value::Object(object(view))
}

/// What was decided about a request. Why a chain was handed on is said by whoever held it, in words that nobody has
/// checked.
pub(crate) fn decision(event: &DecisionEvent) -> Value {
    redact::values(with_time(event, "at_ms", "at", event.at_ms))
}

/// An hour's admissions by user type, and its refusals by code and user type.
pub(crate) fn hour(statistics: &HourStatistics) -> Value {
    let mut admitted: BTreeMap<&str, u64> = BTreeMap::new();
    let mut refused: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for (name, count) in &statistics.counts {
        let (what, user_type) = name.split_once(':').unwrap_or((name, ""));
        match what {
            "admitted" => *admitted.entry(user_type).or_default() += count,
            code => *refused.entry(code).or_default().entry(user_type).or_default() += count,
        }
    }
    json!({"hour_at": rfc3339(statistics.hour_ms), "admitted": admitted, "refused": refused})
}

/// One part of a document whose parts are asked for separately: what is not known is null, and the reason says why.
pub(crate) fn part<T>(answer: &Result<T, StoreError>, show: impl FnOnce(&T) -> Value) -> Value {
    answer.as_ref().map_or(Value::Null, show)
}

/// The fields with the one named `from` replaced, in its place, by `to`: this time, ms since the epoch.
pub(crate) fn with_time(view: &impl Serialize, from: &str, to: &str, epoch_ms: u64) -> Value {
    let (fields, time) = (object(view).into_iter(), rfc3339(epoch_ms));
    let rename = |(name, value)| if name == from { (to.to_owned(), json!(&time)) } else { (name, value) };
    Value::Object(fields.map(rename).collect())
}

/// The fields of something that has fields.
pub(crate) fn object(view: &impl Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(view) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_lua::{Heartbeat, PolicyStamp};

    use super::*;

    #[test]
    fn points_in_time_are_rfc_3339_and_durations_keep_their_unit() {
        let beat = Heartbeat {
            worker: "w-1".to_owned(),
            instance: "i-1".to_owned(),
            slots: 5,
            running: 2,
            draining: false,
            version: "0.1.0".to_owned(),
            policy_revision: 7,
            policy_fault: None,
            kinds: vec!["*".to_owned()],
        };
        let stamp = PolicyStamp::new(7, "{}");
        let view = ProcessorView { beat, last_heartbeat_ms: 1_000, age_ms: 12, stamp, policy_since_ms: 0, live: true };
        let shown = processor(&view);
        assert_eq!(shown["policy_since_at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(shown["last_heartbeat_at"], "1970-01-01T00:00:01.000Z");
        assert_eq!(shown["age_ms"], 12);
        assert_eq!(shown["worker"], "w-1");
        assert!(shown.get("last_heartbeat_ms").is_none());
    }

    #[test]
    fn statistics_are_grouped_by_what_happened() {
        let counts = [("admitted:paid", 4), ("burst_limit:anonymous", 9), ("burst_limit:paid", 1)];
        let counts = counts.map(|(name, count)| (name.to_owned(), count)).into_iter().collect();
        let shown = hour(&HourStatistics { hour_ms: 3_600_000, counts });
        assert_eq!(
            shown,
            json!({
                "hour_at": "1970-01-01T01:00:00.000Z",
                "admitted": {"paid": 4},
                "refused": {"burst_limit": {"anonymous": 9, "paid": 1}},
            })
        );
    }
}
