//! No window above its limit.
//!
//! Concludes from the decision events: at each admission, what was admitted in the window up to and including it is at
//! most the limit of the policy it was decided under. Events carry the time of Redis rounded down to the ms, and a
//! window keeps an admission from that time rounded up, so two events less than a window apart must both have been
//! counted.
//!
//! Where the policy changed, an admission is held against what the window can have known: one that was made longer does
//! not know what had left the shorter one, and one that did not exist begins empty.
//!
//! Admissions from before the run count as far as they are known.
//!
//! Cannot conclude anything about units that events do not carry, such as estimated tokens, nor by client address.

use std::collections::HashMap;

use portcullis_config::Policy;
use portcullis_lua::DecisionEvent;

use super::case::{Case, Whose, user_type, whose};
use super::track::Track;
use super::verdict::Findings;

/// Length of the hourly window.
pub(super) const HOUR_MS: u64 = 3_600_000;

/// One window an event counts in.
pub(super) struct Counted<'a> {
    /// Of a session: `burst` or `hourly`; else the limit's name.
    pub(super) name: &'a str,
    pub(super) subject: &'a str,
    pub(super) window_ms: u64,
    pub(super) limit: u64,
    /// Units of this event.
    pub(super) units: u64,
}

/// Tracks by name and subject. Names of limits and of the two windows of a session live in one space: a limit cannot be
/// mistaken for a window, because sessions are marked.
pub(super) type Tracks<'a> = HashMap<(bool, &'a str, &'a str), Track>;

pub(super) fn check(case: &Case<'_>, findings: &mut Findings) {
    if !case.is_complete(findings) {
        return;
    }
    let mut tracks = Tracks::new();
    let history: Vec<&DecisionEvent> = case.history().collect();
    for (place, &event) in history.iter().enumerate() {
        if event.outcome != "admitted" || !is_throttled(event) {
            continue;
        }
        let Some(policy) = case.policy(event.policy_revision, findings) else { continue };
        let sessions = session_windows(policy, event);
        if !sessions.iter().any(|window| window.name == "hourly") {
            // A session without this window keeps no account of it.
            tracks.remove(&(true, "hourly", event.session_id.as_str()));
        }
        let sessions = sessions.into_iter().map(|window| (true, window));
        let named = named_limits(policy, event, findings).into_iter().map(|window| (false, window));
        for (of_session, window) in sessions.chain(named) {
            let track = tracks.entry((of_session, window.name, window.subject)).or_default();
            admit(case, findings, (track, &history), &window, place);
        }
    }
}

fn admit(
    case: &Case<'_>,
    findings: &mut Findings,
    (track, history): (&mut Track, &[&DecisionEvent]),
    window: &Counted<'_>,
    place: usize,
) {
    let event = history[place];
    track.reshape(event.at_ms, window.window_ms);
    track.slide(event.at_ms, window.window_ms);
    track.add(event.at_ms, window.units, place);
    let Counted { name, subject, window_ms, limit, .. } = window;
    findings.check(
        track.held() <= *limit,
        || format!("{} admitted within {window_ms} ms of {name} {subject}, limit {limit}", track.held()),
        || track.events().map(|place| case.line(history[place])).collect(),
    );
}

/// Whether rate limits apply to what was asked for.
fn is_throttled(event: &DecisionEvent) -> bool {
    event.pass.is_none_or(|asked| asked.throttled)
}

/// The windows of an event's session, burst first. None for a user type that the policy does not know, or where rate
/// limits do not apply.
pub(super) fn session_windows<'a>(policy: &Policy, event: &'a DecisionEvent) -> Vec<Counted<'a>> {
    if !is_throttled(event) {
        return Vec::new();
    }
    let limits = user_type(event).and_then(|user_type| policy.limits_of(&user_type).cloned());
    let Some(limits) = limits else { return Vec::new() };
    let (units, subject) = (policy.cost_of(&event.kind), event.session_id.as_str());
    let window = |name, window_ms, limit| Counted { name, subject, window_ms, limit, units };
    let burst = window("burst", limits.burst_window * 1000, limits.burst);
    let hourly = u64::try_from(limits.hourly).ok().map(|limit| window("hourly", HOUR_MS, limit));
    std::iter::once(burst).chain(hourly).collect()
}

/// The named limits that count this event and that it says enough for.
pub(super) fn named_limits<'a>(
    policy: &'a Policy,
    event: &'a DecisionEvent,
    findings: &mut Findings,
) -> Vec<Counted<'a>> {
    if policy.rate_limits.named.is_empty() || !is_throttled(event) {
        return Vec::new();
    }
    let Some(user_type) = user_type(event) else { return Vec::new() };
    let applying = policy.rate_limits.named.iter().filter(|(_, limit)| limit.applies_to(&user_type, &event.kind));
    let counted = applying.filter_map(|(name, limit)| {
        let subject = match whose(limit.per, event) {
            Whose::Subject(subject) if limit.unit == "requests" => subject,
            Whose::Nobody => return None,
            Whose::Subject(_) => {
                findings.leave_out(format!("limit {name}: events do not carry {}", limit.unit));
                return None;
            }
            Whose::Unknown => {
                findings.leave_out(format!("limit {name}: events do not carry the client's address"));
                return None;
            }
        };
        let (window_ms, units) = (limit.window_seconds * 1000, policy.cost_of(&event.kind));
        Some(Counted { name, subject, window_ms, limit: limit.limit, units })
    });
    counted.collect()
}

#[cfg(test)]
mod tests;
