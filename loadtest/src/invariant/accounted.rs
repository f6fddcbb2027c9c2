//! Accepted = ended + queued + running.
//!
//! Concludes from the clients' log, the decision events and the end: every task that a client was told is accepted has
//! exactly one admission, is known at the end, and has ended once everything is at rest; every admission was told to
//! the client, or is one of those whose client was told that Redis does not answer, or was told nothing. No task is
//! known that nobody submitted.
//!
//! A request is known by its id. Where gateways give requests ids of their own, each call without an answer excuses one
//! admission of its user type and kind.
//!
//! Cannot conclude anything once finished tasks are forgotten, or Redis has lost what it accepted.

use std::collections::{HashMap, HashSet};

use portcullis_lua::{DecisionEvent, TaskStatus};

use super::case::{Case, RequestOf};
use super::verdict::Findings;
use crate::record::{Ending, Outcome, Record};

/// The five ends of a task.
pub(super) const ENDED: [TaskStatus; 5] =
    [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Dead, TaskStatus::Cancelled, TaskStatus::Expired];

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let Some(ending) = &case.record.ending else { return };
    let kept_us = case.policies().map(|policy| policy.queue.result_ttl_seconds).min().unwrap_or(0) * 1_000_000;
    if kept_us <= case.record.took_us {
        findings.not_applicable("finished tasks are forgotten sooner than the run took: raise result_ttl_seconds");
        return;
    }
    if !case.is_complete(findings) {
        return;
    }
    ends(case, ending, findings);
    let admitted = admissions(case, findings);
    for call in case.record.calls.iter().filter(|call| call.is_accepted()) {
        let Some(task) = call.task_id() else { continue };
        findings.check(
            admitted.contains_key(task),
            || format!("task {task} was accepted, but no event says so"),
            || vec![case.call_line(call)],
        );
    }
    told(case, &admitted, findings);
}

/// Every task of the end is known and has ended.
fn ends(case: &Case<'_>, ending: &Ending, findings: &mut Findings) {
    let rested = ending.rested_us.is_some();
    let mut waiting = Vec::new();
    for (task, end) in &ending.tasks {
        let status = end.status.as_deref();
        let ended = status.is_some_and(|status| ENDED.iter().any(|end| end.as_str() == status));
        if !ended && status.is_some() {
            waiting.push(task.as_str());
        }
        findings.check(
            ended || (status.is_some() && !rested),
            || format!("task {task} was accepted and is {}", status.unwrap_or("unknown")),
            || trace(case, task),
        );
    }
    // Tasks were asked after when the queues had been counted: some may have ended since, none can have come.
    let counted = ending.queued + ending.running + ending.delayed;
    findings.check(
        waiting.len() as u64 <= counted,
        || format!("{} tasks have not ended, but {counted} are queued, leased or delayed", waiting.len()),
        || waiting.iter().map(|task| (*task).to_owned()).collect(),
    );
}

/// All that is known of a task.
fn trace(case: &Case<'_>, task: &str) -> Vec<String> {
    let events = case.record.decisions.iter().filter(|event| event.task_id.as_deref() == Some(task));
    let calls = case.record.calls.iter().filter(|call| call.task_id() == Some(task));
    calls.map(|call| case.call_line(call)).chain(events.map(|event| case.line(event))).collect()
}

/// The admission of each task; a second one is a violation. So is a repetition of one that never was.
fn admissions<'a>(case: &'a Case<'_>, findings: &mut Findings) -> HashMap<&'a str, &'a DecisionEvent> {
    let mut admitted = HashMap::with_capacity(case.record.decisions.len());
    let earlier = case.record.earlier.iter().filter_map(|event| event.task_id.as_deref());
    let earlier: HashSet<&str> = earlier.collect();
    for event in &case.record.decisions {
        let Some(task) = event.task_id.as_deref() else { continue };
        if event.outcome == "admitted" {
            let before = admitted.insert(task, event);
            findings.check(
                before.is_none(),
                || format!("task {task} was admitted twice"),
                || before.into_iter().chain([event]).map(|event| case.line(event)).collect(),
            );
        } else if case.record.earlier_incomplete && !admitted.contains_key(task) {
            findings.leave_out("replays of tasks that may have been admitted before the run");
        } else {
            findings.check(
                admitted.contains_key(task) || earlier.contains(task),
                || format!("task {task} was replayed and never admitted"),
                || vec![case.line(event)],
            );
        }
    }
    admitted
}

/// Whether the client of every admission was told of it, or cannot know.
fn told(case: &Case<'_>, admitted: &HashMap<&str, &DecisionEvent>, findings: &mut Findings) {
    let record = case.record;
    let accepted: HashSet<&str> =
        record.calls.iter().filter(|call| call.is_accepted()).filter_map(|call| call.task_id()).collect();
    let mut silence = Silence::of(record);
    for (task, event) in admitted.iter().filter(|(task, _)| !accepted.contains(*task)) {
        match silence.about(case, event) {
            Told::Nobody => findings.leave_out("admissions of callers that are not in the record"),
            Told::Unknown => findings.check(true, String::new, Vec::new),
            Told::Else(what) => findings.check(
                false,
                || format!("task {task} was admitted, and its client was told {what}"),
                || vec![case.line(event), format!("request {} of {}", event.request_id, event.principal)],
            ),
        }
    }
}

/// What the client of an admission was told that was not told of it.
enum Told<'a> {
    /// It is no client of the run.
    Nobody,
    /// That Redis does not answer, or nothing although its call was sent: it cannot know.
    Unknown,
    /// This.
    Else(&'a str),
}

/// What clients were told otherwise, and what they were not told.
struct Silence<'a> {
    /// By request id.
    answers: HashMap<&'a str, &'a str>,
    /// Calls that were sent and not answered, by user type and kind.
    unanswered: HashMap<(&'a str, &'a str), u64>,
    principals: HashSet<&'a str>,
    /// Whether a caller may have any principal.
    anybody: bool,
}

impl<'a> Silence<'a> {
    fn of(record: &'a Record) -> Self {
        let (mut answers, mut unanswered) = (HashMap::new(), HashMap::new());
        for call in &record.calls {
            match &call.outcome {
                Outcome::Answered(answered) => {
                    let request_id = answered.request_id.as_deref();
                    answers.extend(request_id.map(|request_id| (request_id, call.outcome.name())));
                }
                Outcome::Failed { sent: true, .. } => {
                    let caller = record.callers.get(call.caller as usize);
                    let user_type = caller.map_or("", |caller| caller.user_type.as_str());
                    *unanswered.entry((user_type, call.kind.as_str())).or_default() += 1;
                }
                Outcome::Failed { sent: false, .. } => {}
            }
        }
        let principals = record.callers.iter().filter_map(|caller| caller.principal.as_deref()).collect();
        let anybody = record.callers.iter().any(|caller| caller.principal.is_none());
        Self { answers, unanswered, principals, anybody }
    }

    /// What the client of this admission was told.
    fn about(&mut self, case: &Case<'a>, event: &'a DecisionEvent) -> Told<'a> {
        let answer = self.answers.get(event.request_id.as_str()).copied();
        let request_of = case.request_of(&event.request_id);
        match (answer, &request_of) {
            (Some("store_unavailable"), _) => return Told::Unknown,
            (Some(answer), _) => return Told::Else(answer),
            (None, RequestOf::Call(call)) => {
                let sent = matches!(call.outcome, Outcome::Failed { sent: true, .. });
                return if sent { Told::Unknown } else { Told::Else("nothing") };
            }
            (None, RequestOf::Others) => {}
            (None, RequestOf::Unknown) => {
                let silent = self.unanswered.get_mut(&(event.user_type.as_str(), event.kind.as_str()));
                if let Some(silent) = silent.filter(|silent| **silent > 0) {
                    *silent -= 1;
                    return Told::Unknown;
                }
            }
        }
        // An answer would have been found: this client has none, or is none of ours.
        let ours = self.principals.contains(event.principal.as_str());
        let ours = ours || (self.anybody && (case.is_alone() || matches!(request_of, RequestOf::Unknown)));
        if ours { Told::Else("nothing") } else { Told::Nobody }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, not_applicable, violation};
    use crate::record::Outcome;

    fn accepted() -> Hand {
        Hand::new().admitted("paid", 0, 1, 10).called(1).ended("succeeded", 100)
    }

    #[test]
    fn an_accepted_task_with_one_admission_and_one_end_is_accounted_for() {
        assert_eq!(held(&accepted(), "accounted"), 4);
        not_applicable(&Hand::new(), "accounted");
    }

    #[test]
    fn an_accepted_task_that_is_unknown_or_has_not_ended_at_rest_is_lost() {
        let mut hand = accepted();
        hand.ending().tasks.get_mut("task-0").unwrap().status = None;
        let violation = violation(&hand, "accounted");
        assert_eq!(violation.what, "task task-0 was accepted and is unknown");
        assert_eq!(violation.evidence.len(), 2, "its call and its admission");
        hand.ending().tasks.get_mut("task-0").unwrap().status = Some("queued".to_owned());
        hand.ending().queued = 1;
        super::super::hand::violation(&hand, "accounted");
        hand.ending().rested_us = None;
        held(&hand, "accounted");
        hand.ending().queued = 0;
        assert!(super::super::hand::violation(&hand, "accounted").what.contains("but 0 are queued"));
    }

    #[test]
    fn an_accepted_task_without_an_admission_is_a_violation() {
        let mut hand = accepted();
        hand.record.decisions.clear();
        assert!(violation(&hand, "accounted").what.contains("no event says so"));
        hand.record.decisions_incomplete = true;
        not_applicable(&hand, "accounted");
    }

    #[test]
    fn a_task_is_admitted_once_and_replayed_only_afterwards() {
        let mut hand = accepted().admitted("paid", 1, 1, 10);
        hand.record.decisions[1].task_id = Some("task-0".to_owned());
        assert!(violation(&hand, "accounted").what.contains("admitted twice"));
        hand.record.decisions[1].outcome = "replayed".to_owned();
        held(&hand, "accounted");
        hand.record.decisions[1].task_id = Some("task-9".to_owned());
        assert!(violation(&hand, "accounted").what.contains("never admitted"));
    }

    #[test]
    fn an_admission_whose_client_was_told_no_is_a_violation_unless_nobody_could_know() {
        let mut hand = accepted();
        hand.answer().status = 503;
        hand.answer().code = Some("hard_limit".to_owned());
        assert!(violation(&hand, "accounted").what.contains("told hard_limit"));
        hand.answer().code = Some("store_unavailable".to_owned());
        held(&hand, "accounted");
        hand.record.calls[0].outcome = Outcome::Failed { why: "reset".to_owned(), sent: true };
        held(&hand, "accounted");
        hand.record.calls[0].outcome = Outcome::Failed { why: "refused".to_owned(), sent: false };
        assert!(violation(&hand, "accounted").what.contains("told nothing"));
        hand.record.decisions[0].principal = "a stranger".to_owned();
        held(&hand, "accounted");
    }

    #[test]
    fn silence_excuses_the_admission_of_its_own_request_only() {
        let mut hand = Hand::new().admitted("paid", 0, 1, 10).called(1).admitted("paid", 1, 2, 10).called(1);
        hand = hand.admitted("paid", 2, 3, 10).called(1).ended("succeeded", 100);
        (0..3).for_each(|call| hand.request_id(call, &format!("run-{call}-0")));
        hand.record.calls[1].outcome = Outcome::Failed { why: "reset".to_owned(), sent: true };
        held(&hand, "accounted");
        // Another call fell silent: nobody was told of the third admission, and nobody can have been.
        hand.record.calls[2].request = 7;
        hand.record.calls[2].outcome = Outcome::Failed { why: "reset".to_owned(), sent: true };
        assert!(violation(&hand, "accounted").what.contains("told nothing"));
        hand.record.decisions[2].principal = "a stranger".to_owned();
        hand.record.decisions[2].request_id = "another run-2-0".to_owned();
        held(&hand, "accounted");
    }

    #[test]
    fn what_was_admitted_before_the_run_is_no_concern_of_its_clients() {
        let mut hand = accepted().admitted("paid", 1, 1, 10);
        let before = hand.record.decisions.remove(1);
        let again = portcullis_lua::DecisionEvent { outcome: "replayed".to_owned(), ..before.clone() };
        hand.record.decisions.push(again);
        assert!(violation(&hand, "accounted").what.contains("never admitted"));
        hand.record.earlier.push(before);
        held(&hand, "accounted");
        hand.record.earlier.clear();
        hand.record.earlier_incomplete = true;
        held(&hand, "accounted");
    }

    #[test]
    fn forgotten_results_are_not_missed() {
        let mut hand = accepted();
        hand.record.took_us = 3_600_000_000;
        assert!(not_applicable(&hand, "accounted").contains("result_ttl_seconds"));
    }
}
