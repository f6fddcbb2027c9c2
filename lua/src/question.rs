//! One request for admission and what of the policy applies to it: windows, named limits, budgets, breaker.
//!
//! Responsible for reading the policy once per request, so that arguments, reply and event of a request are about the
//! same limits in the same order. Must never decide.

use portcullis_config::policy::Budget;

use crate::decision::{AdmitRequest, LimitState, Reason};
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
                hop_windows(hops).map(|(hop, window)| hop_use(hop, window, request.cost)).collect()
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

/// The limits that a chain of these hops (root first) brings along, with nothing used, for answers that took no
/// decision: `chain:N:calls_per_min` and `chain:N:calls_per_hour`, where N is the hop's place, the root's being 0.
#[must_use]
pub fn chain_limits(hops: &[Hop]) -> Vec<LimitState> {
    hop_windows(hops).map(|(_, window)| window.state(0.0, 0.0)).collect()
}

/// The windows of each hop, named by its place: hops of one chain may all set the same bounds, and each is another.
fn hop_windows(hops: &[Hop]) -> impl Iterator<Item = (&Hop, Window)> {
    let bounds = |hop: &Hop| {
        [("calls_per_min", MINUTE_MS, hop.calls_per_min), ("calls_per_hour", 60 * MINUTE_MS, hop.calls_per_hour)]
    };
    hops.iter().enumerate().flat_map(move |(place, hop)| {
        let set = bounds(hop).into_iter().filter_map(|(bound, length_ms, limit)| Some((bound, length_ms, limit?)));
        set.flat_map(move |(bound, length_ms, limit)| {
            let name = format!("chain:{place}:{bound}");
            let window = shape(&[(&name, Reason::RateLimit.number(), length_ms, limit.min(MOST_CALLS))]);
            window.into_iter().map(move |window| (hop, window))
        })
    })
}

/// What a request of this cost uses of a window of a hop: as many calls as it counts for elsewhere.
fn hop_use(hop: &Hop, window: Window, cost: u32) -> HopUse<'_> {
    HopUse { window, hash: &hop.hash, units: u64::from(cost.max(1)) }
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
    fn every_bound_of_every_hop_has_a_name_of_its_own() {
        let hop = |per_min, per_hour| Hop { calls_per_min: per_min, calls_per_hour: per_hour, ..Hop::default() };
        let hops = [hop(Some(5), Some(9)), hop(None, None), hop(Some(5), None), hop(None, Some(u64::MAX))];
        let limits = chain_limits(&hops);
        let told: Vec<_> = limits.iter().map(|limit| (limit.name.as_str(), limit.limit, limit.window_ms)).collect();
        let expected = [
            ("chain:0:calls_per_min", 5, 60_000),
            ("chain:0:calls_per_hour", 9, 3_600_000),
            ("chain:2:calls_per_min", 5, 60_000),
            ("chain:3:calls_per_hour", MOST_CALLS, 3_600_000),
        ];
        assert_eq!(told, expected);
        assert!(limits.iter().all(|limit| !limit.is_of_session() && limit.remaining == limit.limit));
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
