//! Passes: admission to what is not queued, such as a request that is proxied.
//!
//! Feeds the script what a submission feeds it but for the task, so that both are decided by the same gates in the same
//! calls. What is admitted gets a place among the passes in flight, which counts as load until the pass is finished;
//! one that is dropped on the way is abandoned. Must never leave a place that came free empty for long: behind a pass
//! no queue keeps an application busy, so pressure is repeated from memory only until this gateway gives a place back,
//! and for a small part of the time in which another one is expected to.

use std::sync::Arc;
use std::time::Duration;

use portcullis_config::policy::GUARDED;
pub(crate) use portcullis_lua::PassOutcome as Outcome;
use portcullis_lua::{AdmitRequest, Decision, LimitState, PassHead, PassTerms, Refusal, StoreError, TaskId, Verdict};
use tokio::time::Instant;

use super::session::{Identity, Unspent};
use super::{Origin, asked_by, backpressure, circuit_breaker, rate_limit, refused, subject};
use crate::decider::{Decided, Question, Wish};
use crate::pass_keeper::Place;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::Refused;
use crate::respond::RequestId;
use crate::state::Gateway;
use crate::trace_context::TraceContext;

/// What asks for a pass: of the built-in class, without a place, unless it says otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its route class: its kind in limits, costs, budgets and breakers.
    pub(crate) class: Arc<str>,
    /// Whether rate limits apply.
    pub(crate) throttled: bool,
    /// Whether it is to have a place, and be finished. Without one only the decision counts.
    pub(crate) in_flight: bool,
    /// How long that place lasts if its end is left to the caller; `None`: as long as this gateway keeps it.
    pub(crate) lease: Option<Duration>,
    /// As how many requests of its class it counts.
    pub(crate) hits: u32,
    /// What it is expected to use, by unit, where it knows better than its class.
    pub(crate) estimates: Vec<(String, u64)>,
    /// The trace it belongs to.
    pub(crate) trace: Option<TraceContext>,
    /// Its method, where that is known.
    pub(crate) method: Option<String>,
    /// By which way it is asked for, as metrics call it.
    pub(crate) route: &'static str,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            class: GUARDED.into(),
            throttled: true,
            in_flight: false,
            lease: None,
            hits: 1,
            estimates: Vec::new(),
            trace: None,
            method: None,
            route: "",
        }
    }
}

/// The right to go on.
#[derive(Debug)]
pub(crate) struct Pass {
    place: Option<Place>,
    began: Instant,
    /// How long the answer took to begin, ms.
    answered_ms: Option<u64>,
    limits: Vec<LimitState>,
    policy: Arc<PolicyInForce>,
}

impl Pass {
    /// The caller's limits after the decision.
    pub(crate) fn limits(&self) -> &[LimitState] {
        &self.limits
    }

    /// The policy it was decided under.
    pub(crate) fn policy(&self) -> &Arc<PolicyInForce> {
        &self.policy
    }

    /// The answer begins, and says whether the application failed: what comes after it is not slow, but long.
    pub(crate) fn note_answered(&mut self, failed: bool) {
        let answered_ms = self.began.elapsed().as_millis() as u64;
        self.answered_ms = Some(answered_ms);
        if let Some(place) = &self.place {
            place.note_answered(PassHead { answered_ms, failed });
        }
    }

    /// Leaves its end to whoever is told its id; `None` if it has no place. Nobody extends it from now on.
    pub(crate) fn hand_over(self) -> Option<TaskId> {
        self.place.and_then(Place::hand_over)
    }

    /// Ends it; units really used, by unit.
    pub(crate) fn finish(self, outcome: Outcome, usage: Vec<(String, u64)>) {
        if let Some(place) = self.place {
            place.give_back(outcome, usage, self.answered_ms);
        }
    }
}

/// Decides about a request that is not to be queued.
pub(crate) async fn pass(
    gateway: &Gateway,
    identity: &Identity,
    proof: &mut Unspent,
    request_id: &RequestId,
    entry: Entry,
) -> Result<Pass, Refused> {
    let scope = identity.scope();
    let class = entry.class.clone();
    let answer = async {
        // Steps 2 and 3: who was refused a moment ago is told so again.
        let (memory, policy) = (gateway.refusal_memory(), scope.policy());
        let full = if entry.throttled { rate_limit::recall(memory, identity, policy.stamp()) } else { None };
        let recalled = full.or_else(|| backpressure::recall(memory, identity, &class, policy.stamp()));
        super::repeat(identity, recalled, &policy, || scope.is_abreast())?;
        // Step 4: while Redis does not answer, nobody is made to wait for it.
        circuit_breaker::consult(gateway)?;
        let decided = proof.decide(gateway, identity, question(identity, request_id, entry)).await?;
        conclude(gateway, identity, &class, decided)
    };
    let answer = answer.await;
    let outcome = proof.spend_for(gateway, identity, answer).await;
    match &outcome {
        Ok(_) => super::count_as(identity, "passed"),
        Err(refused) => super::count_refused(identity, refused),
    }
    outcome
}

fn question(identity: &Identity, request_id: &RequestId, entry: Entry) -> Question {
    let request = AdmitRequest {
        // How long the lease is, and the estimates, are settled when it is known under which policy.
        pass: Some(PassTerms { lease_ms: u64::from(entry.in_flight), throttled: entry.throttled, hits: entry.hits }),
        ..asked_by(
            identity,
            request_id,
            entry.class.to_string(),
            entry.trace,
            Origin { method: entry.method.as_deref(), route: entry.route },
        )
    };
    let lease_ms = entry.lease.map(|lease| lease.as_millis() as u64);
    Question { request, wish: Wish { estimates: entry.estimates, lease_ms, ..Wish::default() } }
}

fn conclude(gateway: &Gateway, identity: &Identity, class: &str, decided: Decided) -> Result<Pass, Refused> {
    let Decided { policy, cost, asked_at, place, outcome } = decided;
    let Decision { verdict, limits, .. } =
        outcome.map_err(|refused| Refused { policy: Some(policy.clone()), ..refused })?;
    let memory = gateway.refusal_memory();
    match verdict {
        Verdict::Passed { .. } => {
            memory.admitted(subject(identity, class), asked_at);
            Ok(Pass { place, began: Instant::now(), answered_ms: None, limits, policy })
        }
        Verdict::Refused(refusal) => {
            let limits: Arc<[LimitState]> = limits.into();
            let stamp = policy.stamp();
            let retry_after_ms = memory.remember(subject(identity, class), cost, &refusal, &limits, stamp, asked_at);
            Err(refused(Refusal { retry_after_ms, ..refusal }, limits.into(), policy))
        }
        Verdict::Admitted { .. } | Verdict::Replayed { .. } => {
            let error = StoreError::Protocol("a pass was answered as a task".to_owned());
            Err(circuit_breaker::unavailable(&error))
        }
    }
}
