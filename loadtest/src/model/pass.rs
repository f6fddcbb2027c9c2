//! Passes: requests that are let through without being queued, and what ends them.
//!
//! Must never count a pass whose time is over, nor end it as anything but lapsed.

use std::collections::BTreeMap;

use portcullis_lua::{
    Acting, AdmitRequest, Hold, PassEnd, PassExtension, PassLease, PassOutcome, PassRecord, PassTerms, PoolView, TaskId,
};

use super::Model;
use super::breaker::Sign;

/// Most passes that one call takes back.
const BATCH: usize = 64;

/// A pass that has not ended.
#[derive(Clone, Debug)]
pub struct Pass {
    /// What it was admitted as.
    pub request: AdmitRequest,
    /// What its holder has got.
    pub lease: PassLease,
    /// Time of its admission, ms.
    pub started_ms: u64,
    /// When it lapses, ms.
    pub until_ms: u64,
    /// Half-open phase it is a probe of; 0 for none.
    epoch: u64,
    /// Its breaker was told how its response began.
    judged: bool,
}

impl Pass {
    /// What anybody may know of it.
    #[must_use]
    pub fn record(&self) -> PassRecord {
        PassRecord {
            lease: self.lease.clone(),
            started_ms: self.started_ms,
            principal: self.request.principal.clone(),
            user_type: self.request.user_type.clone(),
            session_id: self.request.session_id.clone(),
            actor: self.request.actor.clone(),
            request_id: self.request.request_id.clone(),
        }
    }
}

impl Model {
    /// Passes in flight that count as load of the scope, or against the pool of this class's own.
    #[must_use]
    pub fn in_flight(&self, now_ms: u64, own_pool: Option<&str>) -> u64 {
        let counts = |pass: &&Pass| {
            let pool = pass.lease.pooled.then_some(pass.lease.kind.as_str());
            pool == own_pool && now_ms < pass.until_ms
        };
        self.passes.values().filter(counts).count() as u64
    }

    /// When the next pass lapses, ms.
    #[must_use]
    pub fn next_pass_lapse_ms(&self, now_ms: u64) -> Option<u64> {
        self.passes.values().map(|pass| pass.until_ms).filter(|until_ms| *until_ms > now_ms).min()
    }

    /// Classes that have a pool of their own, by name.
    pub fn pool_names(&self) -> impl Iterator<Item = &str> {
        let classes = self.policy.route_classes.iter();
        classes.filter(|(_, class)| class.max_concurrent.is_some()).map(|(name, _)| name.as_str())
    }

    /// The class's own pool that this request counts against, if it has one: its places.
    pub(super) fn places(&self, request: &AdmitRequest) -> Option<u64> {
        request.pass.and_then(|_| self.policy.route_classes.get(&request.kind)?.max_concurrent)
    }

    pub(super) fn pools(&self, now_ms: u64) -> BTreeMap<String, PoolView> {
        let classes = self.policy.route_classes.iter();
        let pools = classes.filter_map(|(name, class)| {
            let pool = PoolView { in_flight: self.in_flight(now_ms, Some(name)), capacity: class.max_concurrent? };
            Some((name.clone(), pool))
        });
        pools.collect()
    }

    /// How long a pass of a pool takes in the mean, ms; `otherwise` until one has been measured.
    pub(super) fn pass_ms(&self, own_pool: Option<&str>, otherwise: f64) -> f64 {
        self.pass_ms.get(own_pool.unwrap_or_default()).copied().unwrap_or(otherwise)
    }

    /// The lease that a request for a pass gets.
    pub(super) fn pass_lease(&self, request: &AdmitRequest, terms: PassTerms, holds: Vec<Hold>) -> Option<PassLease> {
        (terms.lease_ms > 0).then(|| PassLease {
            pass_id: request.task_id.clone(),
            kind: request.kind.clone(),
            lease_ms: terms.lease_ms,
            pooled: self.places(request).is_some(),
            holds,
            acting: acting(request),
        })
    }

    pub(super) fn let_through(&mut self, now_ms: u64, request: &AdmitRequest, lease: PassLease, epoch: u64) {
        let until_ms = now_ms + lease.lease_ms;
        let pass = Pass { request: request.clone(), lease, started_ms: now_ms, until_ms, epoch, judged: false };
        self.passes.insert(request.task_id.clone(), pass);
    }

    /// Ends a pass, if it is still held.
    pub fn finish(&mut self, now_ms: u64, end: &PassEnd) -> bool {
        let id = &end.lease.pass_id;
        let Some(pass) = self.passes.get(id).filter(|pass| now_ms < pass.until_ms).cloned() else { return false };
        let took_ms = now_ms - pass.started_ms;
        let slow = end.answered_ms.unwrap_or(took_ms) > self.policy.breaker_of(&pass.lease.kind).slow_call_ms;
        let (sign, otherwise) = match end.outcome {
            PassOutcome::Succeeded => (Sign::Success(slow), None),
            PassOutcome::Failed => (Sign::Failure, Some(0)),
            PassOutcome::Abandoned => (Sign::None, if end.answered_ms.is_some() { None } else { Some(0) }),
        };
        if sign != Sign::None {
            let pool = if pass.lease.pooled { pass.lease.kind.clone() } else { String::new() };
            let took_ms = took_ms.max(1) as f64;
            let mean_ms = self.pass_ms.entry(pool).or_insert(took_ms);
            *mean_ms += (took_ms - *mean_ms) / 16.0;
        }
        let used = |hold: &Hold| {
            let reported = end.usage.iter().find(|(unit, _)| *unit == hold.unit).map(|(_, amount)| *amount);
            reported.or(otherwise).unwrap_or(hold.amount)
        };
        self.end_pass(now_ms, id, sign, used);
        true
    }

    /// Extends a pass by its own lease time, if it is still held. A probe is judged by the first head that is told.
    pub fn extend(&mut self, now_ms: u64, extension: &PassExtension) -> bool {
        let lease = &extension.lease;
        let held = self.passes.get_mut(&lease.pass_id).filter(|pass| now_ms < pass.until_ms);
        let Some(pass) = held else { return false };
        pass.until_ms = now_ms + lease.lease_ms;
        if let Some(head) = extension.head.filter(|_| pass.epoch > 0 && !pass.judged) {
            pass.judged = true;
            let epoch = pass.epoch;
            let slow = head.answered_ms > self.policy.breaker_of(&lease.kind).slow_call_ms;
            let sign = if head.failed { Sign::Failure } else { Sign::Success(slow) };
            self.feed(now_ms, &lease.kind, epoch, sign);
        }
        true
    }

    /// Takes back passes that have lapsed, the first to lapse first; how many.
    pub fn lapse(&mut self, now_ms: u64) -> u64 {
        let lapsed = self.passes.iter().filter(|(_, pass)| pass.until_ms <= now_ms);
        let mut lapsed: Vec<(u64, TaskId)> = lapsed.map(|(id, pass)| (pass.until_ms, id.clone())).collect();
        lapsed.sort_unstable();
        lapsed.truncate(BATCH);
        for (_, id) in &lapsed {
            self.end_pass(now_ms, id, Sign::None, |_| 0);
        }
        lapsed.len() as u64
    }

    /// A pass is over: what it says about its class, and what it used of each hold.
    fn end_pass(&mut self, now_ms: u64, id: &TaskId, sign: Sign, used: impl Fn(&Hold) -> u64) {
        let Some(pass) = self.passes.remove(id) else { return };
        if !pass.judged {
            self.feed(now_ms, &pass.lease.kind, pass.epoch, sign);
        }
        for hold in pass.lease.holds {
            let spent = used(&hold);
            // An account is made by its first hold and never goes.
            let Some(account) = self.budgets.get_mut(&(hold.budget, hold.subject)) else { continue };
            *account = account.at(now_ms);
            account.held = account.held.saturating_sub(hold.amount);
            account.spent += spent;
        }
    }
}

/// Whom an agent asked for it for, and through whom.
fn acting(request: &AdmitRequest) -> Option<Acting> {
    let agents: Vec<String> = request.provenance.hops.iter().map(|hop| hop.client_id.clone()).collect();
    (!agents.is_empty()).then(|| Acting { principal: request.principal.clone(), agents })
}
