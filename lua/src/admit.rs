//! `admit.lua`: decides a batch of requests and does what follows, in one round trip.
//!
//! KEYS, ARGV and the packed reply are documented in the script's header; this file writes and reads them and nothing
//! else. Must never decide: what it adds to a request are the policy's numbers, not a judgement.

use bytes::Bytes;

use crate::decision::{AdmitRequest, BudgetState, Decision, Reason, Refusal, Verdict};
use crate::error::StoreError;
use crate::pack::{Unpacker, text};
use crate::policy::CompiledPolicy;
use crate::question::Question;
use crate::reply::Reply;
use crate::script::ADMIT;
use crate::stamp::PolicyStamp;
use crate::store::ScopeStore;
use crate::task::TaskId;

mod call;

use call::Call;

/// Most requests in one call: keeps the script well under a millisecond. Fewer are sent where many named limits apply
/// to each.
pub const ADMIT_BATCH: usize = 32;

const ADMITTED: u8 = 0;
const REPLAYED: u8 = 255;

impl ScopeStore {
    /// Decides the requests (at most [`ADMIT_BATCH`]) in order; the admitted are enqueued when this returns.
    pub async fn admit(&self, policy: &CompiledPolicy, requests: &[AdmitRequest]) -> Result<Vec<Decision>, StoreError> {
        self.decide("admit", policy, requests).await
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
        let call = Call::new(self, mode, policy, &questions)?;
        let answer = ADMIT.call(&self.store, call.keys, call.args).await;
        let mut reply = Reply::new("admit", answer.map_err(|error| stale(error, policy.stamp()))?)?;
        if reply.len() != requests.len() {
            return Err(StoreError::Protocol(format!("admit answered {} of {}", reply.len(), requests.len())));
        }
        questions.iter().map(|question| decision(reply.bytes()?, question)).collect()
    }
}

fn decision(packed: Bytes, question: &Question<'_>) -> Result<Decision, StoreError> {
    let mut reply = Unpacker::new(packed);
    let (code, which) = (reply.u8()?, usize::from(reply.u8()?));
    let (retry_after_ms, depth, capacity) = (reply.count()?, reply.count()?, reply.count()?);
    let estimated_wait_ms = reply.count()?;
    let mut limits = Vec::with_capacity(question.class.windows.len() + question.uses.len());
    for window in question.windows() {
        let (held, reset_ms) = (reply.f64()?, reply.f64()?);
        limits.push(window.state(held, reset_ms));
    }
    let mut budgets = Vec::with_capacity(question.draws.len());
    for draw in &question.draws {
        budgets.push(BudgetState {
            name: draw.name.to_owned(),
            unit: draw.budget.unit.clone(),
            amount: draw.budget.amount,
            spent: reply.count()?,
            held: reply.count()?,
            reset_ms: reply.count()?,
        });
    }
    let verdict = match code {
        ADMITTED => Verdict::Admitted { task_id: question.request.task_id.clone(), estimated_wait_ms },
        REPLAYED => Verdict::Replayed { task_id: TaskId::from_store(text(&reply.take(26)?)?) },
        code => {
            let reason = Reason::from_code(code)
                .ok_or_else(|| StoreError::Protocol(format!("admit returned the code {code}")))?;
            let name = match reason {
                Reason::BurstLimit | Reason::HourlyLimit | Reason::RateLimit => {
                    limits.get(which.wrapping_sub(1)).map(|limit| limit.name.clone())
                }
                Reason::BudgetExhausted => budgets.get(which.wrapping_sub(1)).map(|budget| budget.name.clone()),
                _ => None,
            };
            Verdict::Refused(Refusal { reason, name, retry_after_ms })
        }
    };
    Ok(Decision { verdict, depth, capacity, limits, budgets })
}

/// The script's refusal of another policy than the stored one, as its own error.
fn stale(error: StoreError, held: PolicyStamp) -> StoreError {
    match &error {
        StoreError::Protocol(details) => details
            .split_once("STALEPOLICY ")
            .and_then(|(_, current)| current.split_whitespace().next()?.parse().ok())
            .map(PolicyStamp::from_u64)
            .map_or(error.clone(), |current| StoreError::StalePolicy { held, current }),
        _ => error,
    }
}
