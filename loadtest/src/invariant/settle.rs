//! No stale settlement.
//!
//! Concludes from the end and the handlers' log: a task has one of the documented statuses and an end exactly if that
//! is terminal. One that succeeded had a run that did, and that run was not stale when it answered: no newer token had
//! been handed out for the task by then.
//!
//! Cannot conclude which run brought a task to any other end: a processor may die with an answer in its hands, and
//! cancellations, deadlines and lapsed leases end tasks without one.

use portcullis_lua::TaskStatus;

use super::case::{Case, moment};
use super::runs::{self, Run};
use super::verdict::Findings;
use crate::record::TaskEnd;
use crate::record::attempt::AttemptEnd;

const STATUSES: [TaskStatus; 7] = [
    TaskStatus::Queued,
    TaskStatus::Running,
    TaskStatus::Succeeded,
    TaskStatus::Failed,
    TaskStatus::Dead,
    TaskStatus::Cancelled,
    TaskStatus::Expired,
];

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let Some(ending) = &case.record.ending else { return };
    let runs = runs::by_task(case);
    let foreign = case.record.attempts.is_empty();
    if foreign {
        findings.leave_out("which run settled: the handlers are not the harness's own");
    }
    for (task, end) in &ending.tasks {
        let Some(word) = end.status.as_deref() else { continue };
        let status = STATUSES.into_iter().find(|status| status.as_str() == word);
        let consistent = status.is_some_and(|status| status.is_terminal() == end.finished_ms.is_some());
        findings.check(
            consistent && end.finished_ms.is_none_or(|finished_ms| Some(finished_ms) >= end.created_ms),
            || format!("task {task} is {word}, created {:?}, finished {:?}", end.created_ms, end.finished_ms),
            Vec::new,
        );
        if status == Some(TaskStatus::Succeeded) && !foreign {
            succeeded(case, findings, task, end, runs.get(task.as_str()).map_or(&[], Vec::as_slice));
        }
    }
}

fn succeeded(case: &Case<'_>, findings: &mut Findings, task: &str, end: &TaskEnd, runs: &[Run<'_>]) {
    let slack_us = case.slack_us();
    let finished_us = end.finished_ms.and_then(|finished_ms| case.run_us(finished_ms)).unwrap_or(i64::MAX);
    let could_settle = |place: usize, run: &Run<'_>| {
        let answered =
            run.attempt.end == AttemptEnd::Succeeded && run.ended_us() <= finished_us.saturating_add(slack_us);
        // Any of the newer ones, had it been claimed by then, would have made this one stale.
        let overtaken = |newer: &Run<'_>| newer.claimed_us.is_some_and(|at_us| at_us + slack_us < run.ended_us());
        answered && !runs[place + 1..].iter().any(overtaken)
    };
    findings.check(
        runs.iter().enumerate().any(|(place, run)| could_settle(place, run)),
        || format!("task {task} succeeded at {}, but no run can have settled it so", moment(finished_us)),
        || runs.iter().map(Run::line).collect(),
    );
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, not_applicable, violation};
    use crate::record::attempt::AttemptEnd::{Abandoned, Failed, Succeeded};

    fn task() -> Hand {
        Hand::new().admitted("paid", 0, 1, 10)
    }

    #[test]
    fn a_task_succeeds_by_a_run_that_did() {
        assert_eq!(held(&task().ran(10, Some(50), Succeeded).ended("succeeded", 51), "settle"), 2);
        held(&task().ran(10, Some(50), Failed).ran(60, Some(90), Succeeded).ended("succeeded", 91), "settle");
        violation(&task().ran(10, Some(50), Failed).ended("succeeded", 51), "settle");
        violation(&task().ran(10, Some(50), Abandoned).ended("succeeded", 51), "settle");
        not_applicable(&task(), "settle");
    }

    #[test]
    fn a_run_that_answered_after_its_task_was_claimed_again_settles_nothing() {
        let stale = |claimed_ms, end| task().ran(10, Some(500), Succeeded).ran(claimed_ms, Some(600), end);
        held(&stale(499, Abandoned).ended("succeeded", 700), "settle");
        violation(&stale(400, Abandoned).ended("succeeded", 700), "settle");
        held(&stale(400, Succeeded).ended("succeeded", 700), "settle");
    }

    #[test]
    fn a_task_is_not_settled_by_an_answer_after_its_end() {
        violation(&task().ran(10, Some(500), Succeeded).ended("succeeded", 400), "settle");
    }

    #[test]
    fn a_status_is_documented_and_ends_at_a_time_if_it_ends() {
        let mut hand = task().ran(10, Some(50), Succeeded).ended("vanished", 51);
        violation(&hand, "settle");
        hand = hand.ended("queued", 51);
        violation(&hand, "settle");
        hand.ending().tasks.get_mut("task-0").unwrap().finished_ms = None;
        held(&hand, "settle");
        hand = hand.ended("dead", 51);
        held(&hand, "settle");
        hand.ending().tasks.get_mut("task-0").unwrap().finished_ms = Some(1);
        violation(&hand, "settle");
    }
}
