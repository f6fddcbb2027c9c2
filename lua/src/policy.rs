//! The policy as the scripts take it: packed once per revision, sent with every call.
//!
//! Responsible for what applies to whom: a user type's windows, named limits and budgets, a kind's breaker. Must never
//! change what a policy means.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_config::policy::{Budget, Period, Policy, Retry};

use crate::decision::{BURST, HOURLY, LimitState};
use crate::pack::Packer;
use crate::stamp::PolicyStamp;

pub(crate) mod window;
mod named_limit;
mod breaker_rules;

pub(crate) use breaker_rules::{BreakerRules, ListedRules};
pub(crate) use named_limit::{NamedLimit, Use};
pub(crate) use window::{SHAPE_BYTES, Window, shape};

/// A policy prepared for the scripts, with its revision. Cheap to share, costly to make: one per revision.
#[derive(Clone, Debug)]
pub struct CompiledPolicy {
    stamp: PolicyStamp,
    pub(crate) admit_settings: Bytes,
    pub(crate) settle_settings: Bytes,
    /// Every named limit, packed.
    pub(crate) named_limits: Bytes,
    pub(crate) max_decision_batches: u64,
    pub(crate) max_audit_events: u64,
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
    /// Places of the pools of those route classes that have one of their own.
    pub(crate) pools: BTreeMap<String, u64>,
    breaker: BreakerRules,
    /// Of those kinds that have one of their own.
    kind_breakers: HashMap<String, BreakerRules>,
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
    /// Named limits that apply to some of its requests.
    pub(crate) limits: Vec<NamedLimit>,
    pub(crate) budgets: Vec<(String, Budget)>,
    pub(crate) threshold: f64,
}

impl CompiledPolicy {
    /// Prepares a policy. `config` has validated it, so this cannot fail.
    #[must_use]
    pub fn new(policy: &Policy, stamp: PolicyStamp) -> Self {
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
        let limits = named_limit::numbered(&policy.rate_limits.named);
        let classes = known.into_iter().zip(0u8..);
        let classes = classes.map(|(user_type, number)| {
            let class = Class::new(policy, &limits, &user_type, number);
            (user_type, class)
        });
        let classes = classes.collect();
        let own_breaker = policy.kinds.iter().filter(|(_, settings)| settings.circuit_breaker.is_some());
        let own_breaker = own_breaker.map(|(kind, _)| (kind.clone(), BreakerRules::new(&policy.breaker_of(kind))));
        let pools = policy.route_classes.iter();
        let pools = pools.filter_map(|(name, class)| Some((name.clone(), class.max_concurrent?))).collect();
        Self {
            stamp,
            admit_settings: admit_settings(policy, stamp),
            settle_settings: settle_settings(policy),
            named_limits: named_limit::pack(&limits),
            max_decision_batches: queue.max_decision_events,
            max_audit_events: policy.monitoring.max_audit_events,
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
            pools,
            breaker: BreakerRules::new(&policy.circuit_breakers.tasks),
            kind_breakers: own_breaker.collect(),
            retry: queue.retry.clone(),
        }
    }

    /// What the policy is stored as.
    #[must_use]
    pub fn stamp(&self) -> PolicyStamp {
        self.stamp
    }

    /// The revision the policy was stored as; 0 for a boot document that was never stored.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.stamp.revision()
    }

    /// How many named limits may apply to a request of this type: each makes its decision longer.
    #[must_use]
    pub fn named_limits_of(&self, user_type: &UserType) -> usize {
        self.classes.get(user_type).map_or(0, |class| class.limits.len())
    }

    /// Whether admissions of this type can be decided.
    #[must_use]
    pub fn knows(&self, user_type: &UserType) -> bool {
        self.classes.contains_key(user_type)
    }

    /// The limits of a type with nothing used, for answers that never reached Redis: its windows, and every named limit
    /// that applies to some of its requests. Empty for an unknown type.
    #[must_use]
    pub fn limits_of(&self, user_type: &UserType) -> Vec<LimitState> {
        let Some(class) = self.classes.get(user_type) else { return Vec::new() };
        let named = class.limits.iter().map(|limit| &limit.window);
        class.windows.iter().chain(named).map(|window| window.state(0.0, 0.0)).collect()
    }

    /// By how much each window of a session of this type may release late, ms, by name. Empty for an unknown type.
    pub fn session_ticks_ms(&self, user_type: &UserType) -> impl Iterator<Item = (&str, u64)> {
        let windows = self.classes.get(user_type).into_iter().flat_map(|class| &class.windows);
        windows.map(|window| (window.name.as_str(), window.tick_ms))
    }

    /// By how much each named limit that applies to some requests of this type may release late, ms, by name.
    pub fn named_ticks_ms(&self, user_type: &UserType) -> impl Iterator<Item = (&str, u64)> {
        let limits = self.classes.get(user_type).into_iter().flat_map(|class| &class.limits);
        limits.map(|limit| (limit.window.name.as_str(), limit.window.tick_ms))
    }

    /// What the breaker of a kind goes by.
    pub(crate) fn breaker_of(&self, kind: &str) -> &BreakerRules {
        self.kind_breakers.get(kind).unwrap_or(&self.breaker)
    }

    /// Number of a budget's period in the scripts. A budget that is no more counts as if its period were the shortest:
    /// what a task holds of it is released all the same, for the case that the budget comes back.
    pub(crate) fn period_number_of(&self, budget: &str) -> u8 {
        period_number(self.budgets.get(budget).map_or(Period::Minute, |budget| budget.period))
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
    fn new(policy: &Policy, limits: &[NamedLimit], user_type: &UserType, number: u8) -> Self {
        let windows: Vec<Window> = policy.limits_of(user_type).map_or_else(Vec::new, |role| {
            let mut windows = vec![(BURST, 1, role.burst_window * 1000, role.burst)];
            if role.hourly >= 0 {
                windows.push((HOURLY, 2, 3_600_000, role.hourly.unsigned_abs()));
            }
            window::shape(&windows)
        });
        let threshold = policy.threshold_of(user_type).unwrap_or(0.0);
        let weight = policy.weight_of(user_type).unwrap_or(1.0);
        let mut packer = Packer::with_capacity(64);
        packer.f64(threshold).f64((1e6 / weight).round().max(1.0)).u8(windows.len() as u8);
        for window in &windows {
            window.pack(packer.u8(window.reason));
        }
        let budgets = policy.budgets_of(user_type).map(|(name, budget)| (name.to_owned(), budget.clone())).collect();
        let limits = limits.iter().filter(|limit| limit.applies_to_type(user_type)).cloned().collect();
        let lasts_ms = windows.iter().map(|window| window.length_ms + 2 * window.tick_ms).max().unwrap_or(1);
        Self { number, lasts_ms, packed: packer.finish(), windows, limits, budgets, threshold }
    }
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

fn admit_settings(policy: &Policy, stamp: PolicyStamp) -> Bytes {
    let mut packer = Packer::with_capacity(64);
    packer
        .f64(stamp.as_u64() as f64)
        .f64(policy.backpressure.capacity_buffer)
        .f64(policy.backpressure.queue_depth_multiplier)
        .f64(policy.backpressure.hard_limit_threshold)
        .f64(policy.limits.max_queue_size as f64)
        .f64(policy.queue.max_delayed as f64)
        .f64(policy.service_capacity.avg_processing_time_seconds * 1000.0)
        .f64(policy.monitoring.heartbeat_timeout_seconds as f64 * 200.0);
    packer.finish()
}

fn settle_settings(policy: &Policy) -> Bytes {
    let mut packer = Packer::with_capacity(32);
    packer
        .f64(policy.queue.result_ttl_seconds as f64 * 1000.0)
        .f64(policy.queue.max_dead_letters as f64)
        .f64(policy.monitoring.max_audit_events as f64)
        .f64(policy.queue.max_decision_events as f64);
    packer.finish()
}
