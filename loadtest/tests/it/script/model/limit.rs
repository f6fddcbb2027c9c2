//! The windows a request is counted in: its session's, and those of named limits.
//!
//! Must never decide: what a window says is asked in `admission.rs`.

use portcullis_config::policy::Subject;
use portcullis_lua::AdmitRequest;

use super::{Model, Window};

/// What a request would use of a named limit.
pub(crate) struct Used {
    pub(crate) subject: String,
    pub(crate) window: Window,
    pub(crate) units: u64,
}

impl Model {
    /// The session's windows as they stand.
    pub(super) fn windows(&self, request: &AdmitRequest) -> Vec<Window> {
        if let Some(windows) = self.sessions.get(&request.session_id) {
            return windows.clone();
        }
        let role = self.policy.limits_of(&request.user_type).expect("limits");
        let burst = ("burst", role.burst, role.burst_window * 1000);
        let hourly = u64::try_from(role.hourly).ok().map(|limit| ("hourly", limit, 3_600_000));
        let all = [burst].into_iter().chain(hourly);
        all.map(|(name, limit, window_ms)| self.window(request, name, limit, window_ms)).collect()
    }

    /// The named limits that apply, in policy order.
    pub(super) fn named_limits(&self, request: &AdmitRequest) -> Vec<Used> {
        let mut all = Vec::new();
        for (name, limit) in &self.policy.rate_limits.named {
            let of_type = limit.user_types.as_ref().is_none_or(|types| types.contains(&request.user_type));
            let of_kind = limit.kinds.as_ref().is_none_or(|kinds| kinds.contains(&request.kind));
            let Some(subject) = subject(request, limit.per).filter(|_| of_type && of_kind) else { continue };
            let window = self.named.get(&(name.clone(), subject.clone())).cloned();
            let window = window.unwrap_or_else(|| self.window(request, name, limit.limit, limit.window_seconds * 1000));
            let units = units(request, &limit.unit, limit.default_estimate.unwrap_or(0));
            all.push(Used { subject, window, units });
        }
        all
    }

    fn window(&self, request: &AdmitRequest, name: &str, limit: u64, window_ms: u64) -> Window {
        let tick_ms = self.ticks[&(request.user_type.to_string(), name.to_owned())];
        Window::new(name, limit, window_ms, tick_ms)
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
        Subject::Agent => request.actor.clone(),
    }
}

/// Units of a request: its cost, or what it estimates.
pub(super) fn units(request: &AdmitRequest, unit: &str, default: u64) -> u64 {
    let estimate = request.estimates.iter().find(|(name, _)| name == unit);
    if unit == "requests" { request.cost.into() } else { estimate.map_or(default, |(_, amount)| *amount) }
}
