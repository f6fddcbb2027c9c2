//! Whether a request is admitted, and what it then takes.
//!
//! Must never change anything while deciding: a verdict is taken of `&self`.

use portcullis_config::policy::Budget;
use portcullis_lua::{AdmitRequest, BudgetState, Decision, Hold, LimitState, Reason, Refusal, Verdict};

use super::limit::{subject, units};
use super::{Account, Model, State, Task};

/// A gate that says no: why, which one, and when it would say yes, ms.
struct No(Reason, Option<String>, f64);

/// When a gate says yes that holds less than it is asked for.
const NEVER_MS: f64 = f64::INFINITY;

impl Model {
    /// Decides, and takes what an admitted request needs.
    pub fn admit(&mut self, now_ms: u64, request: &AdmitRequest) -> Decision {
        let verdict = self.verdict(now_ms, request);
        self.used.extend(request.provenance.once.clone());
        if matches!(verdict, Verdict::Admitted { .. } | Verdict::Passed { .. }) {
            self.take(now_ms, request);
        }
        let decision = self.decision(now_ms, request, verdict);
        self.decisions.push(decision.clone());
        decision
    }

    /// Decides. A look ahead estimates no wait, and takes no place.
    #[must_use]
    pub fn peek(&self, now_ms: u64, request: &AdmitRequest) -> Decision {
        let mut verdict = self.verdict(now_ms, request);
        match &mut verdict {
            Verdict::Admitted { estimated_wait_ms, assumed, .. } => (*estimated_wait_ms, *assumed) = (0, false),
            Verdict::Passed { lease } => *lease = None,
            Verdict::Replayed { .. } | Verdict::Refused(_) => {}
        }
        self.decision(now_ms, request, verdict)
    }

    fn decision(&self, now_ms: u64, request: &AdmitRequest, verdict: Verdict) -> Decision {
        let named = self.named_limits(request).into_iter().map(|used| used.window);
        let limits = self.windows(request).into_iter().chain(named).map(|window| LimitState {
            remaining: window.limit.saturating_sub(window.held(now_ms)),
            reset_ms: window.wait_ms(now_ms, 1),
            name: window.name,
            limit: window.limit,
            window_ms: window.length_ms,
        });
        let budgets = self.accounts(now_ms, request).into_iter().map(|(hold, budget, account)| BudgetState {
            name: hold.budget,
            unit: hold.unit,
            amount: budget.amount,
            spent: account.spent,
            held: account.held,
            reset_ms: account.reset_ms(now_ms),
        });
        let (limits, budgets) = (limits.collect(), budgets.collect());
        let (depth, capacity) = match self.places(request) {
            Some(places) => (self.in_flight(now_ms, Some(&request.kind)), places),
            None => (self.depth(now_ms), self.capacity(now_ms)),
        };
        Decision { verdict, depth, capacity, limits, budgets }
    }

    fn verdict(&self, now_ms: u64, request: &AdmitRequest) -> Verdict {
        if request.provenance.once.as_ref().is_some_and(|once| self.used.contains(once)) {
            let (reason, name) = (Reason::ProofUsed, None);
            return Verdict::Refused(Refusal {
                reason,
                name,
                retry_after_ms: 0,
                pressure_ms: 0,
                backlog_ms: 0,
                assumed: false,
            });
        }
        let idempotency = request.idempotency.as_ref().filter(|_| request.pass.is_none());
        let known = idempotency.and_then(|key| Some((key, self.known.get(&key.key_hash)?)));
        let mismatch = match known {
            Some((key, (task_id, body))) if key.body_hash == *body => {
                return Verdict::Replayed { task_id: task_id.clone() };
            }
            known => known.is_some(),
        };
        let mut noes = Vec::new();
        if throttled(request) {
            self.rate_limit(now_ms, request, &mut noes);
        }
        match self.places(request) {
            Some(places) => self.pool_pressure(now_ms, request, places, &mut noes),
            None => self.backpressure(now_ms, request, &mut noes),
        }
        let breaker = self.breakers.get(&request.kind);
        let rules = self.policy.breaker_of(&request.kind);
        let told_of = request.pass.is_none_or(|terms| terms.lease_ms > 0);
        if let Some(wait_ms) = breaker.and_then(|breaker| breaker.wait_ms(&rules, now_ms, self.service_ms(), told_of)) {
            noes.push(No(Reason::CircuitOpen, None, wait_ms));
        }
        for (hold, budget, account) in self.accounts(now_ms, request) {
            if account.spent + account.held + hold.amount > budget.amount {
                let wait_ms = account.reset_ms(now_ms) as f64;
                let wait_ms = if hold.amount > budget.amount { NEVER_MS } else { wait_ms };
                noes.push(No(Reason::BudgetExhausted, Some(hold.budget), wait_ms));
            }
        }
        if mismatch {
            noes.push(No(Reason::IdempotencyMismatch, None, 0.0));
        }
        let longest_ms = noes.iter().map(|no| no.2).fold(0.0, f64::max);
        let pressures = noes.iter().filter(|no| no.0.is_shared_pressure()).map(|no| no.2);
        let pressure_ms = pressures.fold(0.0, f64::max).ceil() as u64;
        if let Some(No(reason, name, _)) = noes.into_iter().next() {
            let pressure_ms = if reason.is_shared_pressure() { pressure_ms } else { 0 };
            let retry_after_ms = if longest_ms < NEVER_MS { longest_ms.ceil() as u64 } else { 0 };
            let backlog_ms = match (reason, self.places(request)) {
                (Reason::HardLimit | Reason::PressureThreshold, None) => self.backlog_ms(now_ms),
                _ => 0,
            };
            let of_service = match reason {
                Reason::HardLimit | Reason::PressureThreshold => true,
                Reason::QueueFull => request.delay_ms == 0,
                _ => false,
            };
            let assumed = of_service && request.pass.is_none() && self.measured_ms.is_none();
            return Verdict::Refused(Refusal { reason, name, retry_after_ms, pressure_ms, backlog_ms, assumed });
        }
        if let Some(terms) = request.pass {
            let holds = self.accounts(now_ms, request).into_iter().map(|(hold, ..)| hold).collect();
            return Verdict::Passed { lease: self.pass_lease(request, terms, holds) };
        }
        let estimated_wait_ms = self.estimated_wait_ms(now_ms, request);
        let assumed = request.delay_ms == 0 && estimated_wait_ms > 0 && self.measured_ms.is_none();
        Verdict::Admitted { task_id: request.task_id.clone(), estimated_wait_ms, assumed }
    }

    fn rate_limit(&self, now_ms: u64, request: &AdmitRequest, noes: &mut Vec<No>) {
        let cost = u64::from(request.cost);
        let of_session = self.windows(request).into_iter().map(|window| (window, cost));
        let named = self.named_limits(request).into_iter().map(|used| (used.window, used.units));
        for (window, units) in of_session.chain(named) {
            let excess = window.excess(now_ms, units);
            if excess > 0 && units > 0 {
                let reason = match window.name.as_str() {
                    "burst" => Reason::BurstLimit,
                    "hourly" => Reason::HourlyLimit,
                    _ => Reason::RateLimit,
                };
                let wait_ms = if units > window.limit { NEVER_MS } else { window.wait_ms(now_ms, excess) as f64 };
                noes.push(No(reason, Some(window.name), wait_ms));
            }
        }
    }

    fn backpressure(&self, now_ms: u64, request: &AdmitRequest, noes: &mut Vec<No>) {
        let (slots, processors) = self.live(now_ms);
        if processors == 0 {
            // A fifth of the time a heartbeat counts is when the next one is due.
            let beat_ms = self.policy.monitoring.heartbeat_timeout_seconds as f64 * 200.0;
            noes.push(No(Reason::NoLiveProcessors, None, beat_ms));
            return;
        }
        let (depth, passes) = (self.depth(now_ms), self.in_flight(now_ms, None));
        // Time until the load is below a bound, at the rate at which busy slots and passes end their work.
        let drain_ms = |bound: u64| {
            let excess = (depth - bound.saturating_sub(1)) as f64;
            if passes == 0 {
                return excess * self.service_ms() / slots.min(depth).max(1) as f64;
            }
            let of_tasks = slots.min(depth - passes) as f64 / self.service_ms();
            excess / (of_tasks + passes as f64 / self.pass_ms(None, self.service_ms()))
        };
        let max_queue = self.policy.limits.max_queue_size;
        if max_queue > 0 && depth >= max_queue {
            noes.push(No(Reason::QueueFull, None, drain_ms(max_queue)));
        }
        let delayed = self.delayed();
        let is_task = request.pass.is_none();
        if is_task && request.delay_ms > 0 && delayed.len() as u64 >= self.policy.queue.max_delayed {
            let wait_ms = delayed.first().map_or(0, |(due_ms, _)| due_ms.saturating_sub(now_ms));
            noes.push(No(Reason::QueueFull, None, wait_ms as f64));
        }
        let threshold = self.policy.threshold_of(&request.user_type).unwrap_or_default();
        let hard = self.policy.backpressure.hard_limit_threshold;
        for (reason, share) in [(Reason::HardLimit, hard), (Reason::PressureThreshold, threshold)] {
            let bound = self.share(now_ms, share);
            if depth >= bound {
                noes.push(No(reason, None, drain_ms(bound)));
            }
        }
        if let (Some(deadline_ms), Some(measured_ms), true) = (request.deadline_ms, self.measured_ms, is_task) {
            // Passes are in nobody's way to a slot.
            let before = (depth - passes + 1).saturating_sub(slots) as f64 * measured_ms / slots as f64;
            let late_ms = request.delay_ms as f64 + before - deadline_ms as f64;
            if late_ms > 0.0 {
                noes.push(No(Reason::DeadlineUnreachable, None, late_ms));
            }
        }
    }

    /// Time until the slots run out of queued tasks if nobody is admitted any more.
    fn backlog_ms(&self, now_ms: u64) -> u64 {
        let slots = self.live(now_ms).0;
        let queued = self.depth(now_ms).saturating_sub(self.in_flight(now_ms, None) + slots);
        (queued as f64 * self.service_ms() / slots as f64).ceil() as u64
    }

    /// Pressure of a class with a pool of its own: its passes against shares of its places.
    fn pool_pressure(&self, now_ms: u64, request: &AdmitRequest, places: u64, noes: &mut Vec<No>) {
        let in_flight = self.in_flight(now_ms, Some(&request.kind));
        let assumed_ms = self.policy.service_capacity.avg_processing_time_seconds * 1000.0;
        let threshold = self.policy.threshold_of(&request.user_type).unwrap_or_default();
        let hard = self.policy.backpressure.hard_limit_threshold;
        // Of several waits the longest counts: that for most places.
        for (reason, share) in [(Reason::HardLimit, hard), (Reason::PressureThreshold, threshold)] {
            let bound = (places as f64 * share).floor() as u64;
            if in_flight >= bound {
                let excess = (in_flight - bound.saturating_sub(1)) as f64;
                let wait_ms = excess * self.pass_ms(Some(&request.kind), assumed_ms) / in_flight.max(1) as f64;
                noes.push(No(reason, None, wait_ms));
            }
        }
    }

    fn estimated_wait_ms(&self, now_ms: u64, request: &AdmitRequest) -> u64 {
        let (slots, depth) = (self.live(now_ms).0, self.depth(now_ms) - self.in_flight(now_ms, None));
        if request.delay_ms > 0 {
            return request.delay_ms;
        }
        let before = (depth + 1).saturating_sub(slots) as f64;
        (before * self.service_ms() / slots as f64).ceil() as u64
    }

    fn take(&mut self, now_ms: u64, request: &AdmitRequest) {
        if throttled(request) {
            let mut windows = self.windows(request);
            for window in &mut windows {
                window.admit(now_ms, request.cost.into());
            }
            self.sessions.insert(request.session_id.clone(), windows);
        }
        for mut used in self.named_limits(request).into_iter().filter(|used| used.units > 0) {
            used.window.admit(now_ms, used.units);
            self.named.insert((used.window.name.clone(), used.subject), used.window);
        }
        let epoch = self.breakers.get_mut(&request.kind).map_or(0, |breaker| breaker.admit(now_ms));
        let mut holds = Vec::new();
        let placeless = request.pass.is_some_and(|terms| terms.lease_ms == 0);
        for (hold, _, mut account) in self.accounts(now_ms, request) {
            if placeless {
                account.spent += hold.amount;
            } else {
                account.held += hold.amount;
            }
            self.budgets.insert((hold.budget.clone(), hold.subject.clone()), account);
            holds.push(hold);
        }
        if let Some(terms) = request.pass {
            if let Some(lease) = self.pass_lease(request, terms, holds) {
                self.let_through(now_ms, request, lease, epoch);
            }
            return;
        }
        if let Some(key) = &request.idempotency {
            self.known.insert(key.key_hash.clone(), (request.task_id.clone(), key.body_hash.clone()));
        }
        let state = if request.delay_ms > 0 {
            State::Delayed { due_ms: now_ms + request.delay_ms }
        } else {
            State::Queued { tag: self.start_tag(request) }
        };
        self.tasks.insert(request.task_id.clone(), Task::new(request, now_ms, epoch, holds, state));
    }

    /// Start-time fair queueing: a type's tags are apart by the inverse of its weight, and never before the present.
    fn start_tag(&mut self, request: &AdmitRequest) -> u64 {
        let weight = self.policy.weight_of(&request.user_type).unwrap_or(1.0);
        let finish = self.finish.entry(request.user_type.to_string()).or_default();
        let start = self.virtual_time.max(*finish);
        *finish = start + (1e6 / weight).round() as u64;
        start
    }

    /// The budgets a request draws on: what it would hold, of what, and the account as it stands.
    fn accounts(&self, now_ms: u64, request: &AdmitRequest) -> Vec<(Hold, Budget, Account)> {
        let mut accounts = Vec::new();
        for (name, budget) in self.policy.budgets_of(&request.user_type) {
            let Some(subject) = subject(request, budget.per) else { continue };
            let amount = units(request, &budget.unit, budget.default_estimate);
            let account = match self.budgets.get(&(name.to_owned(), subject.clone())) {
                Some(account) => account.at(now_ms),
                None => Account::new(budget.period, now_ms),
            };
            let unit = budget.unit.clone();
            accounts.push((Hold { budget: name.to_owned(), subject, unit, amount }, budget.clone(), account));
        }
        accounts
    }
}

/// Whether rate limits apply.
fn throttled(request: &AdmitRequest) -> bool {
    request.pass.is_none_or(|terms| terms.throttled)
}
