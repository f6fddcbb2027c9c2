//! `admit.lua`: decides a batch of requests and does what follows, in one round trip.
//!
//! KEYS, ARGV and the packed reply are documented in the script's header; this file writes and reads them and nothing
//! else. Must never decide: what it adds to a request are the policy's numbers, not a judgement.

use bytes::Bytes;
use fred::types::{Key, Value};

use crate::decision::{AdmitRequest, BudgetState, Decision, Reason, Refusal, Verdict};
use crate::error::StoreError;
use crate::pack::{Packer, Unpacker, text};
use crate::policy::{Class, CompiledPolicy, period_number, subject_of};
use crate::reply::Reply;
use crate::script::ADMIT;
use crate::store::ScopeStore;
use crate::task::{Envelope, Hold, TaskId, encode_body};

/// Most requests in one call: keeps the script well under a millisecond.
pub const ADMIT_BATCH: usize = 32;

/// Where the number of classes stands in ARGV, from 0.
const CLASSES_ARG: usize = 5;
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
        let mut call = Call::new(self, mode, policy);
        let mut classes = Vec::with_capacity(requests.len());
        for request in requests {
            classes.push(call.class(policy, request)?);
        }
        call.close_classes();
        for (request, &(number, class)) in requests.iter().zip(&classes) {
            call.request(request, number, class)?;
        }
        let answer = ADMIT.call(&self.store, call.keys, call.args).await;
        let mut reply = Reply::new("admit", answer.map_err(|error| stale(error, policy.revision()))?)?;
        if reply.len() != requests.len() {
            return Err(StoreError::Protocol(format!("admit answered {} of {}", reply.len(), requests.len())));
        }
        requests.iter().zip(&classes).map(|(request, (_, class))| decision(reply.bytes()?, request, class)).collect()
    }
}

/// The arguments of one call, in the order of the script's header.
#[derive(Debug)]
struct Call<'a> {
    store: &'a ScopeStore,
    keys: Vec<Key>,
    args: Vec<Value>,
    classes: Vec<&'a str>,
}

impl<'a> Call<'a> {
    fn new(store: &'a ScopeStore, mode: &'static str, policy: &CompiledPolicy) -> Self {
        let k = &store.keys;
        let keys = vec![
            k.scope(),
            k.queue(),
            k.delayed(),
            k.lease(),
            k.task(),
            k.wake(),
            k.decision(),
            k.beat(),
            k.processor(),
        ];
        let args = vec![
            store.now_arg(),
            mode.into(),
            policy.admit_settings.clone().into(),
            policy.max_decision_batches.to_string().into(),
            policy.idempotency_ttl_ms.to_string().into(),
            Value::Null,
        ];
        Self { store, keys, args, classes: Vec::new() }
    }

    /// The number of the request's class in this call, adding it if it is new.
    fn class<'p: 'a>(
        &mut self,
        policy: &'p CompiledPolicy,
        request: &'a AdmitRequest,
    ) -> Result<(u8, &'p Class), StoreError> {
        let class = policy
            .classes
            .get(&request.user_type)
            .ok_or_else(|| StoreError::Protocol(format!("the policy does not know {}", request.user_type)))?;
        let name = request.user_type.as_str();
        let number = self.classes.iter().position(|known| *known == name).unwrap_or_else(|| {
            self.classes.push(name);
            self.args.push(class.number.to_string().into());
            self.args.push(class.lasts_ms.to_string().into());
            self.args.push(class.packed.clone().into());
            self.classes.len() - 1
        });
        Ok((number as u8 + 1, class))
    }

    fn close_classes(&mut self) {
        self.args[CLASSES_ARG] = self.classes.len().to_string().into();
    }

    fn request(&mut self, request: &AdmitRequest, number: u8, class: &Class) -> Result<(), StoreError> {
        let keys = &self.store.keys;
        let limit_key = keys.limit(&request.session_id);
        let idempotency = request.idempotency.as_ref();
        self.keys.push(limit_key.clone());
        self.keys.push(keys.breaker(&request.kind));
        self.keys.push(idempotency.map_or(limit_key, |key| keys.idempotency(&key.key_hash)));

        let mut head = Packer::with_capacity(32 + 17 * class.budgets.len());
        head.u8(number)
            .u32(request.cost.max(1))
            .u8(u8::from(idempotency.is_some()))
            .f64(request.deadline_ms.unwrap_or(0) as f64)
            .f64(request.delay_ms as f64)
            .u16(request.max_attempts.clamp(1, u32::from(u16::MAX)) as u16)
            .u8(class.budgets.len() as u8);
        let mut holds = Vec::with_capacity(class.budgets.len());
        for (name, budget) in &class.budgets {
            let estimate = estimate(request, &budget.unit, budget.default_estimate);
            let subject = subject_of(budget.per, &request.user_type, &request.principal, &request.session_id);
            head.u8(period_number(budget.period)).f64(budget.amount as f64).f64(estimate as f64);
            self.keys.push(keys.budget(name, subject));
            holds.push(Hold {
                budget: name.clone(),
                subject: subject.to_owned(),
                unit: budget.unit.clone(),
                amount: estimate,
            });
        }
        let envelope = Envelope {
            kind: request.kind.clone(),
            user_type: request.user_type.clone(),
            session_id: request.session_id.clone(),
            principal: request.principal.clone(),
            actor: request.actor.clone(),
            request_id: request.request_id.clone(),
            traceparent: request.traceparent.clone(),
            content_type: request.content_type.clone(),
            holds,
        };
        let about = crate::decision_log::about(&request.task_id, &envelope);
        self.args.push(head.finish().into());
        self.args.push(request.task_id.as_str().into());
        self.args.push(idempotency.map_or("", |key| key.body_hash.as_str()).into());
        self.args.push(about.into());
        self.args.push(encode_body(&envelope, &request.payload)?.into());
        Ok(())
    }
}

fn estimate(request: &AdmitRequest, unit: &str, default: u64) -> u64 {
    if unit == "requests" {
        return u64::from(request.cost.max(1));
    }
    request.estimates.iter().find(|(name, _)| name == unit).map_or(default, |&(_, amount)| amount)
}

fn decision(packed: Bytes, request: &AdmitRequest, class: &Class) -> Result<Decision, StoreError> {
    let mut reply = Unpacker::new(packed);
    let (code, which) = (reply.u8()?, usize::from(reply.u8()?));
    let (retry_after_ms, depth, capacity) = (reply.count()?, reply.count()?, reply.count()?);
    let estimated_wait_ms = reply.count()?;
    let mut limits = Vec::with_capacity(class.windows.len());
    for window in &class.windows {
        let (held, reset_ms) = (reply.f64()?, reply.f64()?);
        limits.push(window.state(held, reset_ms));
    }
    let mut budgets = Vec::with_capacity(class.budgets.len());
    for (name, budget) in &class.budgets {
        budgets.push(BudgetState {
            name: name.clone(),
            unit: budget.unit.clone(),
            amount: budget.amount,
            spent: reply.count()?,
            held: reply.count()?,
            reset_ms: reply.count()?,
        });
    }
    let verdict = match code {
        ADMITTED => Verdict::Admitted { task_id: request.task_id.clone(), estimated_wait_ms },
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

/// The script's refusal of an old policy revision, as its own error.
fn stale(error: StoreError, held: u64) -> StoreError {
    match &error {
        StoreError::Protocol(details) => details
            .split_once("STALEPOLICY ")
            .and_then(|(_, current)| current.split_whitespace().next()?.parse().ok())
            .map_or(error.clone(), |current| StoreError::StalePolicy { held, current }),
        _ => error,
    }
}
