//! What Redis has been told: tasks, what they hold, what was admitted when, who lives.
//!
//! Responsible for the definitions: a window is a list of admissions, a budget a sum, depth a count. A copy of it is
//! made with every copy of Redis. Must never be corrected by what Redis answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use portcullis_config::Policy;
use portcullis_config::policy::{Budget, Subject};
use portcullis_lua::{AdmitRequest, Decision, FencingToken, Heartbeat, Hold, PolicyStamp, TaskId};

use crate::model::Account;

/// The account of one Redis.
#[derive(Clone, Debug, Default)]
pub(in crate::simulate) struct Ledger {
    tasks: BTreeMap<TaskId, Entry>,
    alive: u64,
    /// Time and units of admissions, by limit and subject.
    admitted: BTreeMap<(String, String), VecDeque<(u64, u64)>>,
    /// Units held, by budget and subject.
    held: BTreeMap<(String, String), u64>,
    /// Units used beyond what was held, by budget and subject.
    overrun: BTreeMap<(String, String), u64>,
    keys: BTreeMap<String, TaskId>,
    policies: BTreeSet<PolicyStamp>,
    /// Slots of processors and when they stop counting, ms.
    beats: BTreeMap<String, (u64, u64)>,
}

#[derive(Clone, Debug)]
struct Entry {
    holds: Vec<Hold>,
    /// Token of its newest lease.
    newest: Option<FencingToken>,
    ended: Option<&'static str>,
}

/// A rule, what broke it, and what it is about.
pub(in crate::simulate) type Fault = (&'static str, String, String);

impl Ledger {
    /// Notes a request that was let in, and checks that it might be.
    pub(in crate::simulate) fn admit(
        &mut self,
        now_ms: u64,
        policy: &Policy,
        request: &AdmitRequest,
        decision: &Decision,
    ) -> Result<(), Fault> {
        let holds: Vec<Hold> =
            policy.budgets_of(&request.user_type).map(|(name, budget)| hold(name, budget, request)).collect();
        for hold in &holds {
            *self.held.entry((hold.budget.clone(), hold.subject.clone())).or_default() += hold.amount;
        }
        let id = &request.task_id;
        if self.tasks.insert(id.clone(), Entry { holds, newest: None, ended: None }).is_some() {
            return Err(("one admission", format!("{id} was admitted twice"), id.to_string()));
        }
        self.alive += 1;
        if let Some(key) = &request.idempotency
            && let Some(first) = self.keys.insert(key.key_hash.clone(), id.clone())
        {
            return Err(("one task per key", format!("{first} and {id} of one key"), id.to_string()));
        }
        self.check_windows(now_ms, policy, request, decision)?;
        self.check_depth(now_ms, policy, request, decision)?;
        let over = decision.budgets.iter().find(|budget| budget.spent + budget.held > budget.amount);
        over.map_or(Ok(()), |budget| Err(("budgets hold", format!("{budget:?} was drawn on"), id.to_string())))
    }

    fn check_windows(
        &mut self,
        now_ms: u64,
        policy: &Policy,
        request: &AdmitRequest,
        decision: &Decision,
    ) -> Result<(), Fault> {
        for limit in &decision.limits {
            let (subject, units) = match policy.rate_limits.named.get(&limit.name) {
                Some(named) => (&request.principal, units(request, &named.unit, named.default_estimate.unwrap_or(0))),
                None => (&request.session_id, u64::from(request.cost)),
            };
            let admitted = self.admitted.entry((limit.name.clone(), subject.clone())).or_default();
            admitted.push_back((now_ms, units));
            while admitted.front().is_some_and(|(at_ms, _)| at_ms + limit.window_ms <= now_ms) {
                admitted.pop_front();
            }
            let held: u64 = admitted.iter().map(|(_, units)| units).sum();
            if held > limit.limit {
                let what =
                    format!("{held} in {} ms of {} of {subject}, limit {}", limit.window_ms, limit.name, limit.limit);
                return Err(("no window above its limit", what, subject.clone()));
            }
        }
        Ok(())
    }

    fn check_depth(
        &self,
        now_ms: u64,
        policy: &Policy,
        request: &AdmitRequest,
        decision: &Decision,
    ) -> Result<(), Fault> {
        let slots =
            self.beats.values().filter(|(_, until_ms)| now_ms < *until_ms).map(|(slots, _)| slots).sum::<u64>() as f64;
        let rules = &policy.backpressure;
        let capacity = (slots * (1.0 - rules.capacity_buffer)).floor() + (slots * rules.queue_depth_multiplier).floor();
        let share = policy.threshold_of(&request.user_type).unwrap_or_default().min(rules.hard_limit_threshold);
        let bound = (capacity * share).floor() as u64;
        let before = decision.depth - u64::from(request.delay_ms == 0);
        if before < bound {
            return Ok(());
        }
        let what = format!("{} was let in at depth {before}, bound {bound}, {slots} slots", request.task_id);
        Err(("depth never above its bound", what, request.task_id.to_string()))
    }

    /// Notes a policy that is stored.
    pub(super) fn store_policy(&mut self, stamp: PolicyStamp) {
        self.policies.insert(stamp);
    }

    /// Whether this policy was ever stored.
    pub(super) fn knows_policy(&self, stamp: PolicyStamp) -> bool {
        self.policies.contains(&stamp)
    }

    /// Notes a lease.
    pub(super) fn hand_out(&mut self, id: &TaskId, token: FencingToken) {
        if let Some(entry) = self.tasks.get_mut(id) {
            entry.newest = Some(token);
        }
    }

    /// Token of a task's newest lease.
    pub(super) fn newest_of(&self, id: &TaskId) -> Option<FencingToken> {
        self.tasks.get(id)?.newest
    }

    /// Notes the end of a task.
    pub(super) fn end(&mut self, id: &TaskId, status: &'static str) -> Result<(), String> {
        let Some(entry) = self.tasks.get_mut(id) else { return Err(format!("{id} {status}, but was never admitted")) };
        if let Some(first) = entry.ended.replace(status) {
            return Err(format!("{id} {status} after it had {first}"));
        }
        self.alive -= 1;
        for hold in &entry.holds {
            if let Some(held) = self.held.get_mut(&(hold.budget.clone(), hold.subject.clone())) {
                *held = held.saturating_sub(hold.amount);
            }
        }
        Ok(())
    }

    /// Notes what a task has really used.
    pub(super) fn overrun(&mut self, id: &TaskId, usage: &[(String, u64)]) {
        for hold in self.tasks.get(id).into_iter().flat_map(|entry| &entry.holds) {
            let used = usage.iter().find(|(unit, _)| *unit == hold.unit).map_or(0, |(_, amount)| *amount);
            let of = (hold.budget.clone(), hold.subject.clone());
            *self.overrun.entry(of).or_default() += used.saturating_sub(hold.amount);
        }
    }

    /// Compares an account with what living tasks hold of it, and with what it may have spent.
    pub(super) fn check_account(&self, of: &(String, String), account: &Account, amount: u64) -> Result<(), String> {
        let held = self.held.get(of).copied().unwrap_or(0);
        if held != account.held {
            return Err(format!("{of:?} holds {}, its living tasks {held}", account.held));
        }
        let most = amount + self.overrun.get(of).copied().unwrap_or(0);
        if account.spent + held > most {
            return Err(format!("{of:?} has spent {} and holds {held} of {most}", account.spent));
        }
        Ok(())
    }

    /// Notes a heartbeat.
    pub(in crate::simulate) fn beat(&mut self, now_ms: u64, timeout_ms: u64, beat: &Heartbeat) {
        let slots = if beat.draining { 0 } else { u64::from(beat.slots) };
        self.beats.insert(beat.worker.clone(), (slots, now_ms + timeout_ms));
    }

    /// Notes that a processor has left.
    pub(in crate::simulate) fn leave(&mut self, worker: &str) {
        self.beats.remove(worker);
    }

    /// Tasks that have not ended.
    pub(in crate::simulate) fn alive(&self) -> u64 {
        self.alive
    }

    /// Tasks there ever were.
    pub(in crate::simulate) fn accepted(&self) -> u64 {
        self.tasks.len() as u64
    }

    /// Whether this task was ever accepted.
    pub(in crate::simulate) fn knows(&self, id: &TaskId) -> bool {
        self.tasks.contains_key(id)
    }

    /// Tasks that have not ended.
    pub(in crate::simulate) fn living(&self) -> impl Iterator<Item = &TaskId> {
        self.tasks.iter().filter(|(_, entry)| entry.ended.is_none()).map(|(id, _)| id)
    }
}

fn hold(name: &str, budget: &Budget, request: &AdmitRequest) -> Hold {
    let subject = if budget.per == Subject::Principal { request.principal.clone() } else { String::new() };
    let amount = units(request, &budget.unit, budget.default_estimate);
    Hold { budget: name.to_owned(), subject, unit: budget.unit.clone(), amount }
}

/// What a request counts for: itself, or what it estimates.
fn units(request: &AdmitRequest, unit: &str, default: u64) -> u64 {
    if unit == "requests" {
        return u64::from(request.cost);
    }
    request.estimates.iter().find(|(of, _)| of == unit).map_or(default, |(_, amount)| *amount)
}
