//! The policy as the scripts take it: packed once per revision, sent with every call.
//!
//! Responsible for how a limit becomes a window that fits a few hundred bytes whatever the limit. Must never change
//! what a policy means: where a window cannot be kept to the millisecond it may release late, never early.

use std::collections::HashMap;

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_config::policy::{Budget, Period, Policy, Retry, Subject};

use crate::decision::LimitState;
use crate::pack::Packer;

/// Bytes of window entries per session: with heads, key and overhead of Redis it stays under 600 bytes.
const ENTRY_BYTES: u64 = 390;
/// Ticks of a folded window: a release is at most a sixtieth of the window late.
const FOLD_TICKS: u64 = 60;
/// Windows longer than this are folded unless they are small: nobody needs an hour to the millisecond.
const LOG_WINDOW_MS: u64 = 600_000;
/// A longer window with at most this limit is logged all the same.
const LOG_LIMIT: u64 = 60;

/// A policy prepared for the scripts, with its revision. Cheap to share, costly to make: one per revision.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    revision: u64,
    pub(crate) admit_settings: Bytes,
    pub(crate) settle_settings: Bytes,
    pub(crate) max_decision_batches: u64,
    pub(crate) idempotency_ttl_ms: u64,
    pub(crate) classes: HashMap<UserType, Class>,
    pub(crate) budgets: HashMap<String, Budget>,
    pub(crate) backpressure: Backpressure,
    pub(crate) lease_ms: u64,
    pub(crate) result_ttl_ms: u64,
    pub(crate) output_ttl_ms: u64,
    pub(crate) max_output_events: u64,
    pub(crate) heartbeat_timeout_ms: u64,
    pub(crate) statistics_ttl_ms: u64,
    pub(crate) half_open_probes: u64,
    pub(crate) breaker_window_ms: u64,
    retry: Retry,
}

/// What capacity and thresholds are computed from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backpressure {
    pub(crate) buffer: f64,
    pub(crate) multiplier: f64,
    pub(crate) hard: f64,
}

/// A user type's limits, packed.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// Its place in the scope's state; the built-in types keep theirs whatever else is declared.
    pub(crate) number: u8,
    /// After this long without an admission its windows are empty, ms.
    pub(crate) lasts_ms: u64,
    pub(crate) packed: Bytes,
    pub(crate) windows: Vec<Window>,
    pub(crate) budgets: Vec<(String, Budget)>,
    pub(crate) threshold: f64,
}

/// One sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) name: &'static str,
    pub(crate) reason: u8,
    pub(crate) length_ms: u64,
    pub(crate) limit: u64,
    pub(crate) kind: u8,
    pub(crate) tick_ms: u64,
}

impl CompiledPolicy {
    /// Prepares a policy. `config` has validated it, so this cannot fail.
    #[must_use]
    pub fn new(policy: &Policy, revision: u64) -> Self {
        let queue = &policy.queue;
        let backpressure = Backpressure {
            buffer: policy.backpressure.capacity_buffer,
            multiplier: policy.backpressure.queue_depth_multiplier,
            hard: policy.backpressure.hard_limit_threshold,
        };
        let mut known = policy.known_types();
        known.sort_by_key(|user_type| {
            let built_in = UserType::BUILT_IN.iter().position(|name| *name == user_type.as_str());
            (built_in.unwrap_or(usize::MAX), user_type.clone())
        });
        let classes = known.into_iter().zip(0u8..);
        let classes = classes.map(|(user_type, number)| (user_type.clone(), Class::new(policy, &user_type, number)));
        let classes = classes.collect();
        Self {
            revision,
            admit_settings: admit_settings(policy, revision),
            settle_settings: settle_settings(policy),
            max_decision_batches: queue.max_decision_events,
            idempotency_ttl_ms: queue.idempotency_ttl_seconds * 1000,
            classes,
            budgets: policy.budgets.clone().into_iter().collect(),
            backpressure,
            lease_ms: queue.lease_ms,
            result_ttl_ms: queue.result_ttl_seconds * 1000,
            output_ttl_ms: queue.result_ttl_seconds * 1000 + queue.attempt_timeout_ms,
            max_output_events: queue.max_output_events,
            heartbeat_timeout_ms: policy.monitoring.heartbeat_timeout_seconds * 1000,
            statistics_ttl_ms: policy.monitoring.throttling_events_retention_hours * 3_600_000,
            half_open_probes: policy.circuit_breakers.tasks.half_open_probes,
            breaker_window_ms: policy.circuit_breakers.tasks.window_seconds * 1000,
            retry: queue.retry.clone(),
        }
    }

    /// The revision the policy was stored as; 0 for a boot document that was never stored.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether admissions of this type can be decided.
    #[must_use]
    pub fn knows(&self, user_type: &UserType) -> bool {
        self.classes.contains_key(user_type)
    }

    /// The limits of a type with nothing used, for answers that never reached Redis. Empty for an unknown type.
    #[must_use]
    pub fn limits_of(&self, user_type: &UserType) -> Vec<LimitState> {
        let windows = self.classes.get(user_type).map_or(&[][..], |class| &class.windows);
        windows.iter().map(|window| window.state(0.0, 0.0)).collect()
    }

    /// Backoff between attempts.
    #[must_use]
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Depth that this many live slots stand for.
    #[must_use]
    pub fn capacity_of(&self, slots: u64) -> u64 {
        let Backpressure { buffer, multiplier, .. } = self.backpressure;
        let slots = slots as f64;
        ((slots * (1.0 - buffer)).floor() + (slots * multiplier).floor()) as u64
    }
}

impl Class {
    fn new(policy: &Policy, user_type: &UserType, number: u8) -> Self {
        let windows: Vec<Window> = policy.limits_of(user_type).map_or_else(Vec::new, |role| {
            let mut windows = vec![("burst", 1, role.burst_window * 1000, role.burst)];
            if role.hourly >= 0 {
                windows.push(("hourly", 2, 3_600_000, role.hourly.unsigned_abs()));
            }
            shape(&windows)
        });
        let threshold = policy.threshold_of(user_type).unwrap_or(0.0);
        let weight = policy.weight_of(user_type).unwrap_or(1.0);
        let mut packer = Packer::with_capacity(64);
        packer.f64(threshold).f64((1e6 / weight).round().max(1.0)).u8(windows.len() as u8);
        for window in &windows {
            packer.u8(window.reason).u8(window.kind).u32(window.length_ms as u32).u32(window.tick_ms as u32);
            packer.f64(window.limit as f64);
        }
        let budgets = policy.budgets_of(user_type).map(|(name, budget)| (name.to_owned(), budget.clone())).collect();
        let lasts_ms = windows.iter().map(|window| window.length_ms + 2 * window.tick_ms).max().unwrap_or(1);
        Self { number, lasts_ms, packed: packer.finish(), windows, budgets, threshold }
    }
}

impl Window {
    /// What is left of the window when `held` units are in it and the next leaves after `reset_ms`.
    pub(crate) fn state(&self, held: f64, reset_ms: f64) -> LimitState {
        LimitState {
            name: self.name.to_owned(),
            limit: self.limit,
            window_ms: self.length_ms,
            remaining: self.limit.saturating_sub(held as u64),
            reset_ms: reset_ms.ceil() as u64,
        }
    }
}

/// Chooses how each window is kept, so that all of a session's entries fit [`ENTRY_BYTES`].
///
/// Long windows come first, because only they must keep all their ticks; what room is left goes to the short ones.
fn shape(windows: &[(&'static str, u8, u64, u64)]) -> Vec<Window> {
    let mut room = ENTRY_BYTES;
    let mut shaped: Vec<Window> = Vec::with_capacity(windows.len());
    let mut longest_first: Vec<_> = windows.iter().collect();
    longest_first.sort_by_key(|&&(_, _, window_ms, _)| std::cmp::Reverse(window_ms));
    for &&(name, reason, window_ms, limit) in &longest_first {
        let count = if limit <= 0xffff { 2 } else { 4 };
        let (kind, tick_ms, used) = if let Some(tick_ms) = log_tick(window_ms, limit, room) {
            (1, tick_ms, log_bytes(window_ms, limit, tick_ms))
        } else {
            let ticks = if window_ms > LOG_WINDOW_MS {
                FOLD_TICKS
            } else {
                (room / (1 + count)).saturating_sub(1).clamp(10, FOLD_TICKS)
            };
            (count as u8 / 2 + 1, window_ms.div_ceil(ticks), (ticks + 1) * (1 + count))
        };
        room = room.saturating_sub(used);
        shaped.push(Window { name, reason, length_ms: window_ms, limit, kind, tick_ms });
    }
    shaped.sort_by_key(|window| windows.iter().position(|&(name, ..)| name == window.name));
    shaped
}

/// Most bytes a log takes: one byte per unit, and two more wherever 255 ticks passed between two.
fn log_bytes(window_ms: u64, limit: u64, tick_ms: u64) -> u64 {
    limit + 2 * limit.min(window_ms / (255 * tick_ms) + 1)
}

/// The finest tick at which a log of this window fits `room`; `None` if even 1/240 of the window is too fine.
fn log_tick(window_ms: u64, limit: u64, room: u64) -> Option<u64> {
    if window_ms > LOG_WINDOW_MS && limit > LOG_LIMIT {
        return None;
    }
    // A distance is at most two bytes wide, so a window has at most 65535 ticks.
    let finest = window_ms.div_ceil(0xffff).max(1);
    (finest..=(window_ms / 240).max(finest)).find(|&tick_ms| log_bytes(window_ms, limit, tick_ms) <= room)
}

/// Number of a calendar period in the scripts (`lua/include/budget.lua`).
pub(crate) fn period_number(period: Period) -> u8 {
    match period {
        Period::Minute => 1,
        Period::Hour => 2,
        Period::Day => 3,
        Period::Week => 4,
        Period::Month => 5,
    }
}

/// Whose account of a budget a caller uses.
pub(crate) fn subject_of<'a>(
    per: Subject,
    user_type: &'a UserType,
    principal: &'a str,
    session_id: &'a str,
) -> &'a str {
    match per {
        Subject::Tenant => "",
        Subject::UserType => user_type.as_str(),
        Subject::Principal => principal,
        Subject::Session => session_id,
        Subject::ClientAddress | Subject::Agent => "",
    }
}

fn admit_settings(policy: &Policy, revision: u64) -> Bytes {
    let mut packer = Packer::with_capacity(72);
    packer
        .f64(revision as f64)
        .f64(policy.backpressure.capacity_buffer)
        .f64(policy.backpressure.queue_depth_multiplier)
        .f64(policy.backpressure.hard_limit_threshold)
        .f64(policy.limits.max_queue_size as f64)
        .f64(policy.queue.max_delayed as f64)
        .f64(policy.service_capacity.avg_processing_time_seconds * 1000.0)
        .f64(policy.circuit_breakers.tasks.half_open_probes as f64)
        .f64(policy.monitoring.heartbeat_timeout_seconds as f64 * 200.0);
    packer.finish()
}

fn settle_settings(policy: &Policy) -> Bytes {
    let breaker = &policy.circuit_breakers.tasks;
    let mut packer = Packer::with_capacity(72);
    packer
        .f64(policy.queue.result_ttl_seconds as f64 * 1000.0)
        .f64(policy.queue.max_dead_letters as f64)
        .f64(breaker.window_seconds as f64 * 1000.0)
        .f64(breaker.open_seconds as f64 * 1000.0)
        .f64(breaker.slow_call_ms as f64)
        .f64(breaker.minimum_calls as f64)
        .f64(breaker.half_open_probes as f64)
        .f64(breaker.failure_rate)
        .f64(breaker.slow_call_rate);
    packer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(burst: u64, hourly: Option<u64>) -> Vec<Window> {
        let mut windows = vec![("burst", 1, 60_000, burst)];
        windows.extend(hourly.map(|limit| ("hourly", 2, 3_600_000, limit)));
        shape(&windows)
    }

    fn bytes(window: &Window) -> u64 {
        match window.kind {
            1 => log_bytes(window.length_ms, window.limit, window.tick_ms),
            kind => (window.length_ms.div_ceil(window.tick_ms) + 1) * (1 + 2 * (u64::from(kind) - 1)),
        }
    }

    #[test]
    fn shipped_bursts_are_logged_to_ten_milliseconds_or_better() {
        for (burst, hourly, tick_ms) in
            [(10, Some(120), 1), (100, Some(2000), 5), (150, Some(4000), 10), (300, None, 6)]
        {
            let shaped = windows(burst, hourly);
            assert_eq!(shaped[0].kind, 1, "burst {burst}");
            assert!(shaped[0].tick_ms <= tick_ms, "burst {burst}: {} ms", shaped[0].tick_ms);
        }
    }

    #[test]
    fn any_limits_fit_the_memory_of_a_session() {
        for burst in [1, 10, 50, 150, 200, 250, 300, 380, 1000, 65_535, 65_536, 1_000_000] {
            for hourly in [None, Some(1), Some(60), Some(61), Some(4000), Some(65_536), Some(10_000_000)] {
                let total: u64 = windows(burst, hourly).iter().map(bytes).sum();
                assert!(total <= ENTRY_BYTES, "{burst} {hourly:?}: {total}");
            }
        }
    }

    #[test]
    fn a_folded_window_releases_within_a_sixtieth() {
        let shaped = windows(10, Some(120));
        assert_eq!((shaped[1].kind, shaped[1].tick_ms), (2, 60_000));
    }
}
