//! Admission: the six steps, in their order.
//!
//! Responsible for that order and for putting one request's question together. Must never check what the script checks:
//! between a check here and an act there the truth would change. What is done here beside asking is repeating an answer
//! that still stands (steps 2 and 3) and not asking a Redis that does not answer (step 4).

pub(crate) mod session;
mod rate_limit;
mod backpressure;
pub(crate) mod circuit_breaker;
pub(crate) mod economics;
pub(crate) mod enqueue;
pub(crate) mod pass;
pub(crate) mod classed;
pub(crate) mod writes;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use portcullis_lua::{AdmitRequest, Decision, LimitState, Provenance, Refusal, Step, StoreError, TaskId, Verdict};

use crate::decider::{Decided, Mode, Question, Wish};
use crate::degraded::Fallback;
use crate::metric;
use crate::policy_in_force::PolicyInForce;
use crate::refusal::{Cause, Limits, Refused};
use crate::refusal_memory::{Recalled, RefusalMemory, Subject};
use crate::respond::RequestId;
use crate::state::Gateway;
use crate::trace_context::TraceContext;

use enqueue::Submission;
use session::{Identity, Unspent};

/// A request that got through all six steps.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The task it became, or had become before.
    pub(crate) task_id: TaskId,
    /// Whether this is the repetition of an earlier request.
    pub(crate) replayed: bool,
    /// Estimated time until a processor takes it, ms; unknown for a repetition.
    pub(crate) estimated_wait_ms: Option<u64>,
    /// What that estimate rests on instead of what was measured.
    pub(crate) degraded: Option<Fallback>,
    /// Queued and running in the scope.
    pub(crate) depth: u64,
    /// Depth the live processors stand for.
    pub(crate) capacity: u64,
    /// The caller's limits after this decision.
    pub(crate) limits: Vec<LimitState>,
    /// The policy it was decided under.
    pub(crate) policy: Arc<PolicyInForce>,
}

/// Takes a request through the steps. `submission` is the request's body being read: a caller refused from memory
/// is refused before its body is looked at.
pub(crate) async fn admit(
    gateway: &Gateway,
    identity: &Identity,
    proof: &mut Unspent,
    request_id: &RequestId,
    submission: impl Future<Output = Result<Submission, Refused>>,
) -> Result<Admission, Refused> {
    // Step 1, the session, was taken before: there is no identity without it. Its last part is the script's: a proof is
    // spent with the decision, or after this gateway has found one by itself.
    let scope = identity.scope();
    let answer = async {
        // Steps 2 and 3: who was refused a moment ago is told so again.
        recall(gateway.refusal_memory(), identity, &scope.policy(), || scope.is_abreast())?;
        // Step 4: while Redis does not answer, nobody is made to wait for it.
        circuit_breaker::consult(gateway)?;
        // Steps 5 and 6: what to reserve and what to enqueue stand in the body.
        let question = question(identity, request_id, submission.await?);
        // Steps 2 to 6, decided together.
        conclude(gateway, identity, proof.decide(gateway, identity, question).await?)
    };
    let answer = answer.await;
    let outcome = proof.spend_for(gateway, identity, answer).await;
    count(identity, &outcome);
    outcome
}

/// Repeats the refusal of a caller who would be refused again under the policy in force. A gateway that may have missed
/// a change of that policy has to ask: after an update nobody is refused under what was before it.
fn recall(
    memory: &RefusalMemory,
    identity: &Identity,
    policy: &Arc<PolicyInForce>,
    abreast: impl Fn() -> bool,
) -> Result<(), Refused> {
    // Step 2: a session whose window was full. Step 3: a user type that was over its threshold.
    let recalled = rate_limit::recall(memory, identity, policy.stamp())
        .or_else(|| backpressure::recall(memory, identity, "", policy.stamp()));
    repeat(identity, recalled, policy, abreast)
}

/// Repeats what was recalled, if there is anything and nothing can have been missed.
fn repeat(
    identity: &Identity,
    recalled: Option<Recalled>,
    policy: &Arc<PolicyInForce>,
    abreast: impl Fn() -> bool,
) -> Result<(), Refused> {
    let Some(Recalled { refusal, limits }) = recalled.filter(|_| abreast()) else { return Ok(()) };
    metric::local_refusal(refusal.reason.code(), identity.user_type());
    Err(refused(refusal, limits, policy.clone()))
}

/// The caller's limits and budgets as they stand, those of tasks of this kind or of any, and the policy that says so;
/// consumes nothing.
pub(crate) async fn peek(
    gateway: &Gateway,
    identity: &Identity,
    request_id: &RequestId,
    kind: Option<String>,
) -> Result<(Decision, Arc<PolicyInForce>), Refused> {
    circuit_breaker::consult(gateway)?;
    let nominal = Submission::nominal();
    let submission = Submission { kind: kind.unwrap_or_else(|| nominal.kind.clone()), ..nominal };
    let question = question(identity, request_id, submission);
    // The future of a call is large, and every request for anything would carry it.
    let answer = Box::pin(identity.scope().decider().ask(vec![question], Mode::Peek)).await;
    let nothing = || StoreError::Protocol("no decision for one request".to_owned());
    let decided = answer.and_then(|mut decided| decided.pop().ok_or_else(nothing));
    let Decided { policy, outcome, .. } = decided.map_err(|error| circuit_breaker::unavailable(&error))?;
    match outcome {
        Ok(decision) => Ok((decision, policy)),
        Err(refused) => Err(Refused { policy: Some(policy), ..refused }),
    }
}

/// Runs a command that belongs to no decision, such as reading a task; refuses as step 4 does when Redis is down.
pub(crate) fn ask<'a, T: 'a>(
    gateway: &'a Gateway,
    command: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> impl Future<Output = Result<T, Refused>> + Send + 'a {
    let answer = gateway.store_breaker().call(command);
    async move { answer.await.map_err(|error| circuit_breaker::unavailable(&error)) }
}

fn question(identity: &Identity, request_id: &RequestId, submission: Submission) -> Question {
    let request = AdmitRequest {
        deadline_ms: submission.deadline_ms,
        delay_ms: submission.delay_ms,
        idempotency: submission.idempotency,
        estimates: submission.estimates,
        content_type: enqueue::PAYLOAD_CONTENT_TYPE.to_owned(),
        payload: submission.payload,
        ..asked_by(identity, request_id, submission.kind, submission.trace, SUBMISSION)
    };
    Question { request, wish: Wish { max_attempts: submission.max_attempts, ..Wish::default() } }
}

/// The request that every submission is.
const SUBMISSION: Origin<'_> = Origin { method: Some("POST"), route: "/v1/tasks" };

/// Which request a decision is about, as its event says it.
#[derive(Clone, Copy)]
struct Origin<'a> {
    method: Option<&'a str>,
    route: &'static str,
}

/// What every question says: who asks, for what kind of work, in which trace, and by which request.
fn asked_by(
    identity: &Identity,
    request_id: &RequestId,
    kind: String,
    trace: Option<TraceContext>,
    origin: Origin<'_>,
) -> AdmitRequest {
    let trace = trace.map(|trace| (trace.traceparent, trace.tracestate));
    let (traceparent, tracestate) = trace.map_or((None, None), |(parent, state)| (Some(parent), state));
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: identity.user_type().clone(),
        session_id: identity.session_id().to_owned(),
        principal: identity.principal().to_owned(),
        actor: identity.actor().map(str::to_owned),
        client_address: Some(identity.client_address().to_owned()),
        kind,
        pass: None,
        // This and the attempts are settled when it is known under which policy.
        cost: 1,
        deadline_ms: None,
        delay_ms: 0,
        max_attempts: 1,
        idempotency: None,
        estimates: Vec::new(),
        provenance: Provenance {
            method: origin.method.map(str::to_owned),
            route: origin.route,
            received: Some(request_id.received()),
            ..identity.provenance()
        },
        request_id: request_id.as_str().to_owned(),
        traceparent,
        tracestate,
        content_type: String::new(),
        payload: Bytes::new(),
    }
}

/// What a decision means for the caller, and for the next one of its kind.
fn conclude(gateway: &Gateway, identity: &Identity, decided: Decided) -> Result<Admission, Refused> {
    let Decided { policy, cost, asked_at, outcome, .. } = decided;
    let Decision { verdict, depth, capacity, limits, .. } =
        outcome.map_err(|refused| Refused { policy: Some(policy.clone()), ..refused })?;
    let (task_id, replayed, estimated_wait_ms, degraded) = match verdict {
        Verdict::Admitted { task_id, estimated_wait_ms, assumed } => {
            gateway.refusal_memory().admitted(subject(identity, ""), asked_at);
            (task_id, false, Some(estimated_wait_ms), assumption(assumed))
        }
        Verdict::Replayed { task_id } => (task_id, true, None, None),
        Verdict::Passed { .. } => {
            let error = StoreError::Protocol("a pass where a task was asked for".to_owned());
            return Err(circuit_breaker::unavailable(&error));
        }
        Verdict::Refused(refusal) => {
            let (stamp, limits): (_, Arc<[LimitState]>) = (policy.stamp(), limits.into());
            let memory = gateway.refusal_memory();
            let retry_after_ms = memory.remember(subject(identity, ""), cost, &refusal, &limits, stamp, asked_at);
            return Err(refused(Refusal { retry_after_ms, ..refusal }, limits.into(), policy));
        }
    };
    Ok(Admission { task_id, replayed, estimated_wait_ms, degraded, depth, capacity, limits, policy })
}

/// What a wait rests on that was not measured.
fn assumption(assumed: bool) -> Option<Fallback> {
    assumed.then_some(Fallback::ServiceTimeUnmeasured)
}

/// Whom a refusal is remembered of, in this route class; empty for tasks.
fn subject<'a>(identity: &'a Identity, class: &'a str) -> Subject<'a> {
    let (session_id, user_type) = (identity.session_id(), identity.user_type());
    Subject { scope: identity.scope().number(), session_id, user_type, class }
}

/// A refusal of the script in the words of the step it came from.
fn refused(refusal: Refusal, limits: Limits, policy: Arc<PolicyInForce>) -> Refused {
    let (title, detail) = match refusal.reason.step() {
        // The script's part of the session step, a used proof, is told of by who had it spent (`Unspent`).
        Step::Session | Step::RateLimit => rate_limit::words(refusal.reason),
        Step::Backpressure => backpressure::words(refusal.reason),
        Step::CircuitBreaker => circuit_breaker::WORDS,
        Step::Economics => economics::WORDS,
        Step::Enqueue => enqueue::WORDS,
    };
    Refused {
        retry_after_ms: refusal.retry_after_ms,
        name: refusal.name.map(String::into_boxed_str),
        limits: Limits { assumed: refusal.assumed, ..limits },
        policy: Some(policy),
        ..Refused::new(Cause::Decided(refusal.reason), title, detail)
    }
}

fn count(identity: &Identity, outcome: &Result<Admission, Refused>) {
    match outcome {
        Ok(admission) if admission.replayed => count_as(identity, "replayed"),
        Ok(_) => count_as(identity, "admitted"),
        Err(refused) => count_refused(identity, refused),
    }
}

fn count_as(identity: &Identity, outcome: &'static str) {
    metric::decision(outcome, "", "", identity.user_type());
    identity.scope().tally().count(outcome, identity.user_type(), true);
}

/// Counts a refusal of this caller, wherever it came from.
pub(crate) fn count_refused(identity: &Identity, refused: &Refused) {
    let (step, code) = (refused.cause.step().map_or("", Step::as_str), refused.cause.code());
    metric::decision("refused", step, code, identity.user_type());
    identity.scope().tally().count(code, identity.user_type(), refused.limits.recorded);
}

#[cfg(test)]
mod tests;
