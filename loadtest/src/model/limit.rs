//! The windows a request is counted in: its session's, and those of named limits.
//!
//! Must never decide: what a window says is asked in `admission.rs`.

use portcullis_config::policy::Subject;
use portcullis_lua::AdmitRequest;

use super::{Model, Window};

/// What a request would use of a named limit.
pub(super) struct Used {
    pub(super) subject: String,
    pub(super) window: Window,
    pub(super) units: u64,
}

impl Model {
    /// The session's windows as they stand.
    pub(super) fn windows(&self, request: &AdmitRequest) -> Vec<Window> {
        let counted = self.sessions.get(&request.session_id);
        let Some(role) = self.policy.limits_of(&request.user_type) else { return Vec::new() };
        let burst = ("burst", role.burst, role.burst_window * 1000);
        let hourly = u64::try_from(role.hourly).ok().map(|limit| ("hourly", limit, 3_600_000));
        let all = [burst].into_iter().chain(hourly).map(|(name, limit, window_ms)| {
            let known = counted.and_then(|windows| windows.iter().find(|window| window.name == name));
            self.window(request, known, &Window::new(name, limit, window_ms, 1))
        });
        all.collect()
    }

    /// The named limits that apply, in policy order, then those of its chain, from its root on.
    pub(super) fn named_limits(&self, request: &AdmitRequest) -> Vec<Used> {
        let mut all = Vec::new();
        if request.pass.is_some_and(|terms| !terms.throttled) {
            return all;
        }
        for (name, limit) in &self.policy.rate_limits.named {
            let of_type = limit.user_types.as_ref().is_none_or(|types| types.contains(&request.user_type));
            let of_kind = limit.kinds.as_ref().is_none_or(|kinds| kinds.contains(&request.kind));
            let Some(subject) = subject(request, limit.per).filter(|_| of_type && of_kind) else { continue };
            let known = self.named.get(&(name.clone(), subject.clone()));
            let window = self.window(request, known, &Window::new(name, limit.limit, limit.window_seconds * 1000, 1));
            let units = units(request, &limit.unit, limit.default_estimate.unwrap_or(0));
            all.push(Used { subject, window, units });
        }
        for (place, hop) in request.provenance.hops.iter().enumerate() {
            let bounds =
                [("calls_per_min", 60_000, hop.calls_per_min), ("calls_per_hour", 3_600_000, hop.calls_per_hour)];
            for (bound, length_ms, limit) in
                bounds.into_iter().filter_map(|(name, length, limit)| Some((name, length, limit?)))
            {
                let name = format!("chain:{place}:{bound}");
                let known = self.named.get(&(name.clone(), hop.hash.clone()));
                let window = self.window(request, known, &Window::new(&name, limit, length_ms, 1));
                all.push(Used { subject: hop.hash.clone(), window, units: request.cost.into() });
            }
        }
        all
    }

    /// A window of this shape with what is known to be in it.
    fn window(&self, request: &AdmitRequest, known: Option<&Window>, shape: &Window) -> Window {
        let tick_ms = self.ticks.get(&(request.user_type.to_string(), shape.name.clone())).copied();
        let shape = Window::new(&shape.name, shape.limit, shape.length_ms, tick_ms.unwrap_or(1));
        match known {
            Some(known) => known.reshaped(shape),
            None => shape,
        }
    }
}

/// Whom a limit or budget counts; `None` if the request has no such subject.
pub(super) fn subject(request: &AdmitRequest, per: Subject) -> Option<String> {
    match per {
        Subject::Tenant => Some(String::new()),
        Subject::UserType => Some(request.user_type.to_string()),
        Subject::Principal => Some(request.principal.clone()),
        Subject::Session => Some(request.session_id.clone()),
        Subject::ClientAddress => request.client_address.clone(),
        Subject::Agent => request.provenance.hops.first().map(|hop| hop.client_id.clone()).or(request.actor.clone()),
    }
}

/// Units of a request: its cost, or what it estimates.
pub(super) fn units(request: &AdmitRequest, unit: &str, default: u64) -> u64 {
    let estimate = request.estimates.iter().find(|(name, _)| name == unit);
    if unit == "requests" { request.cost.into() } else { estimate.map_or(default, |(_, amount)| *amount) }
}
