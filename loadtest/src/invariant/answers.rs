//! Every answer is a documented one.
//!
//! Concludes from the clients' log: each answer's status, code and step are a row of the public interface (contract,
//! "Refusals"), what is refused for now says when to come again, what is accepted names its task; and from the events
//! of the same request that the client was told what was decided, of itself and of what it asked for. An answer names
//! its request, and it is the client's own: answers that are mixed up would be told to somebody else.
//!
//! A call without an answer is a violation only if it was sent, and only in a run in which nothing was done that breaks
//! or holds up connections: who kills a gateway breaks its connections.

use std::collections::HashMap;

use portcullis_lua::DecisionEvent;

use super::case::{Case, RequestOf};
use super::verdict::Findings;
use crate::record::{Answered, Call, Outcome};

/// Code, status and step of each refusal a submission may get; `None` where the interface fixes no step.
const DOCUMENTED: [(&str, u16, Option<&str>); 23] = [
    ("unauthenticated", 401, Some("session")),
    ("forbidden", 403, Some("session")),
    ("insufficient_scope", 403, Some("session")),
    ("ip_refused", 403, Some("session")),
    ("burst_limit", 429, Some("rate_limit")),
    ("hourly_limit", 429, Some("rate_limit")),
    ("rate_limit", 429, Some("rate_limit")),
    ("pressure_threshold", 503, Some("backpressure")),
    ("hard_limit", 503, Some("backpressure")),
    ("queue_full", 503, Some("backpressure")),
    ("no_live_processors", 503, Some("backpressure")),
    ("deadline_unreachable", 503, Some("backpressure")),
    ("circuit_open", 503, Some("circuit_breaker")),
    ("store_unavailable", 503, Some("circuit_breaker")),
    ("budget_exhausted", 429, Some("economics")),
    ("idempotency_mismatch", 422, Some("enqueue")),
    ("lane_conflict", 409, Some("enqueue")),
    ("payload_too_large", 413, Some("enqueue")),
    ("invalid_request", 400, None),
    // The body did not arrive in time (RFC 9110, 15.5.9).
    ("invalid_request", 408, None),
    ("not_found", 404, None),
    ("draining", 503, None),
    ("stream_limit", 503, Some("backpressure")),
];

/// Faults that leave no call without an answer.
const HARMLESS: [&str; 5] = ["update_policy", "roll_back_policy", "change_backend", "lose_pubsub", "flush_scripts"];

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let mut decided: HashMap<&str, Vec<&DecisionEvent>> = HashMap::with_capacity(case.record.decisions.len());
    for event in &case.record.decisions {
        decided.entry(&event.request_id).or_default().push(event);
    }
    let quiet = case.record.faults.iter().all(|fault| HARMLESS.contains(&fault.name.as_str()));
    for call in &case.record.calls {
        match &call.outcome {
            Outcome::Answered(answered) => {
                let fault = undocumented(answered);
                findings.check(
                    fault.is_none(),
                    || fault.clone().unwrap_or_default(),
                    || vec![case.call_line(call), format!("{answered:?}")],
                );
                let request_id = answered.request_id.as_deref().unwrap_or_default();
                names_its_request(case, call, answered, findings);
                told(case, call, answered, decided.get(request_id).map_or(&[], Vec::as_slice), findings);
            }
            Outcome::Failed { sent: true, why } if quiet => {
                findings.check(false, || format!("no answer: {why}"), || vec![case.call_line(call)]);
            }
            Outcome::Failed { sent: true, .. } => findings.leave_out("calls without an answer, while faults were on"),
            Outcome::Failed { sent: false, .. } => findings.leave_out("calls that never reached a gateway"),
        }
    }
}

/// What is wrong with an answer.
fn undocumented(answered: &Answered) -> Option<String> {
    let Answered { status, code, step, retry_after_seconds, task_id, .. } = answered;
    if matches!(status, 200 | 202) {
        return task_id.is_none().then(|| format!("accepted with {status} and no task"));
    }
    let code = code.as_deref().unwrap_or("no code");
    let Some(row) = DOCUMENTED.iter().find(|(known, of, _)| *known == code && of == status) else {
        return Some(format!("{status} {code} is not documented"));
    };
    if row.2.is_some() && row.2 != step.as_deref() {
        return Some(format!("{code} at step {step:?}"));
    }
    let comes_back = matches!(status, 429 | 503);
    (comes_back && retry_after_seconds.is_none_or(|seconds| seconds == 0))
        .then(|| format!("{status} {code} with Retry-After {retry_after_seconds:?}"))
}

/// Whether the answer is one to this call.
fn names_its_request(case: &Case<'_>, call: &Call, answered: &Answered, findings: &mut Findings) {
    let evidence = || vec![case.call_line(call), format!("{answered:?}")];
    let Some(request_id) = answered.request_id.as_deref() else {
        findings.check(false, || "an answer without X-Request-Id".to_owned(), evidence);
        return;
    };
    let is_own = match case.request_of(request_id) {
        RequestOf::Call(own) => (own.request, own.repetition) == (call.request, call.repetition),
        RequestOf::Others => false,
        RequestOf::Unknown => return,
    };
    findings.check(is_own, || format!("answered as if it were request {request_id}"), evidence);
}

/// Whether the event is about this caller and what it asked for. Of principals only those are held against one another
/// that the gateway's name is known of.
fn is_about(case: &Case<'_>, call: &Call, event: &DecisionEvent) -> bool {
    let Some(caller) = case.record.callers.get(call.caller as usize) else { return false };
    let principal = caller.principal.as_deref().filter(|principal| principal.starts_with("dev:"));
    caller.user_type == event.user_type
        && call.kind == event.kind
        && principal.is_none_or(|principal| principal == event.principal)
}

/// Holds what a client was told against what was decided of its request. Nothing is decided of what gateways refuse by
/// themselves, and who was told that Redis does not answer was not told a decision.
fn told(case: &Case<'_>, call: &Call, answered: &Answered, events: &[&DecisionEvent], findings: &mut Findings) {
    if events.is_empty() || answered.code.as_deref() == Some("store_unavailable") {
        return;
    }
    let agrees = |event: &&DecisionEvent| match event.outcome.as_str() {
        "refused" => event.code == answered.code,
        _ => call.is_accepted() && event.task_id == answered.task_id,
    };
    findings.check(
        events.iter().any(agrees),
        || "the client was told something else than was decided".to_owned(),
        || std::iter::once(case.call_line(call)).chain(events.iter().map(|event| case.line(event))).collect(),
    );
    for event in events {
        findings.check(
            is_about(case, call, event),
            || "the request was decided as somebody else's, or as another".to_owned(),
            || {
                let DecisionEvent { principal, kind, .. } = event;
                let caller = case.record.callers.get(call.caller as usize);
                let sent =
                    format!("sent by {:?}, kind {}", caller.and_then(|caller| caller.principal.as_deref()), call.kind);
                vec![case.call_line(call), sent, case.line(event), format!("decided of {principal}, kind {kind}")]
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, not_applicable, violation, violations};
    use crate::record::Outcome;

    fn refused() -> Hand {
        let mut hand = Hand::new().refused("paid", 0, "burst_limit", 0, 10).called(1);
        hand.answer().step = Some("rate_limit".to_owned());
        hand
    }

    #[test]
    fn documented_answers_are_held() {
        assert_eq!(held(&Hand::new().admitted("paid", 0, 1, 10).called(1), "answers"), 3);
        assert_eq!(held(&refused(), "answers"), 3);
        not_applicable(&Hand::new(), "answers");
    }

    #[test]
    fn an_acceptance_without_a_task_is_none() {
        let mut hand = Hand::new().admitted("paid", 0, 1, 10).called(1);
        hand.record.decisions.clear();
        hand.answer().task_id = None;
        assert_eq!(violation(&hand, "answers").what, "accepted with 202 and no task");
    }

    #[test]
    fn a_status_without_its_code_is_not_documented() {
        for (status, code) in [(500, None), (503, Some("burst_limit")), (429, Some("made_up")), (201, None)] {
            let mut hand = refused();
            hand.record.decisions.clear();
            (hand.answer().status, hand.answer().code) = (status, code.map(str::to_owned));
            assert!(violation(&hand, "answers").what.ends_with("is not documented"), "{status}");
        }
    }

    #[test]
    fn what_is_refused_for_now_says_when_to_come_again_and_at_which_step() {
        let mut hand = refused();
        hand.answer().retry_after_seconds = Some(0);
        assert!(violation(&hand, "answers").what.contains("Retry-After"));
        let mut hand = refused();
        hand.answer().step = Some("economics".to_owned());
        assert!(violation(&hand, "answers").what.contains("at step"));
    }

    #[test]
    fn a_client_is_told_what_was_decided() {
        let mut hand = refused();
        hand.record.decisions[0].code = Some("hourly_limit".to_owned());
        assert!(violation(&hand, "answers").what.contains("something else"));
        let mut hand = Hand::new().admitted("paid", 0, 1, 10).called(1);
        hand.answer().task_id = Some("another".to_owned());
        assert!(violation(&hand, "answers").what.contains("something else"));
    }

    #[test]
    fn an_answer_names_its_request_which_is_the_clients_own() {
        let mut hand = Hand::new().admitted("paid", 0, 1, 10).called(1).admitted("paid", 1, 2, 10).called(1);
        for place in 0..2 {
            hand.request_id(place, &format!("run-{place}-0"));
        }
        assert_eq!(held(&hand, "answers"), 2 * 4);
        let mut mixed_up = hand.clone();
        let (one, other) = (hand.record.calls[0].outcome.clone(), hand.record.calls[1].outcome.clone());
        (mixed_up.record.calls[0].outcome, mixed_up.record.calls[1].outcome) = (other, one.clone());
        // A third call, by which the run's own ids are known.
        let mut third = Hand::new().admitted("paid", 0, 1, 10).called(1).record.calls.remove(0);
        third.request = 2;
        mixed_up.record.calls.push(third);
        mixed_up.request_id(2, "run-2-0");
        let what: Vec<String> = violations(&mixed_up, "answers").into_iter().map(|violation| violation.what).collect();
        assert_eq!(what, ["answered as if it were request run-1-0", "answered as if it were request run-0-0"]);
        hand.answer().request_id = None;
        assert_eq!(violation(&hand, "answers").what, "an answer without X-Request-Id");
    }

    #[test]
    fn a_request_is_decided_as_its_own_callers() {
        let changes: [fn(&mut portcullis_lua::DecisionEvent); 3] = [
            |event| event.user_type = "privileged".to_owned(),
            |event| event.kind = "report".to_owned(),
            |event| event.principal = "dev:mallory".to_owned(),
        ];
        for change in changes {
            let mut hand = Hand::new().admitted("paid", 0, 1, 10).called(1);
            hand.record.callers[1].principal = Some("dev:ada".to_owned());
            hand.record.decisions[0].principal = "dev:ada".to_owned();
            held(&hand, "answers");
            change(&mut hand.record.decisions[0]);
            assert!(violation(&hand, "answers").what.contains("somebody else's"));
        }
    }

    #[test]
    fn a_call_without_an_answer_is_excused_only_by_a_fault() {
        let mut hand = Hand::new().admitted("paid", 0, 1, 10).called(1);
        hand.record.calls[0].outcome = Outcome::Failed { why: "reset".to_owned(), sent: true };
        assert_eq!(violation(&hand, "answers").what, "no answer: reset");
        let hand = hand.fault("update_policy", 0, 1);
        violation(&hand, "answers");
        not_applicable(&hand.fault("kill", 0, 1), "answers");
    }
}
