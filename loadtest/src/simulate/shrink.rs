//! The smallest plan that still fails.
//!
//! Responsible for leaving out whatever a violation does not need: troubles, callers, processes, time. Must never
//! accept a plan that breaks another rule instead: that would be another finding.

use super::plan::{Place, Plan, What};
use super::run;

/// Most runs spent on one violation.
const MOST_RUNS: usize = 400;

/// A plan that breaks this rule with as little as possible, found by leaving out one thing after the other until
/// nothing more can be left out.
#[must_use]
pub fn shrink(plan: &Plan, rule: &'static str) -> Plan {
    let (mut smallest, mut runs) = (plan.clone(), 0);
    loop {
        let simpler = simpler(&smallest).into_iter().find(|candidate| {
            runs += 1;
            runs <= MOST_RUNS && run(candidate).violation.is_some_and(|violation| violation.rule == rule)
        });
        match simpler {
            Some(candidate) => smallest = candidate,
            None => return smallest,
        }
    }
}

/// Plans with one thing less, those with much less first.
fn simpler(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let number = plan.troubles.len();
    for half in [number / 2, number / 4].into_iter().filter(|half| *half > 1) {
        for from in (0..number).step_by(half) {
            let mut less = plan.clone();
            less.troubles.drain(from..(from + half).min(number));
            plans.push(less);
        }
    }
    for left_out in 0..number {
        let mut less = plan.clone();
        less.troubles.remove(left_out);
        plans.push(less);
    }
    if plan.seconds > 1 {
        plans.push(Plan { seconds: plan.seconds / 2, ..plan.clone() });
        plans.push(Plan { seconds: plan.seconds - 1, ..plan.clone() });
    }
    if plan.clients > 1 {
        plans.push(Plan { clients: plan.clients - 1, ..plan.clone() });
    }
    if plan.processors > 1 {
        plans.push(without(plan, Place::Processor(plan.processors - 1)));
    }
    if plan.gateways > 1 {
        plans.push(without(plan, Place::Gateway(plan.gateways - 1)));
    }
    // A policy that changes while there are no callers left, say, must still be within the run.
    plans.retain(|less| less.troubles.iter().all(|trouble| trouble.at_us <= (less.seconds + 4) * 1_000_000));
    plans
}

/// The plan without a process and what happens to it.
fn without(plan: &Plan, place: Place) -> Plan {
    let mut less = plan.clone();
    match place {
        Place::Gateway(_) => less.gateways -= 1,
        Place::Processor(_) => less.processors -= 1,
        Place::Operator => {}
    }
    less.troubles.retain(|trouble| match trouble.what {
        What::Crash(at)
        | What::Drain(at)
        | What::Freeze(at)
        | What::Partition(at)
        | What::Flaky(at)
        | What::Deaf(at)
        | What::BreakConnections(at) => at != place,
        _ => true,
    });
    less
}
