//! No task run under two live leases.
//!
//! Concludes from the handlers' log: every run has a fencing token, and no two the same. Where a run began although an
//! older one was still under way, the older one's lease must have lapsed before the task was claimed again: a lease
//! lasts from its claim for `lease_ms` at least, and only gets longer by renewal. No task is claimed after it ended,
//! and none has more runs than the cluster counts.
//!
//! A run that begins after a newer one did has lost its lease before it began. A processor that is frozen between
//! looking at its lease and calling the handler does that, and the token is what tells the handler; without a fault
//! nearby it is a violation.
//!
//! Cannot conclude when a renewed lease lapsed, nor anything from the claim of a run whose token does not tell it. A
//! handler learns with a short delay that a connection was closed: an abandoned run counts as over that much earlier.

use super::case::Case;
use super::runs::{self, Run};
use super::verdict::Findings;
use crate::record::attempt::AttemptEnd;

/// What two times by the same clock may be off: both are rounded, and tokens count the claims of a ms.
const ROUNDING_US: i64 = 20_000;
/// How late a handler may learn that its connection was closed while something is being done to the cluster: what a
/// draining processor hands back is claimed again at once, on a machine that is busy starting another.
const NOTICE_US: i64 = 250_000;
/// Otherwise this part of a lease, because then only a lapsed lease or a retry after a wait follows upon a closed
/// connection.
const NOTICE_PART: i64 = 10;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    let shortest = case.policies().map(|policy| policy.queue.lease_ms).min();
    let Some(lease_us) = shortest.map(|ms| ms as i64 * 1000) else { return };
    for (task, runs) in &runs::by_task(case) {
        for (place, later) in runs.iter().enumerate() {
            if later.claimed_us.is_none() {
                findings.leave_out("claims of runs whose token does not tell their time");
            }
            findings.check(
                later.attempt.fencing_token > 0 && !task.is_empty(),
                || "a handler was called without a task or a fencing token".to_owned(),
                || vec![later.line()],
            );
            for earlier in &runs[..place] {
                pair(case, findings, lease_us, earlier, later);
            }
        }
        end(case, findings, task, runs);
    }
}

/// Two runs of a task, the later with the newer token.
fn pair(case: &Case<'_>, findings: &mut Findings, lease_us: i64, earlier: &Run<'_>, later: &Run<'_>) {
    let evidence = || vec![earlier.line(), later.line()];
    let token = later.attempt.fencing_token;
    if earlier.attempt.fencing_token == token {
        findings.check(false, || format!("two runs under the token {token}"), evidence);
        return;
    }
    let late = match earlier.attempt.end {
        AttemptEnd::Abandoned if faulty(case, later.started_us() - lease_us, later.started_us()) => NOTICE_US,
        AttemptEnd::Abandoned => (lease_us / NOTICE_PART).clamp(ROUNDING_US, NOTICE_US),
        AttemptEnd::Running | AttemptEnd::Succeeded | AttemptEnd::Failed => 0,
    };
    let both = earlier.started_us() < later.ended_us() && later.started_us() < earlier.ended_us().saturating_sub(late);
    if both && case.record.decisions_incomplete {
        findings.leave_out("leases that Redis may have lost");
    } else if let (true, Some(first), Some(second)) = (both, earlier.claimed_us, later.claimed_us) {
        findings.check(
            second + ROUNDING_US >= first + lease_us,
            || {
                let after_ms = (second - first) / 1000;
                format!("claimed again {after_ms} ms after a claim whose run goes on, lease {} ms", lease_us / 1000)
            },
            evidence,
        );
    }
    let began_late = earlier.started_us() > later.started_us();
    findings.check(
        !began_late || faulty(case, earlier.started_us() - lease_us, earlier.started_us()),
        || "a run began after one with a newer token had".to_owned(),
        evidence,
    );
}

/// The task's end against its runs.
fn end(case: &Case<'_>, findings: &mut Findings, task: &str, runs: &[Run<'_>]) {
    let Some(end) = case.record.ending.as_ref().and_then(|ending| ending.tasks.get(task)) else { return };
    let evidence = || runs.iter().map(Run::line).collect();
    if end.status.is_some() && !case.record.decisions_incomplete {
        findings.check(
            runs.len() as u64 <= u64::from(end.attempts),
            || format!("task {task} ran {} times, {} are known", runs.len(), end.attempts),
            evidence,
        );
    }
    let Some(finished_us) = end.finished_ms.and_then(|finished_ms| case.run_us(finished_ms)) else { return };
    for run in runs {
        let Some(claimed_us) = run.claimed_us else { continue };
        findings.check(
            claimed_us <= finished_us + ROUNDING_US,
            || format!("task {task} was claimed after its end at {}", super::case::moment(finished_us)),
            || vec![run.line()],
        );
    }
}

/// Whether anything was wrong with the cluster between these times.
fn faulty(case: &Case<'_>, from_us: i64, to_us: i64) -> bool {
    case.record.faults.iter().any(|fault| {
        let until_us = fault.until_us.unwrap_or(fault.at_us);
        fault.at_us as i64 <= to_us && until_us as i64 >= from_us
    })
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, not_applicable, violation};
    use crate::record::attempt::AttemptEnd::{Abandoned, Failed, Running, Succeeded};

    /// One admitted task; leases last ten seconds.
    fn task() -> Hand {
        let mut hand = Hand::new().admitted("paid", 0, 1, 10);
        hand.record.took_us = 60_000_000;
        hand
    }

    #[test]
    fn a_retry_after_the_end_of_a_run_is_no_second_lease() {
        let hand = task().ran(10, Some(50), Failed).ran(51, Some(90), Succeeded).ended("succeeded", 91);
        assert_eq!(held(&hand, "leases"), 6);
        not_applicable(&task(), "leases");
    }

    #[test]
    fn a_run_that_goes_on_is_overtaken_only_once_its_lease_can_have_lapsed() {
        let overtaken = |again_ms| task().ran(10, None, Running).ran(again_ms, Some(15_000), Succeeded);
        held(&overtaken(10_010), "leases");
        let violation = violation(&overtaken(9_980), "leases");
        assert_eq!(violation.what, "claimed again 9970 ms after a claim whose run goes on, lease 10000 ms");
        assert_eq!(violation.evidence.len(), 2);
    }

    #[test]
    fn a_connection_closed_a_moment_ago_is_not_a_run_that_goes_on() {
        held(&task().ran(10, Some(300), Abandoned).ran(60, Some(400), Succeeded), "leases");
        violation(&task().ran(10, Some(320), Abandoned).ran(60, Some(400), Succeeded), "leases");
        let mut short = task().ran(10, Some(100), Abandoned).ran(60, Some(400), Succeeded);
        held(&short, "leases");
        short.set_policy(0, |policy| policy.queue.lease_ms = 200);
        violation(&short, "leases");
        held(&short.fault("stop", 0, 70), "leases");
        violation(&task().ran(10, Some(70), Succeeded).ran(60, Some(400), Succeeded), "leases");
    }

    #[test]
    fn a_token_is_used_once_and_there_always_is_one() {
        let mut hand = task().ran(10, Some(20), Failed).ran(30, Some(40), Succeeded);
        hand.record.attempts[1].fencing_token = hand.record.attempts[0].fencing_token;
        assert!(violation(&hand, "leases").what.starts_with("two runs under the token"));
        let mut hand = task().ran(10, Some(20), Succeeded);
        hand.record.attempts[0].fencing_token = 0;
        assert!(violation(&hand, "leases").what.contains("without"));
    }

    #[test]
    fn a_run_that_begins_under_a_lost_lease_is_excused_only_by_a_fault() {
        let mut hand = task().ran(10, Some(30_000), Abandoned).ran(20_000, Some(21_000), Succeeded);
        hand.record.attempts[0].started_us = 20_500_000;
        assert!(violation(&hand, "leases").what.contains("newer token"));
        held(&hand.clone().fault("pause_processor", 5_000, 12_000), "leases");
        violation(&hand.fault("pause_processor", 5_000, 10_000), "leases");
    }

    #[test]
    fn nothing_is_claimed_after_the_end_and_no_run_is_unknown() {
        let hand = task().ran(10, Some(50), Succeeded).ran(51, Some(90), Succeeded);
        held(&hand.clone().ended("succeeded", 60), "leases");
        assert!(violation(&hand.clone().ended("succeeded", 30), "leases").what.contains("after its end"));
        let mut hand = hand.ended("succeeded", 90);
        hand.ending().tasks.get_mut("task-0").unwrap().attempts = 1;
        assert!(violation(&hand, "leases").what.contains("ran 2 times, 1 are known"));
    }

    #[test]
    fn tokens_that_ran_ahead_of_the_clock_tell_no_time() {
        let mut hand = task().ran(10, None, Running).ran(60, Some(400), Succeeded);
        for attempt in &mut hand.record.attempts {
            attempt.fencing_token += 3_600_000_000;
        }
        held(&hand, "leases");
    }

    #[test]
    fn clocks_that_do_not_keep_step_tell_no_time() {
        let hand = || task().called(1).ran(10, None, Running).ran(60, Some(400), Succeeded);
        violation(&hand(), "leases");
        let mut jumped = hand();
        jumped.record.decisions[0].at_ms += 5_000;
        held(&jumped, "leases");
    }

    #[test]
    fn what_redis_lost_is_not_held_against_it() {
        let mut hand = task().ran(10, None, Running).ran(60, Some(400), Succeeded);
        violation(&hand, "leases");
        hand.record.decisions_incomplete = true;
        held(&hand, "leases");
    }
}
