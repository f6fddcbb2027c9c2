//! Depth never above its bound.
//!
//! Concludes from the decision events, which carry depth after the decision and capacity at it: whoever was admitted
//! found depth below the bound of its user type, below the hard limit and below `max_queue_size`, so that depth
//! afterwards is at most that. Of a pass with a pool of its class's own both are the pool's, and there is no absolute
//! bound. Between admissions depth may rise by itself: retries and delayed starts were admitted
//! before and rejoin the queue whatever its depth.
//!
//! Concludes from the end that the depth in an event is no smaller than it was: a task that was admitted before and
//! succeeded or failed later, after a single run, was waiting or leased then. Not so where callers ask for delayed
//! starts, or others may call who do.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use portcullis_config::Policy;
use portcullis_lua::DecisionEvent;

use super::case::{Case, user_type};
use super::verdict::Findings;
use crate::record::TaskEnd;

/// An end is recorded rounded up to the ms, a decision rounded down: by so much one must lie after the other to be
/// later, ms.
const LATER_MS: u64 = 2;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    below_bounds(case, findings);
    not_understated(case, findings);
}

fn below_bounds(case: &Case<'_>, findings: &mut Findings) {
    for event in case.record.decisions.iter().filter(|event| event.outcome == "admitted") {
        let Some(policy) = case.policy(event.policy_revision, findings) else { continue };
        let Some(bound) = bound(policy, event) else {
            findings.leave_out(format!("user type {}, which the policy does not know", event.user_type));
            continue;
        };
        findings.check(
            event.depth <= bound,
            || format!("admitted to depth {}, bound {bound} for {}", event.depth, event.user_type),
            || vec![case.line(event)],
        );
    }
}

/// Holds the depth of each admission against the tasks that were certainly there.
fn not_understated(case: &Case<'_>, findings: &mut Findings) {
    let record = case.record;
    let told = case.keeps_time() && case.is_alone() && !record.decisions_incomplete && !record.delayed_starts;
    let Some(ending) = record.ending.as_ref().filter(|_| told) else { return };
    // Tasks under way that were run once, the first to end on top.
    let mut under_way: BinaryHeap<Reverse<(u64, &str)>> = BinaryHeap::new();
    // The depth of a pass with a pool of its class's own is the pool's.
    let of_scope =
        |event: &&DecisionEvent| event.outcome == "admitted" && !event.pass.is_some_and(|asked| asked.pooled);
    for event in record.decisions.iter().filter(of_scope) {
        while under_way.peek().is_some_and(|Reverse((finished_ms, _))| *finished_ms < event.at_ms + LATER_MS) {
            under_way.pop();
        }
        let before = under_way.len() as u64;
        // A pass need not take a place.
        let own = u64::from(event.pass.is_none());
        findings.check(
            event.depth >= before + own,
            || format!("depth {} was decided on while {before} other tasks were under way", event.depth),
            || {
                let tasks = under_way.iter().map(|Reverse((at_ms, task))| {
                    let end_ms = at_ms.saturating_sub(record.redis_start_ms);
                    format!("task {task} ended at {:.3} s", end_ms as f64 / 1000.0)
                });
                std::iter::once(case.line(event)).chain(tasks).collect()
            },
        );
        let Some(task) = event.task_id.as_deref() else { continue };
        let once = |end: &&TaskEnd| end.attempts == 1 && matches!(end.status.as_deref(), Some("succeeded" | "failed"));
        let end = ending.tasks.get(task).filter(once);
        under_way.extend(end.and_then(|end| Some(Reverse((end.finished_ms?, task)))));
    }
}

/// The depth at which the policy refuses the caller of this event.
fn bound(policy: &Policy, event: &DecisionEvent) -> Option<u64> {
    let share = |threshold: f64| (event.capacity as f64 * threshold).floor() as u64;
    let own = share(policy.threshold_of(&user_type(event)?)?);
    let of_scope = !event.pass.is_some_and(|asked| asked.pooled);
    let absolute = Some(policy.limits.max_queue_size).filter(|most| of_scope && *most > 0).unwrap_or(u64::MAX);
    Some(own.min(share(policy.backpressure.hard_limit_threshold)).min(absolute))
}

#[cfg(test)]
mod tests {
    use super::super::hand::{Hand, held, violation};
    use crate::record::attempt::AttemptEnd;
    use crate::record::{ProcessSample, Sample};

    #[test]
    fn depth_may_reach_the_threshold_of_a_type_and_not_pass_it() {
        // 60 % of 10 for anonymous callers, 95 % for everybody.
        let just = Hand::new().admitted("anonymous", 0, 6, 10).admitted("privileged", 1, 9, 10);
        assert_eq!(held(&just, "depth"), 2);
        let over = Hand::new().admitted("anonymous", 0, 7, 10);
        assert!(violation(&over, "depth").what.contains("depth 7, bound 6"));
        let hard = Hand::new().admitted("privileged", 0, 10, 10);
        assert!(violation(&hard, "depth").what.contains("bound 9"));
        let nobody_there = Hand::new().admitted("privileged", 0, 1, 0);
        assert!(violation(&nobody_there, "depth").what.contains("bound 0"));
    }

    #[test]
    fn passes_are_held_to_the_bound_of_their_pool_or_of_the_scope() {
        let mut hand = Hand::new().passed("paid", 0, 9, 10, true).passed("paid", 1, 9, 10, false);
        hand.set_policy(0, |policy| policy.limits.max_queue_size = 9);
        assert_eq!(held(&hand, "depth"), 2);
        hand.set_policy(0, |policy| policy.limits.max_queue_size = 8);
        assert!(violation(&hand, "depth").what.contains("depth 9, bound 8"));
        violation(&Hand::new().passed("paid", 0, 10, 10, true), "depth");
    }

    #[test]
    fn depth_is_not_understated() {
        let hand = |depth| {
            let mut hand = Hand::new().admitted("paid", 0, 1, 100).ran(1, Some(50), AttemptEnd::Succeeded);
            hand.record.samples.push(Sample {
                processes: [("redis".to_owned(), ProcessSample::default())].into(),
                ..Sample::default()
            });
            hand.admitted("paid", 10, depth, 100)
        };
        held(&hand(2).ended("succeeded", 50), "depth");
        let understated = violation(&hand(1).ended("succeeded", 50), "depth");
        assert_eq!(understated.what, "depth 1 was decided on while 1 other tasks were under way");
        assert_eq!(understated.evidence[1], "task task-0 ended at 0.050 s");
        held(&hand(1).ended("succeeded", 11), "depth");
        let mut again = hand(1).ended("succeeded", 50);
        again.ending().tasks.get_mut("task-0").unwrap().attempts = 2;
        held(&again, "depth");
        let mut delayed = hand(1).ended("succeeded", 50);
        delayed.record.delayed_starts = true;
        held(&delayed, "depth");
        held(&hand(1).ended("expired", 50), "depth");
    }

    #[test]
    fn the_absolute_bound_counts_whatever_the_capacity() {
        let mut hand = Hand::new().admitted("paid", 0, 4, 100);
        hand.set_policy(0, |policy| policy.limits.max_queue_size = 4);
        assert_eq!(held(&hand, "depth"), 1);
        hand.set_policy(0, |policy| policy.limits.max_queue_size = 3);
        violation(&hand, "depth");
    }
}
