//! What was asked of the cluster and what it answered, by the clients' log.
//!
//! Responsible for counts that add up: every call is admitted, refused, failed or unexpected. Must never read the
//! cluster's own account of it.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::record::{Answered, Call, Outcome, Record};
use crate::report::figures::{load_period_us, per};
use crate::report::quantiles::Quantiles;

/// Calls and their answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// The load's period, seconds.
    pub seconds: f64,
    /// Requests somebody wanted answered; repetitions do not count again.
    pub requests: u64,
    /// Calls, repetitions included.
    pub calls: u64,
    /// Calls of which nothing reached a gateway.
    pub unsent: u64,
    /// Calls answered with a task.
    pub admitted: u64,
    /// Calls answered with a refusal that has a code.
    pub refused: u64,
    /// Calls without an answer, those that were not sent included.
    pub failed: u64,
    /// Calls answered with anything else.
    pub unexpected: u64,
    /// `calls` per second of the period.
    pub calls_per_second: f64,
    /// `admitted` per second of the period.
    pub admitted_per_second: f64,
    /// Refusals by code.
    pub refused_by: BTreeMap<String, Refusals>,
    /// Failures by cause.
    pub failed_by: BTreeMap<String, u64>,
    /// The same by the caller's user type.
    pub by_user_type: BTreeMap<String, TypeTraffic>,
    /// From the intended moment to the answer, of admitted calls.
    pub admitted_latency: Quantiles,
    /// The same, of refused calls.
    pub refused_latency: Quantiles,
    /// From the intended moment to where hope was given up, of failed calls.
    pub failed_latency: Quantiles,
    /// From the intended moment to the sending: how far the harness itself was behind its schedule. Latencies are to be
    /// trusted as far as this is small beside them.
    pub behind: Quantiles,
}

/// Refusals with one code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// The step that refused.
    pub step: String,
    /// How many.
    pub count: u64,
}

/// What callers of one user type met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeTraffic {
    /// Calls.
    pub calls: u64,
    /// Admitted ones.
    pub admitted: u64,
    /// Ones without an answer.
    pub failed: u64,
    /// Refused ones, by code.
    pub refused_by: BTreeMap<String, u64>,
}

/// How a call counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Class<'a> {
    /// Answered with a task.
    Admitted,
    /// Refused with this answer.
    Refused {
        /// The answer's code.
        code: &'a str,
        /// The whole answer.
        answered: &'a Answered,
    },
    /// No answer, for this reason.
    Failed(&'a str),
    /// Something that is neither a task nor a refusal of the documented form.
    Unexpected,
}

impl<'a> Class<'a> {
    /// Of this call.
    #[must_use]
    pub fn of(call: &'a Call) -> Self {
        match &call.outcome {
            Outcome::Failed { why, .. } => Self::Failed(why),
            Outcome::Answered(_) if call.is_accepted() => Self::Admitted,
            Outcome::Answered(answered) => match &answered.code {
                Some(code) => Self::Refused { code, answered },
                None => Self::Unexpected,
            },
        }
    }
}

impl Traffic {
    /// Of this run.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let mut traffic = Self { calls: record.calls.len() as u64, ..Self::default() };
        if let Some((begin, end)) = load_period_us(record) {
            traffic.seconds = (end - begin) as f64 / 1e6;
        }
        for call in &record.calls {
            traffic.count(record, call);
        }
        traffic.requests = record.calls.iter().map(|call| call.request).collect::<HashSet<_>>().len() as u64;
        traffic.calls_per_second = per(traffic.calls as f64, traffic.seconds);
        traffic.admitted_per_second = per(traffic.admitted as f64, traffic.seconds);
        let latency = |wanted: fn(&Class<'_>) -> bool| {
            Quantiles::of(record.calls.iter().filter(|call| wanted(&Class::of(call))).map(Call::latency_us))
        };
        traffic.admitted_latency = latency(|class| matches!(class, Class::Admitted));
        traffic.refused_latency = latency(|class| matches!(class, Class::Refused { .. }));
        traffic.failed_latency = latency(|class| matches!(class, Class::Failed(_)));
        traffic.behind = Quantiles::of(record.calls.iter().map(|call| call.sent_us.saturating_sub(call.intended_us)));
        traffic
    }

    fn count(&mut self, record: &Record, call: &Call) {
        let caller = record.callers.get(call.caller as usize);
        let user_type = caller.map_or("unknown", |caller| caller.user_type.as_str());
        let of_type = self.by_user_type.entry(user_type.to_owned()).or_default();
        of_type.calls += 1;
        match Class::of(call) {
            Class::Admitted => {
                self.admitted += 1;
                of_type.admitted += 1;
            }
            Class::Refused { code, answered } => {
                self.refused += 1;
                *of_type.refused_by.entry(code.to_owned()).or_default() += 1;
                let refusals = self.refused_by.entry(code.to_owned()).or_default();
                refusals.count += 1;
                if refusals.step.is_empty() {
                    refusals.step = answered.step.clone().unwrap_or_default();
                }
            }
            Class::Failed(why) => {
                self.failed += 1;
                of_type.failed += 1;
                *self.failed_by.entry(why.to_owned()).or_default() += 1;
                self.unsent += u64::from(matches!(call.outcome, Outcome::Failed { sent: false, .. }));
            }
            Class::Unexpected => self.unexpected += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{admitted, failed, record_of, refused};

    #[test]
    fn every_call_counts_once() {
        let mut odd = admitted(3, 900);
        odd.outcome = Outcome::Answered(Answered { status: 502, ..Answered::default() });
        let record = record_of(vec![admitted(0, 0), refused(1, 100, "burst_limit"), failed(2, 200, "refused"), odd]);
        let traffic = Traffic::of(&record);
        assert_eq!((traffic.calls, traffic.requests), (4, 4));
        assert_eq!((traffic.admitted, traffic.refused, traffic.failed, traffic.unexpected), (1, 1, 1, 1));
        let expected = Refusals { step: "rate_limit".to_owned(), count: 1 };
        assert_eq!(traffic.refused_by, BTreeMap::from([("burst_limit".to_owned(), expected)]));
        assert_eq!(traffic.by_user_type["paid"].calls, 4);
    }

    #[test]
    fn latency_counts_from_the_intention() {
        let mut call = admitted(0, 1000);
        (call.sent_us, call.ended_us) = (501_000, 502_000);
        let traffic = Traffic::of(&record_of(vec![call]));
        assert!((traffic.admitted_latency.p50_ms - 501.0).abs() < 1.0, "{traffic:?}");
        assert!((traffic.behind.max_ms - 500.0).abs() < 1.0, "{traffic:?}");
    }

    #[test]
    fn a_repetition_is_a_call_but_no_request() {
        let mut again = admitted(0, 5000);
        again.repetition = 1;
        let traffic = Traffic::of(&record_of(vec![refused(0, 0, "burst_limit"), again]));
        assert_eq!((traffic.calls, traffic.requests), (2, 1));
    }
}
