//! Small records to test reports on.
//!
//! Responsible for calls, attempts and decisions that are right in every field a test does not care about. Must never
//! be used outside tests.

use portcullis_lua::{DecisionEvent, RequestOrigin};

use crate::record::attempt::AttemptEnd;
use crate::record::{Answered, Attempt, Call, Caller, Outcome, Record};

/// A record of these calls, all by one paid caller, that took as long as they did.
pub(crate) fn record_of(calls: Vec<Call>) -> Record {
    let caller = Caller {
        number: 0,
        load: "steady".to_owned(),
        user_type: "paid".to_owned(),
        principal: Some("p-0".to_owned()),
    };
    let took_us = calls.iter().map(|call| call.ended_us).max().unwrap_or_default();
    Record { name: "sample".to_owned(), seed: 1, took_us, callers: vec![caller], calls, ..Record::default() }
}

fn call(request: u64, at_us: u64, outcome: Outcome) -> Call {
    Call {
        caller: 0,
        request,
        repetition: 0,
        gateway: 0,
        kind: "chat".to_owned(),
        intended_us: at_us,
        sent_us: at_us,
        ended_us: at_us + 1000,
        outcome,
    }
}

/// A call at this time that became the task of this number.
pub(crate) fn admitted(number: u64, at_us: u64) -> Call {
    let answered = Answered { status: 202, task_id: Some(format!("task-{number}")), ..Answered::default() };
    call(number, at_us, Outcome::Answered(answered))
}

/// A call that the rate limit refused with this code.
pub(crate) fn refused(number: u64, at_us: u64, code: &str) -> Call {
    let (code, step) = (Some(code.to_owned()), Some("rate_limit".to_owned()));
    call(number, at_us, Outcome::Answered(Answered { status: 429, code, step, ..Answered::default() }))
}

/// A call without an answer.
pub(crate) fn failed(number: u64, at_us: u64, why: &str) -> Call {
    call(number, at_us, Outcome::Failed { why: why.to_owned(), sent: true })
}

/// A successful attempt of the task of this number, of so many µs.
pub(crate) fn attempt(number: u64, started_us: u64, took_us: u64) -> Attempt {
    Attempt {
        task_id: format!("task-{number}"),
        attempt: 1,
        fencing_token: started_us,
        kind: "chat".to_owned(),
        user_type: "paid".to_owned(),
        principal: "p-0".to_owned(),
        started_us,
        ended_us: Some(started_us + took_us),
        end: AttemptEnd::Succeeded,
    }
}

/// The decision by which the task of this number was admitted.
pub(crate) fn decision(number: u64, at_ms: u64) -> DecisionEvent {
    DecisionEvent {
        id: format!("{at_ms}-0"),
        at_ms,
        policy_revision: 0,
        outcome: "admitted".to_owned(),
        step: None,
        code: None,
        name: None,
        retry_after_ms: 0,
        task_id: Some(format!("task-{number}")),
        pass: None,
        pass_id: None,
        user_type: "paid".to_owned(),
        session_id: "s".to_owned(),
        principal: "p-0".to_owned(),
        actor: None,
        kind: "chat".to_owned(),
        origin: RequestOrigin::default(),
        request_id: "r".to_owned(),
        depth: 1,
        capacity: 10,
    }
}
