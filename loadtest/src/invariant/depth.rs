//! Depth never above its bound.
//!
//! Concludes from the decision events, which carry depth after the decision and capacity at it: whoever was admitted
//! found depth below the bound of its user type, below the hard limit and below `max_queue_size`, so that depth
//! afterwards is at most that. Of a pass with a pool of its class's own both are the pool's, and there is no absolute
//! bound. Between admissions depth may rise by itself: retries and delayed starts were admitted
//! before and rejoin the queue whatever its depth.

use portcullis_config::Policy;
use portcullis_lua::DecisionEvent;

use super::case::{Case, user_type};
use super::verdict::Findings;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
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
    fn the_absolute_bound_counts_whatever_the_capacity() {
        let mut hand = Hand::new().admitted("paid", 0, 4, 100);
        hand.set_policy(0, |policy| policy.limits.max_queue_size = 4);
        assert_eq!(held(&hand, "depth"), 1);
        hand.set_policy(0, |policy| policy.limits.max_queue_size = 3);
        violation(&hand, "depth");
    }
}
