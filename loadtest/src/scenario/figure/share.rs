//! Shares of requests, calls and tasks.
//!
//! Responsible for what counts as one of a whole: a request is what somebody wanted answered, a call is one try. Must
//! never take a share of nothing.

use std::collections::{HashMap, HashSet};

use crate::record::{Call, Record};

/// Statuses that a task does not leave.
const TERMINAL: [&str; 5] = ["succeeded", "failed", "dead", "cancelled", "expired"];

/// Calls of one user type or stream, or all.
fn calls<'a>(record: &'a Record, of: Option<&'a str>) -> impl Iterator<Item = &'a Call> {
    let asked = move |call: &&Call| {
        let caller = record.callers.get(call.caller as usize);
        of.is_none_or(|of| caller.is_some_and(|caller| caller.user_type == of || caller.load == of))
    };
    record.calls.iter().filter(asked)
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Of requests, those that were admitted at last.
pub(super) fn admitted(record: &Record, of: Option<&str>) -> Option<f64> {
    let mut requests: HashMap<u64, bool> = HashMap::new();
    for call in calls(record, of) {
        *requests.entry(call.request).or_default() |= call.is_accepted();
    }
    share(requests.values().filter(|admitted| **admitted).count(), requests.len())
}

/// Of calls, those that were refused, with this code or any.
pub(super) fn refused(record: &Record, code: Option<&str>) -> Option<f64> {
    let refused = record.calls.iter().filter_map(|call| call.answered()?.code.as_deref());
    share(refused.filter(|said| code.is_none_or(|code| code == *said)).count(), record.calls.len())
}

/// Of calls, those without an answer.
pub(super) fn failed(record: &Record, of: Option<&str>) -> Option<f64> {
    let failed = calls(record, of).filter(|call| call.answered().is_none()).count();
    share(failed, calls(record, of).count())
}

/// Calls per request.
pub(super) fn calls_per_request(record: &Record, of: Option<&str>) -> Option<f64> {
    let requests: HashSet<u64> = calls(record, of).map(|call| call.request).collect();
    share(calls(record, of).count(), requests.len())
}

/// The tasks that callers were told are accepted.
fn accepted(record: &Record) -> HashSet<&str> {
    record.calls.iter().filter(|call| call.is_accepted()).filter_map(Call::task_id).collect()
}

fn status<'a>(record: &'a Record, task_id: &str) -> Option<&'a str> {
    record.ending.as_ref()?.tasks.get(task_id)?.status.as_deref()
}

/// Of accepted tasks, those that succeeded.
pub(super) fn succeeded(record: &Record) -> Option<f64> {
    record.ending.as_ref()?;
    let accepted = accepted(record);
    share(accepted.iter().filter(|task_id| status(record, task_id) == Some("succeeded")).count(), accepted.len())
}

/// Accepted tasks without an end.
pub(super) fn not_ended(record: &Record) -> Option<f64> {
    record.ending.as_ref()?;
    let ended = |task_id: &&str| status(record, task_id).is_some_and(|status| TERMINAL.contains(&status));
    Some(accepted(record).iter().filter(|task_id| !ended(task_id)).count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ending, TaskEnd};
    use crate::report::sample::{admitted as accepted_call, failed as failed_call, record_of, refused as refused_call};

    fn record() -> Record {
        let mut again = accepted_call(1, 900);
        again.repetition = 1;
        record_of(vec![
            accepted_call(0, 0),
            refused_call(1, 100, "burst_limit"),
            failed_call(2, 200, "timeout"),
            refused_call(3, 300, "hard_limit"),
            again,
        ])
    }

    fn near(found: Option<f64>, wanted: f64) {
        assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-9), "{found:?} is not {wanted}");
    }

    #[test]
    fn a_request_that_was_admitted_at_last_was_admitted() {
        near(admitted(&record(), None), 0.5);
        near(admitted(&record(), Some("paid")), 0.5);
        assert_eq!(admitted(&record(), Some("nobody")), None);
    }

    #[test]
    fn calls_are_shared_among_their_answers() {
        near(refused(&record(), None), 0.4);
        near(refused(&record(), Some("burst_limit")), 0.2);
        near(failed(&record(), None), 0.2);
        near(calls_per_request(&record(), None), 1.25);
    }

    #[test]
    fn a_task_that_nobody_knows_has_not_ended() {
        let mut record = record();
        assert_eq!(not_ended(&record), None);
        let task_id = record.calls[0].task_id().expect("accepted").to_owned();
        let end = TaskEnd { status: Some("succeeded".to_owned()), ..TaskEnd::default() };
        record.ending = Some(Ending { tasks: [(task_id, end)].into(), ..Ending::default() });
        near(not_ended(&record), 1.0);
        near(succeeded(&record), 0.5);
    }
}
