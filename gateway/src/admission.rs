//! Admission: the six steps, in their order.
//!
//! Responsible for that order and for putting one request's question together. Must never check what the script checks:
//! between a check here and an act there the truth would change. What is done here beside asking is repeating an answer
//! that still stands (steps 2 and 3) and not asking a Redis that does not answer (step 4).

pub(crate) mod session;
mod rate_limit;
mod backpressure;
mod circuit_breaker;
mod economics;
pub(crate) mod enqueue;

use std::future::Future;
use std::sync::Arc;

use portcullis_lua::{AdmitRequest, Decision, LimitState, Refusal, Step, StoreError, TaskId, Verdict};

use crate::metric;
use crate::refusal::{Cause, Refused};
use crate::refusal_memory::Recalled;
use crate::state::Gateway;

use enqueue::Submission;
use session::Identity;

/// A request that got through all six steps.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The task it became, or had become before.
    pub(crate) task_id: TaskId,
    /// Whether this is the repetition of an earlier request.
    pub(crate) replayed: bool,
    /// Estimated time until a processor takes it, ms; unknown for a repetition.
    pub(crate) estimated_wait_ms: Option<u64>,
    /// Queued and running in the scope.
    pub(crate) depth: u64,
    /// Depth the live processors stand for.
    pub(crate) capacity: u64,
    /// The caller's limits after this decision.
    pub(crate) limits: Arc<[LimitState]>,
}

/// Takes a request through the steps. `submission` is the request's body being read: a caller refused from memory
/// is refused before its body is looked at.
pub(crate) async fn admit(
    gateway: &Gateway,
    identity: &Identity,
    request_id: &str,
    submission: impl Future<Output = Result<Submission, Refused>>,
) -> Result<Admission, Refused> {
    // Step 1, the session, was taken before: there is no identity without it.
    let revision = gateway.revision();
    let answer = async {
        // Step 2: a session whose window was full a moment ago is told so again.
        rate_limit::recall(gateway, identity, revision)?;
        // Step 3: so is a user type that was over its threshold.
        backpressure::recall(gateway, identity, revision)?;
        // Step 4: while Redis does not answer, nobody is made to wait for it.
        circuit_breaker::consult(gateway)?;
        // Steps 5 and 6: what to reserve and what to enqueue stand in the body.
        let question = question(identity, request_id, submission.await?);
        // Steps 2 to 6, decided together.
        gateway.admissions().decide(question).await.map_err(|error| circuit_breaker::unavailable(&error))
    };
    let outcome = answer.await.and_then(|decision| conclude(gateway, identity, revision, decision));
    count(gateway, identity, &outcome);
    outcome
}

/// The caller's limits and budgets as they stand; consumes nothing.
pub(crate) async fn peek(gateway: &Gateway, identity: &Identity, request_id: &str) -> Result<Decision, Refused> {
    circuit_breaker::consult(gateway)?;
    let (policy, question) = (gateway.compiled_policy(), [question(identity, request_id, Submission::nominal())]);
    let mut decisions = ask(gateway, gateway.scope_store().peek(&policy, &question)).await?;
    let nothing = || StoreError::Protocol("no decision for one request".to_owned());
    decisions.pop().ok_or_else(|| circuit_breaker::unavailable(&nothing()))
}

/// Runs a command that belongs to no decision, such as reading a task; refuses as step 4 does when Redis is down.
pub(crate) fn ask<'a, T: 'a>(
    gateway: &'a Gateway,
    command: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> impl Future<Output = Result<T, Refused>> + Send + 'a {
    let answer = gateway.store_breaker().call(command);
    async move { answer.await.map_err(|error| circuit_breaker::unavailable(&error)) }
}

fn question(identity: &Identity, request_id: &str, submission: Submission) -> AdmitRequest {
    AdmitRequest {
        task_id: TaskId::generate(),
        user_type: identity.user_type().clone(),
        session_id: identity.session_id().to_owned(),
        principal: identity.principal().to_owned(),
        actor: identity.actor().map(str::to_owned),
        kind: submission.kind,
        cost: 1,
        deadline_ms: submission.deadline_ms,
        delay_ms: submission.delay_ms,
        max_attempts: submission.max_attempts,
        idempotency: submission.idempotency,
        estimates: submission.estimates,
        request_id: request_id.to_owned(),
        traceparent: submission.traceparent,
        content_type: enqueue::PAYLOAD_CONTENT_TYPE.to_owned(),
        payload: submission.payload,
    }
}

/// What the script's decision means for the caller, and for the next one of its kind.
fn conclude(gateway: &Gateway, identity: &Identity, revision: u64, decision: Decision) -> Result<Admission, Refused> {
    let limits: Arc<[LimitState]> = decision.limits.into();
    let (task_id, replayed, estimated_wait_ms) = match decision.verdict {
        Verdict::Admitted { task_id, estimated_wait_ms } => (task_id, false, Some(estimated_wait_ms)),
        Verdict::Replayed { task_id } => (task_id, true, None),
        Verdict::Refused(refusal) => {
            let memory = gateway.refusal_memory();
            memory.remember(identity.session_id(), identity.user_type(), &refusal, &limits, revision);
            return Err(refused(refusal, limits));
        }
    };
    Ok(Admission { task_id, replayed, estimated_wait_ms, depth: decision.depth, capacity: decision.capacity, limits })
}

/// A decision repeated from memory.
fn recalled(identity: &Identity, recalled: Recalled) -> Refused {
    metric::local_refusal(recalled.refusal.reason.code(), identity.user_type());
    refused(recalled.refusal, recalled.limits)
}

/// A refusal of the script in the words of the step it came from.
fn refused(refusal: Refusal, limits: Arc<[LimitState]>) -> Refused {
    let (title, detail) = match refusal.reason.step() {
        // The script knows no session step: whoever asks it has been through here.
        Step::Session | Step::RateLimit => rate_limit::words(refusal.reason),
        Step::Backpressure => backpressure::words(refusal.reason),
        Step::CircuitBreaker => circuit_breaker::WORDS,
        Step::Economics => economics::WORDS,
        Step::Enqueue => enqueue::WORDS,
    };
    Refused {
        retry_after_ms: refusal.retry_after_ms,
        name: refusal.name,
        limits,
        ..Refused::new(Cause::Decided(refusal.reason), title, detail)
    }
}

fn count(gateway: &Gateway, identity: &Identity, outcome: &Result<Admission, Refused>) {
    let (outcome, step, code) = match outcome {
        Ok(admission) if admission.replayed => ("replayed", "", ""),
        Ok(_) => ("admitted", "", ""),
        Err(refused) => ("refused", refused.cause.step().map_or("", Step::as_str), refused.cause.code()),
    };
    metric::decision(outcome, step, code, identity.user_type());
    gateway.tally().count(if code.is_empty() { outcome } else { code }, identity.user_type());
}
