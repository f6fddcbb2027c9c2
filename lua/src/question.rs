//! One request for admission and what of the policy applies to it: windows, named limits, budgets, breaker.
//!
//! Responsible for reading the policy once per request, so that arguments, reply and event of a request are about the
//! same limits in the same order. Must never decide.

use portcullis_config::policy::Budget;

use crate::decision::{AdmitRequest, Reason};
use crate::envelope::Hold;
use crate::error::StoreError;
use crate::policy::{Class, CompiledPolicy, Use, Window, shape};
use crate::provenance::{Hop, MOST_HOPS};

const MINUTE_MS: u64 = 60_000;

/// Most calls that a hop can be limited to: more is no limit to anybody, and beyond what a window can count.
const MOST_CALLS: u64 = 1_000_000_000;

/// A request and what of the policy applies to it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) request: &'a AdmitRequest,
    pub(crate) class: &'a Class,
    /// Of named limits.
    pub(crate) uses: Vec<Use<'a>>,
    /// Of the limits that its chain of delegations brings along.
    pub(crate) hop_uses: Vec<HopUse<'a>>,
    /// On budgets.
    pub(crate) draws: Vec<Draw<'a>>,
    /// Places of the pool of its own that a pass counts against; `None`: it counts in the scope's depth, or is none.
    pub(crate) pool: Option<u64>,
    half_open_probes: u16,
}

/// What a request uses of what a hop of its chain allows.
#[derive(Debug)]
pub(crate) struct HopUse<'a> {
    pub(crate) window: Window,
    /// The hop, by its digest.
    pub(crate) hash: &'a str,
    pub(crate) units: u64,
}

/// What a request draws on a budget.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    pub(crate) name: &'a str,
    pub(crate) budget: &'a Budget,
    pub(crate) subject: &'a str,
    pub(crate) estimate: u64,
}

impl<'a> Question<'a> {
    /// Fails for a user type that the policy does not know.
    pub(crate) fn new(policy: &'a CompiledPolicy, request: &'a AdmitRequest) -> Result<Self, StoreError> {
        let class = policy
            .classes
            .get(&request.user_type)
            .ok_or_else(|| StoreError::Protocol(format!("the policy does not know {}", request.user_type)))?;
        let draw = |(name, budget): &'a (String, Budget)| {
            let subject = request.subject(budget.per)?;
            Some(Draw { name, budget, subject, estimate: request.units(&budget.unit, budget.default_estimate) })
        };
        let hops = &request.provenance.hops;
        if hops.len() > MOST_HOPS {
            return Err(StoreError::Protocol(format!("a chain of {} hops", hops.len())));
        }
        let throttled = request.pass.is_none_or(|terms| terms.throttled);
        let limits = if throttled { &class.limits[..] } else { &[] };
        Ok(Self {
            request,
            class,
            uses: limits.iter().filter_map(|limit| limit.used_by(request)).collect(),
            hop_uses: if throttled {
                hops.iter().flat_map(|hop| hop_uses(hop, request.cost)).collect()
            } else {
                Vec::new()
            },
            draws: class.budgets.iter().filter_map(draw).collect(),
            pool: request.pass.and_then(|_| policy.pools.get(&request.kind).copied()),
            half_open_probes: policy.breaker_of(&request.kind).half_open_probes,
        })
    }

    /// The session's windows, the named limits' and the chain's, in the order of the reply.
    pub(crate) fn windows(&self) -> impl Iterator<Item = &Window> {
        let named = self.uses.iter().map(|used| &used.limit.window);
        self.class.windows.iter().chain(named).chain(self.hop_uses.iter().map(|used| &used.window))
    }

    /// What it holds of budgets once it is admitted.
    pub(crate) fn holds(&self) -> Vec<Hold> {
        let hold = |draw: &Draw<'_>| Hold {
            budget: draw.name.to_owned(),
            subject: draw.subject.to_owned(),
            unit: draw.budget.unit.clone(),
            amount: draw.estimate,
        };
        self.draws.iter().map(hold).collect()
    }

    /// What it counts for in its session's windows; 0 for a pass that is not throttled.
    pub(crate) fn cost(&self) -> u32 {
        if self.request.pass.is_some_and(|terms| !terms.throttled) { 0 } else { self.request.cost.max(1) }
    }

    /// Probes a half-open breaker of its kind lets through.
    pub(crate) fn half_open_probes(&self) -> u16 {
        self.half_open_probes
    }
}

/// What a request of this cost uses of what a hop allows: of each limit, as many calls as it counts for elsewhere.
fn hop_uses(hop: &Hop, cost: u32) -> impl Iterator<Item = HopUse<'_>> {
    let limits = [
        ("chain:calls_per_min", MINUTE_MS, hop.calls_per_min),
        ("chain:calls_per_hour", 60 * MINUTE_MS, hop.calls_per_hour),
    ];
    let windows = limits.into_iter().flat_map(|(name, length_ms, limit)| {
        let limit = limit.map(|limit| limit.min(MOST_CALLS));
        limit.map_or_else(Vec::new, |limit| shape(&[(name, Reason::RateLimit.number(), length_ms, limit)]))
    });
    windows.map(move |window| HopUse { window, hash: &hop.hash, units: u64::from(cost.max(1)) })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use portcullis_config::{Policy, UserType};
    use serde_json::json;

    use super::*;
    use crate::pass::PassTerms;
    use crate::stamp::PolicyStamp;
    use crate::task::TaskId;

    fn asked(hits: Option<u32>, cost: u32, estimates: &[(&str, u64)]) -> AdmitRequest {
        AdmitRequest {
            task_id: TaskId::generate(),
            user_type: UserType::new("paid").unwrap(),
            session_id: "s".to_owned(),
            principal: "p".to_owned(),
            actor: None,
            client_address: None,
            kind: "chat".to_owned(),
            pass: hits.map(|hits| PassTerms { lease_ms: 0, throttled: true, hits }),
            cost,
            deadline_ms: None,
            delay_ms: 0,
            max_attempts: 1,
            idempotency: None,
            estimates: estimates.iter().map(|(unit, amount)| ((*unit).to_owned(), *amount)).collect(),
            request_id: "r".to_owned(),
            traceparent: None,
            tracestate: None,
            content_type: String::new(),
            payload: Bytes::new(),
            provenance: crate::provenance::Provenance::default(),
        }
    }

    /// What a request draws on budgets and uses of limits of two units and of requests, in this order.
    fn drawn(request: &AdmitRequest) -> (Vec<u64>, Vec<u64>) {
        let mut policy = Policy::shipped("acme", "demo");
        for (name, unit, estimate) in [("a", "tokens", 7), ("b", "dollars", 2), ("c", "requests", 1)] {
            let budget =
                json!({"unit": unit, "amount": 1000, "period": "day", "per": "tenant", "default_estimate": estimate});
            policy.budgets.insert(name.to_owned(), serde_json::from_value(budget).unwrap());
            let mut limit = json!({"per": "tenant", "unit": unit, "limit": 1000, "window_seconds": 60});
            if unit != "requests" {
                limit["default_estimate"] = json!(estimate + 1);
            }
            policy.rate_limits.named.insert(name.to_owned(), serde_json::from_value(limit).unwrap());
        }
        let policy = CompiledPolicy::new(&policy, PolicyStamp::NONE);
        let question = Question::new(&policy, request).unwrap();
        let draws = question.draws.iter().map(|draw| draw.estimate).collect();
        (draws, question.uses.iter().map(|used| used.units).collect())
    }

    #[test]
    fn one_question_about_several_requests_is_expected_to_use_what_they_all_do() {
        assert_eq!(drawn(&asked(None, 2, &[])), (vec![7, 2, 2], vec![8, 3, 2]), "a task is one");
        assert_eq!(drawn(&asked(Some(0), 2, &[("tokens", 5)])), (vec![5, 2, 2], vec![5, 3, 2]));
        assert_eq!(drawn(&asked(Some(10), 20, &[("tokens", 5)])), (vec![50, 20, 20], vec![50, 30, 20]));
        let endless = drawn(&asked(Some(u32::MAX), 1, &[("tokens", u64::MAX)]));
        assert_eq!(endless.0[0], (1 << 53) - 1, "an integer that scripts keep exactly");
    }
}
