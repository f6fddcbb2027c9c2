//! Refusals are free, and none without its cause.
//!
//! Concludes from the decision events: whoever was refused by a window met one that the admissions alone fill. Had
//! refused requests consumed anything, windows would refuse before they are full. A window releases late by at most a
//! tick, and each change of its shape may round once more; that much is allowed. Pressure refuses only at its
//! threshold, the absence of processors only without capacity, a budget of requests only when that much was admitted.
//! Within a batch depth moves only with an admission.
//!
//! Cannot conclude anything about deadlines, breakers, delayed starts, and budgets in units that events do not carry;
//! nor about refusals that gateways repeat from memory, which leave counts only.

use std::collections::HashMap;

use portcullis_config::Policy;
use portcullis_lua::{CompiledPolicy, DecisionEvent, PolicyStamp};

use super::case::{Case, Whose, user_type, whose};
use super::verdict::Findings;
use super::windows::{Counted, HOUR_MS, Tracks, named_limits, session_windows};

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    if !case.is_complete(findings) {
        return;
    }
    batches(case, findings);
    let mut past = Past { reaches: reaches(case), known_from_ms: known_from_ms(case), ..Past::default() };
    let earlier = case.record.earlier.len();
    for (place, event) in case.history().enumerate() {
        let unsaid = &mut Findings::default();
        let Some(policy) = case.policy(event.policy_revision, if place < earlier { unsaid } else { findings }) else {
            // What it took, if it was admitted, nobody knows.
            past.known_from_ms = past.known_from_ms.max(event.at_ms + 1);
            continue;
        };
        match event.outcome.as_str() {
            "admitted" => past.admit(policy, event, place, unsaid),
            "refused" if place >= earlier => past.refuse(case, policy, event, findings),
            _ => {}
        }
    }
}

/// From when on every admission is in the record, ms; 0 for all there ever were.
fn known_from_ms(case: &Case<'_>) -> u64 {
    let record = case.record;
    let first_ms = record.earlier.first().map_or(record.redis_start_ms, |event| event.at_ms);
    if record.earlier_incomplete { first_ms.max(1) } else { 0 }
}

/// Depth from one decision of a batch to the next.
fn batches(case: &Case<'_>, findings: &mut Findings) {
    for pair in case.record.decisions.windows(2) {
        let [before, after] = pair else { continue };
        if before.at_ms != after.at_ms || batch_of(before) != batch_of(after) || pool_of(before) != pool_of(after) {
            continue;
        }
        let moved = after.depth.checked_sub(before.depth);
        // An admission with a delayed start moves nothing either, nor does a decision without a place.
        let may = if after.outcome == "admitted" { matches!(moved, Some(0 | 1)) } else { moved == Some(0) };
        findings.check(
            may,
            || format!("depth went from {} to {} by a request that was {}", before.depth, after.depth, after.outcome),
            || vec![case.line(before), case.line(after)],
        );
    }
}

/// What the events of a batch have in common.
fn batch_of(event: &DecisionEvent) -> &str {
    event.id.rsplit_once('.').map_or(&event.id, |(batch, _)| batch)
}

/// Whose depth an event carries: that of a class's own pool, or the scope's.
fn pool_of(event: &DecisionEvent) -> Option<&str> {
    event.pass.filter(|asked| asked.pooled).map(|_| event.kind.as_str())
}

/// How long each window may at most hold an admission, ms: its length under any policy, and a tick of rounding for each
/// of them, because a window that changes its shape carries over what it holds, rounded once more.
fn reaches(case: &Case<'_>) -> Reaches {
    let mut reaches: [HashMap<String, (u64, u64)>; 2] = Default::default();
    let mut reach = |of_session: bool, name: &str, window_ms: u64, tick_ms: u64| {
        let longest = reaches[usize::from(of_session)].entry(name.to_owned()).or_default();
        *longest = (longest.0.max(window_ms), longest.1.max(tick_ms));
    };
    for policy in case.policies() {
        let compiled = CompiledPolicy::new(policy, PolicyStamp::NONE);
        for user_type in policy.known_types() {
            let burst_ms = policy.limits_of(&user_type).map_or(0, |limits| limits.burst_window * 1000);
            for (name, tick_ms) in compiled.session_ticks_ms(&user_type) {
                reach(true, name, if name == "burst" { burst_ms } else { HOUR_MS }, tick_ms);
            }
            for (name, tick_ms) in compiled.named_ticks_ms(&user_type) {
                let window_ms = policy.rate_limits.named.get(name).map_or(0, |limit| limit.window_seconds * 1000);
                reach(false, name, window_ms, tick_ms);
            }
        }
    }
    let shapes = case.policies().count() as u64;
    reaches.map(|each| each.into_iter().map(|(name, (ms, tick_ms))| (name, ms + shapes * tick_ms + 1)).collect())
}

/// By name, of named limits and then of the windows of sessions.
type Reaches = [HashMap<String, u64>; 2];

/// What was admitted so far.
#[derive(Default)]
struct Past<'a> {
    tracks: Tracks<'a>,
    /// Requests admitted, by budget and subject.
    budgets: HashMap<(&'a str, &'a str), u64>,
    /// How long each window holds an admission at most, ms.
    reaches: Reaches,
    /// From when on every admission was taken up, ms; 0 for all there ever were.
    known_from_ms: u64,
}

impl<'a> Past<'a> {
    fn admit(&mut self, policy: &'a Policy, event: &'a DecisionEvent, place: usize, unsaid: &mut Findings) {
        let sessions = session_windows(policy, event).into_iter().map(|window| (true, window));
        let named = named_limits(policy, event, unsaid).into_iter().map(|window| (false, window));
        for (of_session, window) in sessions.chain(named) {
            let reach_ms = self.reach_ms(of_session, window.name);
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
        let reach_ms = self.reach_ms(of_session, window.name);
        if event.at_ms.saturating_sub(reach_ms) < self.known_from_ms {
            findings.leave_out(format!("refusals by {name}: the record does not have all that may have filled it"));
            return;
        }
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
        if self.known_from_ms > 0 {
            findings.leave_out(format!("refusals by budget {name}: the record does not have all that was spent"));
            return;
        }
        let admitted = self.budgets.get(&(name, subject)).copied().unwrap_or(0);
        findings.check(
            admitted + units > amount,
            || format!("budget {name} of {subject} refused {units} with {admitted} of {amount} ever admitted"),
            || vec![case.line(event)],
        );
    }

    fn reach_ms(&self, of_session: bool, name: &str) -> u64 {
        self.reaches[usize::from(of_session)].get(name).copied().unwrap_or(u64::MAX)
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
