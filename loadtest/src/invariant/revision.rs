//! No decision under an old revision.
//!
//! Concludes from the decision events that revisions never fall in the order in which they were recorded, and from the
//! clients' log that whoever sent a request after an update was accepted was decided by that update or a later one: by
//! the header of the answer, and by the decision event of the same request. Only answers that the policy decided count:
//! a gateway that cannot reach Redis says so under whatever policy it holds.

use std::collections::HashMap;

use super::case::{Case, moment};
use super::verdict::Findings;
use crate::record::{Answered, Call};

/// Codes of refusals that no policy decided.
const UNDECIDED: [&str; 5] = ["store_unavailable", "draining", "unauthenticated", "invalid_request", "not_found"];

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    if !case.is_complete(findings) {
        return;
    }
    for pair in case.record.decisions.windows(2) {
        let [before, after] = pair else { continue };
        findings.check(
            before.policy_revision <= after.policy_revision,
            || format!("revision {} decided after {} had", after.policy_revision, before.policy_revision),
            || vec![case.line(before), case.line(after)],
        );
    }
    let accepted = accepted(case);
    // Request ids are compared only where an update can have been missed.
    let mut sent_after: HashMap<&str, (&Call, u64, u64)> = HashMap::new();
    for call in &case.record.calls {
        let place = accepted.partition_point(|(accepted_us, _)| *accepted_us <= call.sent_us);
        let Some((accepted_us, least)) = place.checked_sub(1).map(|place| accepted[place]) else { continue };
        let Some(answered) = call.answered().filter(|answered| is_decided(answered)) else { continue };
        if let Some(request_id) = answered.request_id.as_deref() {
            sent_after.insert(request_id, (call, accepted_us, least));
        }
        let Some(revision) = answered.policy_revision else { continue };
        findings.check(
            revision >= least,
            || format!("answered under revision {revision} after {least} was accepted"),
            || vec![format!("{} revision {least} accepted", moment(accepted_us as i64)), case.call_line(call)],
        );
    }
    for event in &case.record.decisions {
        let Some((call, accepted_us, least)) = sent_after.get(event.request_id.as_str()) else { continue };
        findings.check(
            event.policy_revision >= *least,
            || format!("decided under revision {} after {least} was accepted", event.policy_revision),
            || {
                let accepted = format!("{} revision {least} accepted", moment(*accepted_us as i64));
                vec![accepted, case.call_line(call), case.line(event)]
            },
        );
    }
}

/// When which revision was accepted, µs: the highest so far, by time.
fn accepted(case: &Case<'_>) -> Vec<(u64, u64)> {
    let mut accepted: Vec<_> =
        case.record.policies.iter().skip(1).map(|policy| (policy.accepted_us, policy.revision)).collect();
    accepted.sort_unstable();
    let mut highest = 0;
    for (_, revision) in &mut accepted {
        highest = highest.max(*revision);
        *revision = highest;
    }
    accepted
}

fn is_decided(answered: &Answered) -> bool {
    answered.code.as_deref().is_none_or(|code| !UNDECIDED.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, not_applicable, violation};

    /// Accepted at 600 ms.
    fn updated() -> Hand {
        Hand::new().admitted("paid", 100, 1, 100).called(1).revised(1, 500, |policy| policy.queue.max_attempts = 2)
    }

    #[test]
    fn an_answer_under_the_new_revision_is_held_and_one_under_the_old_is_not() {
        let mut hand = updated().admitted("paid", 600, 2, 100).called(1);
        assert_eq!(held(&hand, "revision"), 3);
        hand.answer().policy_revision = Some(0);
        let violation = violation(&hand, "revision");
        assert_eq!(violation.what, "answered under revision 0 after 1 was accepted");
        assert!(violation.evidence[1].contains("request 1.0"), "{:?}", violation.evidence);
    }

    #[test]
    fn what_was_sent_before_the_acceptance_may_be_decided_by_either() {
        let mut hand = updated().admitted("paid", 599, 2, 100).called(1);
        hand.answer().policy_revision = Some(0);
        hand.record.decisions[1].policy_revision = 0;
        held(&hand, "revision");
    }

    #[test]
    fn a_decision_is_found_by_its_request() {
        let mut hand = updated().admitted("paid", 600, 2, 100).called(1);
        hand.record.decisions[1].policy_revision = 0;
        assert_eq!(violation(&hand, "revision").what, "decided under revision 0 after 1 was accepted");
    }

    #[test]
    fn revisions_never_fall() {
        let mut hand = Hand::new().admitted("paid", 0, 1, 100).admitted("paid", 1, 2, 100);
        hand.record.decisions[0].policy_revision = 3;
        assert_eq!(violation(&hand, "revision").what, "revision 0 decided after 3 had");
        hand.record.decisions_incomplete = true;
        not_applicable(&hand, "revision");
    }

    #[test]
    fn a_gateway_without_redis_speaks_under_what_it_holds() {
        let mut hand = updated().refused("paid", 700, "store_unavailable", 1, 100).called(1);
        hand.answer().policy_revision = Some(0);
        held(&hand, "revision");
    }
}
