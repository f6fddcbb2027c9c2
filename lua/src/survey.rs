//! `survey.lua`: the scope at one moment, for people and autoscalers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::error::StoreError;
use crate::key::Keys;
use crate::pack::Unpacker;
use crate::policy::CompiledPolicy;
use crate::reply::Reply;
use crate::script::SURVEY;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;

/// Depths, capacity and thresholds of a scope.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct QueueView {
    /// Tasks waiting in the queue.
    pub queued: u64,
    /// Tasks leased to a processor.
    pub running: u64,
    /// Tasks waiting for a delayed start or between two attempts.
    pub delayed: u64,
    /// Dead letters.
    pub dead: u64,
    /// Tasks waiting in the queue, by user type.
    pub queued_by_type: BTreeMap<String, u64>,
    /// Passes in flight that count in the scope's depth.
    pub passes: u64,
    /// Pools that route classes have of their own, by class.
    pub pools: BTreeMap<String, PoolView>,
    /// Slots of the live, accepting processors.
    pub slots: u64,
    /// Live, accepting processors.
    pub live_processors: u64,
    /// Depth the live slots stand for.
    pub capacity: u64,
    /// Depth at which each user type is refused.
    pub thresholds: BTreeMap<String, u64>,
    /// Depth at which everybody is refused.
    pub hard_limit: u64,
    /// (queued + running + passes) / capacity; 0 without capacity.
    pub pressure: f64,
    /// Measured mean duration of an attempt, ms; `None` until one has been measured.
    pub service_ms: Option<f64>,
    /// How long the task that runs next has existed, ms; `None` when none waits.
    pub oldest_wait_ms: Option<u64>,
    /// The scope's stored policy revision; 0 when none was stored.
    pub policy_revision: u64,
}

/// The pool of a route class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PoolView {
    /// Passes in flight in it.
    pub in_flight: u64,
    /// Its places.
    pub capacity: u64,
}

/// The script's answer, before a policy gives it meaning.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) now_ms: u64,
    queued: u64,
    running: u64,
    delayed: u64,
    dead: u64,
    slots: u64,
    processors: u64,
    next_created_ms: Option<u64>,
    pub(crate) stamp: PolicyStamp,
    service_ms: Option<f64>,
    queued_by_class: Vec<u64>,
    /// For each pool that was asked about, passes in flight.
    in_flight: Vec<u64>,
}

impl ScopeStore {
    /// The scope's queue as the policy sees it.
    pub async fn queues(&self, policy: &CompiledPolicy) -> Result<QueueView, StoreError> {
        let names = std::iter::once(Keys::SHARED_POOL).chain(policy.pools.keys().map(String::as_str));
        let survey = self.survey_with(names).await?;
        let mut in_flight = survey.in_flight.iter().copied();
        let passes = in_flight.next().unwrap_or(0);
        let pools = policy.pools.iter().zip(in_flight);
        let capacity = policy.capacity_of(survey.slots);
        let share = |threshold: f64| (capacity as f64 * threshold).floor() as u64;
        let count = |class: u8| survey.queued_by_class.get(usize::from(class)).copied().unwrap_or(0);
        let queued_by_type =
            policy.classes.iter().map(|(user_type, class)| (user_type.to_string(), count(class.number))).collect();
        let depth = survey.queued + survey.running + passes;
        Ok(QueueView {
            queued: survey.queued,
            running: survey.running,
            delayed: survey.delayed,
            dead: survey.dead,
            queued_by_type,
            passes,
            pools: pools
                .map(|((name, places), in_flight)| (name.clone(), PoolView { in_flight, capacity: *places }))
                .collect(),
            slots: survey.slots,
            live_processors: survey.processors,
            capacity,
            thresholds: policy
                .classes
                .iter()
                .map(|(user_type, class)| (user_type.to_string(), share(class.threshold)))
                .collect(),
            hard_limit: share(policy.backpressure.hard),
            pressure: if capacity == 0 { 0.0 } else { depth as f64 / capacity as f64 },
            service_ms: survey.service_ms,
            oldest_wait_ms: survey.next_created_ms.map(|created_ms| survey.now_ms.saturating_sub(created_ms)),
            policy_revision: survey.stamp.revision(),
        })
    }

    pub(crate) async fn survey(&self) -> Result<Survey, StoreError> {
        self.survey_with(std::iter::empty()).await
    }

    /// The same, with these pools.
    async fn survey_with(&self, pools: impl Iterator<Item = &str>) -> Result<Survey, StoreError> {
        let k = &self.keys;
        let mut keys = vec![k.scope(), k.queue(), k.delayed(), k.lease(), k.dead(), k.task(), k.beat(), k.processor()];
        keys.extend(pools.map(|name| k.pool(name)));
        let mut reply = Reply::new("survey", SURVEY.call(&self.store, keys, vec![self.now_arg()]).await?)?;
        let mut count = || reply.int().map(|number| u64::try_from(number).unwrap_or(0));
        let (now_ms, queued, running, delayed, dead) = (count()?, count()?, count()?, count()?, count()?);
        let (slots, processors) = (count()?, count()?);
        let next_created_ms = u64::try_from(reply.int()?).ok();
        let mut scope = Unpacker::new(reply.bytes()?);
        let stamp = PolicyStamp::from_u64(scope.count()?);
        scope.take(16)?;
        let service_ms = scope.f64()?;
        scope.take(80)?;
        let mut queued_by_class = Vec::new();
        while !scope.is_empty() {
            scope.f64()?;
            queued_by_class.push(scope.count()?);
        }
        let mut in_flight = Vec::with_capacity(reply.len());
        while !reply.is_empty() {
            in_flight.push(reply.int()?.unsigned_abs());
        }
        Ok(Survey {
            in_flight,
            now_ms,
            queued,
            running,
            delayed,
            dead,
            slots,
            processors,
            next_created_ms,
            stamp,
            service_ms: (service_ms > 0.0).then_some(service_ms),
            queued_by_class,
        })
    }
}
