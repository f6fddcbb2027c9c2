//! Refusals are free, and none without its cause.
//!
//! Concludes from the decision events: whoever was refused by a window met one that the admissions alone fill. Had
//! refused requests consumed anything, windows would refuse before they are full. A window releases late by at most a
//! tick, which is never more than a tenth of it, and each change of its shape may round once more; that much is
//! allowed. Pressure refuses only at its threshold, the absence of processors only without capacity, a budget of
//! requests only when that much was admitted. Within a batch depth moves only with an admission.
//!
//! Cannot conclude anything about deadlines, breakers, delayed starts, and budgets in units that events do not carry;
//! nor about refusals that gateways repeat from memory, which leave counts only.

use std::collections::HashMap;

use portcullis_config::Policy;
use portcullis_lua::DecisionEvent;

use super::case::{Case, Whose, user_type, whose};
use super::verdict::Findings;
use super::windows::{Counted, HOUR_MS, Tracks, named_limits, session_windows};

/// A folded window has ten ticks at least.
const FEWEST_TICKS: u64 = 10;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    if !case.is_complete(findings) {
        return;
    }
    batches(case, findings);
    let mut past = Past { reaches: reaches(case), ..Past::default() };
    for (place, event) in case.record.decisions.iter().enumerate() {
        let Some(policy) = case.policy(event.policy_revision, findings) else { continue };
        match event.outcome.as_str() {
            "admitted" => past.admit(policy, event, place, &mut Findings::default()),
            "refused" => past.refuse(case, policy, event, findings),
            _ => {}
        }
    }
}

/// Depth from one decision of a batch to the next.
fn batches(case: &Case<'_>, findings: &mut Findings) {
    let batch = |event: &DecisionEvent| event.id.rsplit_once('.').map(|(batch, _)| batch.to_owned());
    for pair in case.record.decisions.windows(2) {
        let [before, after] = pair else { continue };
        if before.at_ms != after.at_ms || batch(before) != batch(after) {
            continue;
        }
        let moved = after.depth.checked_sub(before.depth);
        // An admission with a delayed start moves nothing either.
        let may = if after.outcome == "admitted" { matches!(moved, Some(0 | 1)) } else { moved == Some(0) };
        findings.check(
            may,
            || format!("depth went from {} to {} by a request that was {}", before.depth, after.depth, after.outcome),
            || vec![case.line(before), case.line(after)],
        );
    }
}

/// How long each window may at most hold an admission, ms: its length under any policy, and a tick of rounding for each
/// of them, because a window that changes its shape carries over what it holds, rounded once more.
fn reaches<'a>(case: &'a Case<'_>) -> HashMap<(bool, &'a str), u64> {
    let mut reaches = HashMap::from([((true, "hourly"), HOUR_MS)]);
    for policy in case.policies() {
        let bursts = policy.rate_limits.roles.values().map(|limits| ((true, "burst"), limits.burst_window));
        let named = policy.rate_limits.named.iter().map(|(name, limit)| ((false, name.as_str()), limit.window_seconds));
        for (window, seconds) in bursts.chain(named) {
            let reach = reaches.entry(window).or_default();
            *reach = (*reach).max(seconds * 1000);
        }
    }
    let shapes = case.policies().count() as u64;
    reaches.into_iter().map(|(window, ms)| (window, ms + shapes * ms.div_ceil(FEWEST_TICKS) + 1)).collect()
}

/// What was admitted so far.
#[derive(Default)]
struct Past<'a> {
    tracks: Tracks<'a>,
    /// Requests admitted, by budget and subject.
    budgets: HashMap<(&'a str, &'a str), u64>,
    /// How long each window holds an admission at most, ms.
    reaches: HashMap<(bool, &'a str), u64>,
}

impl<'a> Past<'a> {
    fn admit(&mut self, policy: &'a Policy, event: &'a DecisionEvent, place: usize, unsaid: &mut Findings) {
        let sessions = session_windows(policy, event).into_iter().map(|window| (true, window));
        let named = named_limits(policy, event, unsaid).into_iter().map(|window| (false, window));
        for (of_session, window) in sessions.chain(named) {
            let reach_ms = self.reaches.get(&(of_session, window.name)).copied().unwrap_or(u64::MAX);
            let track = self.tracks.entry((of_session, window.name, window.subject)).or_default();
            track.slide(event.at_ms, reach_ms);
            track.add(event.at_ms, window.units, place);
        }
        for (name, subject, units, _) in budgets_of_requests(policy, event) {
            *self.budgets.entry((name, subject)).or_default() += units;
        }
    }

    fn refuse(&mut self, case: &Case<'_>, policy: &'a Policy, event: &'a DecisionEvent, findings: &mut Findings) {
        let code = event.code.as_deref().unwrap_or_default();
        let share = |threshold: f64| (event.capacity as f64 * threshold).floor() as u64;
        let evidence = || vec![case.line(event)];
        match code {
            "burst_limit" => self.full(case, session_windows(policy, event), (true, "burst"), event, findings),
            "hourly_limit" => self.full(case, session_windows(policy, event), (true, "hourly"), event, findings),
            "rate_limit" => {
                let name = event.name.as_deref().unwrap_or_default();
                self.full(case, named_limits(policy, event, findings), (false, name), event, findings);
            }
            "no_live_processors" => {
                let what = || format!("refused for want of processors at capacity {}", event.capacity);
                findings.check(event.capacity == 0, what, evidence);
            }
            "hard_limit" | "pressure_threshold" => {
                let own = user_type(event).and_then(|user_type| policy.threshold_of(&user_type));
                let hard = policy.backpressure.hard_limit_threshold;
                let bound = share(if code == "hard_limit" { hard } else { own.unwrap_or(0.0) });
                let what = || format!("{code} at depth {}, which refuses from {bound}", event.depth);
                findings.check(event.depth >= bound, what, evidence);
            }
            "queue_full" => match policy.limits.max_queue_size {
                most if most > 0 && event.depth >= most => findings.check(true, String::new, Vec::new),
                _ => findings.leave_out("refusals of delayed starts"),
            },
            "budget_exhausted" => self.spent(case, policy, event, findings),
            _ => findings.leave_out(format!("refusals with {code}")),
        }
    }

    /// Whether the window of this name that refused can have been full.
    fn full(
        &mut self,
        case: &Case<'_>,
        windows: Vec<Counted<'a>>,
        (of_session, name): (bool, &str),
        event: &DecisionEvent,
        findings: &mut Findings,
    ) {
        let Some(window) = windows.into_iter().find(|window| window.name == name) else { return };
        let reach_ms = self.reaches.get(&(of_session, window.name)).copied().unwrap_or(u64::MAX);
        let mut held = 0;
        if let Some(track) = self.tracks.get_mut(&(of_session, window.name, window.subject)) {
            track.slide(event.at_ms, reach_ms);
            held = track.held();
        }
        let Counted { subject, limit, units, window_ms, .. } = window;
        findings.check(
            held + units > limit,
            || format!("{name} of {subject} refused {units} with {held} of {limit} admitted in {window_ms} ms"),
            || vec![case.line(event)],
        );
    }

    /// Whether the budget of requests that refused can have been spent.
    fn spent(&self, case: &Case<'_>, policy: &'a Policy, event: &'a DecisionEvent, findings: &mut Findings) {
        let named = event.name.as_deref().unwrap_or_default();
        let Some((name, subject, units, amount)) = budgets_of_requests(policy, event).find(|each| each.0 == named)
        else {
            findings.leave_out(format!("refusals by budget {named}: events do not carry what it counts"));
            return;
        };
        let admitted = self.budgets.get(&(name, subject)).copied().unwrap_or(0);
        findings.check(
            admitted + units > amount,
            || format!("budget {name} of {subject} refused {units} with {admitted} of {amount} ever admitted"),
            || vec![case.line(event)],
        );
    }
}

/// The budgets of requests an event draws on whose subject it names: name, subject, units, amount.
fn budgets_of_requests<'a>(
    policy: &'a Policy,
    event: &'a DecisionEvent,
) -> impl Iterator<Item = (&'a str, &'a str, u64, u64)> {
    let user_type = if policy.budgets.is_empty() { None } else { user_type(event) };
    let units = policy.cost_of(&event.kind);
    let applies = move |types: &Option<Vec<_>>| {
        user_type.as_ref().is_some_and(|own| types.as_ref().is_none_or(|types| types.contains(own)))
    };
    policy.budgets.iter().filter_map(move |(name, budget)| match whose(budget.per, event) {
        Whose::Subject(subject) if budget.unit == "requests" && applies(&budget.user_types) => {
            Some((name.as_str(), subject, units, budget.amount))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests;
