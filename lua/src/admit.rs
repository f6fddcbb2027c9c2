//! `admit.lua`: decides a batch of requests and does what follows, in one round trip.
//!
//! KEYS, ARGV and the packed reply are documented in the script's header; this file writes and reads them and nothing
//! else. Must never decide: what it adds to a request are the policy's numbers, not a judgement.

use crate::decision::{AdmitRequest, BudgetState, Decision, Reason, Refusal, Verdict};
use crate::error::StoreError;
use crate::pack::{Unpacker, text};
use crate::policy::CompiledPolicy;
use crate::question::Question;
use crate::reply::Reply;
use crate::script::ADMIT;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::task::{TASK_ID_BYTES, TaskId};

mod body;
mod pass;
mod call;

use call::Call;

/// Most requests in one call: keeps the script well under a millisecond. Fewer are sent where many named limits apply
/// to each.
pub const ADMIT_BATCH: usize = 32;

const ADMIT_MODE: &str = "admit";

const ADMITTED: u8 = 0;
const REPLAYED: u8 = 255;

impl ScopeStore {
    /// Decides the requests (at most [`ADMIT_BATCH`]) in order; the admitted are enqueued when this returns.
    pub async fn admit(&self, policy: &CompiledPolicy, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        self.decide(ADMIT_MODE, policy, requests).await
    }

    /// What [`admit`](Self::admit) would answer now. Consumes nothing, writes nothing, records nothing.
    pub async fn peek(&self, policy: &CompiledPolicy, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        self.decide("peek", policy, requests).await
    }

    async fn decide(
        &self,
        mode: &'static str,
        policy: &CompiledPolicy,
        requests: &[AdmitRequest],
    ) -> Result<Vec<Decision>, StoreError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        if requests.len() > ADMIT_BATCH {
            return Err(StoreError::Protocol(format!("{} requests in one batch", requests.len())));
        }
        let questions: Vec<Question<'_>> =
            requests.iter().map(|request| Question::new(policy, request)).collect::<Result<_, _>>()?;
        let call = || Call::new(self, mode, policy, &questions).map(|call| (call.keys, call.args));
        let answer = ADMIT.call_again(&self.store, call).await;
        let mut reply = Reply::new("admit", answer.map_err(|error| stale(error, policy.stamp(), self.revocations))?)?;
        let (mut outcomes, mut states) = (Unpacker::new(reply.bytes()?), Unpacker::new(reply.bytes()?));
        let (taken, measured) = (mode == ADMIT_MODE, reply.int()? != 0);
        let decisions =
            questions.iter().map(|question| decision(&mut outcomes, &mut states, question, taken, measured));
        let decisions = decisions.collect::<Result<_, _>>()?;
        if outcomes.is_empty() && states.is_empty() {
            return Ok(decisions);
        }
        Err(StoreError::Protocol(format!("admit answered more than {} requests", requests.len())))
    }
}

/// The next decision of the script's reply; `taken`: what was admitted has what it needs; `measured`: so is the service
/// time.
fn decision(
    outcomes: &mut Unpacker,
    states: &mut Unpacker,
    question: &Question<'_>,
    taken: bool,
    measured: bool,
) -> Result<Decision, StoreError> {
    let (code, which) = (outcomes.u8()?, usize::from(outcomes.u8()?));
    let (retry_after_ms, depth, capacity) = (outcomes.count()?, outcomes.count()?, outcomes.count()?);
    let pressed = Reason::from_code(code).is_some_and(Reason::is_shared_pressure);
    let pressure_ms = if pressed { states.count()? } else { 0 };
    let wait_ms = states.count()?;
    let mut limits = Vec::with_capacity(question.class.windows.len() + question.uses.len());
    for window in question.windows() {
        let (held, reset_ms) = (states.f64()?, states.f64()?);
        limits.push(window.state(held, reset_ms));
    }
    let mut budgets = Vec::with_capacity(question.draws.len());
    for draw in &question.draws {
        budgets.push(BudgetState {
            name: draw.name.to_owned(),
            unit: draw.budget.unit.clone(),
            amount: draw.budget.amount,
            spent: states.count()?,
            held: states.count()?,
            reset_ms: states.count()?,
        });
    }
    let verdict = match (code, question.request.pass) {
        (ADMITTED, Some(terms)) => Verdict::Passed { lease: pass::lease(question, terms).filter(|_| taken) },
        (ADMITTED, None) => {
            let assumed = !measured && wait_ms > question.request.delay_ms;
            Verdict::Admitted { task_id: question.request.task_id.clone(), estimated_wait_ms: wait_ms, assumed }
        }
        (REPLAYED, _) => Verdict::Replayed { task_id: TaskId::from_store(text(&outcomes.take(TASK_ID_BYTES)?)?) },
        (code, _) => {
            let reason = Reason::from_code(code)
                .ok_or_else(|| StoreError::Protocol(format!("admit returned the code {code}")))?;
            let name = match reason {
                Reason::BurstLimit | Reason::HourlyLimit | Reason::RateLimit => {
                    limits.get(which.wrapping_sub(1)).map(|limit| limit.name.clone())
                }
                Reason::BudgetExhausted => budgets.get(which.wrapping_sub(1)).map(|budget| budget.name.clone()),
                _ => None,
            };
            let assumed = !measured && waits_for_service(reason, question.request);
            Verdict::Refused(Refusal { reason, name, retry_after_ms, pressure_ms, backlog_ms: wait_ms, assumed })
        }
    };
    Ok(Decision { verdict, depth, capacity, limits, budgets })
}

/// Whether the wait of who is refused for this reason is a number of service times.
fn waits_for_service(reason: Reason, request: &AdmitRequest) -> bool {
    match reason {
        Reason::HardLimit | Reason::PressureThreshold => request.pass.is_none(),
        // A delayed task may have found too many of its kind.
        Reason::QueueFull => request.pass.is_none() && request.delay_ms == 0,
        _ => false,
    }
}

impl ScopeStore {
    /// What a script answered that acts only by the revocations that are stored.
    pub(crate) fn by_what_is_known(
        &self,
        answer: Result<fred::types::Value, StoreError>,
    ) -> Result<fred::types::Value, StoreError> {
        answer.map_err(|error| stale(error, PolicyStamp::NONE, self.revocations))
    }
}

/// The script's refusal of another policy than the stored one, or of other revocations, as its own error.
fn stale(error: StoreError, held: PolicyStamp, revocations: u64) -> StoreError {
    let StoreError::Protocol(details) = &error else { return error };
    let number = |word: &str| -> Option<u64> {
        let (_, current) = details.split_once(word)?;
        current.split_whitespace().next()?.parse().ok()
    };
    if let Some(current) = number("STALEPOLICY ") {
        return StoreError::StalePolicy { held, current: PolicyStamp::from_u64(current) };
    }
    match number("STALEREVOCATIONS ") {
        Some(current) => StoreError::StaleRevocations { held: revocations, current },
        None => error,
    }
}
