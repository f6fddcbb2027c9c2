//! The arguments of one call of `admit.lua`, in the order of its header.
//!
//! Responsible for what applies to each request under the policy. Must never write two requests in two ways: the reply
//! is read by the same [`Question`]s.

use fred::types::{Key, Value};
use portcullis_config::policy::Budget;

use crate::decision::AdmitRequest;
use crate::decision_log::about;
use crate::error::StoreError;
use crate::pack::Packer;
use crate::policy::{Class, CompiledPolicy, Use, Window, period_number};
use crate::store::ScopeStore;
use crate::task::{Envelope, Hold, encode_body};

/// A request and what of the policy applies to it.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    pub(crate) request: &'a AdmitRequest,
    pub(crate) class: &'a Class,
    /// Of named limits.
    pub(crate) uses: Vec<Use<'a>>,
    /// On budgets.
    pub(crate) draws: Vec<Draw<'a>>,
    half_open_probes: u16,
}

/// What a request draws on a budget.
#[derive(Debug)]
pub(crate) struct Draw<'a> {
    pub(crate) name: &'a str,
    pub(crate) budget: &'a Budget,
    subject: &'a str,
    estimate: u64,
}

impl<'a> Question<'a> {
    pub(super) fn new(policy: &'a CompiledPolicy, request: &'a AdmitRequest) -> Result<Self, StoreError> {
        let class = policy
            .classes
            .get(&request.user_type)
            .ok_or_else(|| StoreError::Protocol(format!("the policy does not know {}", request.user_type)))?;
        let draw = |(name, budget): &'a (String, Budget)| {
            let subject = request.subject(budget.per)?;
            Some(Draw { name, budget, subject, estimate: request.units(&budget.unit, budget.default_estimate) })
        };
        Ok(Self {
            request,
            class,
            uses: class.limits.iter().filter_map(|limit| limit.used_by(request)).collect(),
            draws: class.budgets.iter().filter_map(draw).collect(),
            half_open_probes: policy.breaker_of(&request.kind).half_open_probes,
        })
    }

    /// The session's windows and the named limits', in the order of the reply.
    pub(crate) fn windows(&self) -> impl Iterator<Item = &'a Window> {
        self.class.windows.iter().chain(self.uses.iter().map(|used| &used.limit.window))
    }

    fn head(&self, class_number: u8) -> bytes::Bytes {
        let request = self.request;
        let mut head = Packer::with_capacity(35 + 9 * self.uses.len() + 17 * self.draws.len());
        head.u8(class_number)
            .u32(request.cost.max(1))
            .u8(u8::from(request.idempotency.is_some()))
            .f64(request.deadline_ms.unwrap_or(0) as f64)
            .f64(request.delay_ms as f64)
            .u16(request.max_attempts.clamp(1, u32::from(u16::MAX)) as u16)
            .u16(self.half_open_probes)
            .u8(self.uses.len() as u8)
            .u8(self.draws.len() as u8);
        for used in &self.uses {
            head.u8(used.limit.number).f64(used.units as f64);
        }
        for draw in &self.draws {
            head.u8(period_number(draw.budget.period)).f64(draw.budget.amount as f64).f64(draw.estimate as f64);
        }
        head.finish()
    }

    fn envelope(&self) -> Envelope {
        let request = self.request;
        let hold = |draw: &Draw<'_>| Hold {
            budget: draw.name.to_owned(),
            subject: draw.subject.to_owned(),
            unit: draw.budget.unit.clone(),
            amount: draw.estimate,
        };
        Envelope {
            kind: request.kind.clone(),
            user_type: request.user_type.clone(),
            session_id: request.session_id.clone(),
            principal: request.principal.clone(),
            actor: request.actor.clone(),
            request_id: request.request_id.clone(),
            traceparent: request.traceparent.clone(),
            content_type: request.content_type.clone(),
            holds: self.draws.iter().map(hold).collect(),
        }
    }
}

/// The arguments of one call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) keys: Vec<Key>,
    pub(super) args: Vec<Value>,
}

impl Call {
    pub(super) fn new(
        store: &ScopeStore,
        mode: &'static str,
        policy: &CompiledPolicy,
        questions: &[Question<'_>],
    ) -> Result<Self, StoreError> {
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
            policy.named_limits.clone().into(),
        ];
        let mut call = Self { keys, args };
        let numbers = call.classes(questions);
        for (question, number) in questions.iter().zip(numbers) {
            call.question(store, question, number)?;
        }
        Ok(call)
    }

    /// Lists each class once; its number, from 1, for each request.
    fn classes<'a>(&mut self, questions: &[Question<'a>]) -> Vec<u8> {
        let mut listed: Vec<&'a Class> = Vec::new();
        let number_of = |question: &Question<'a>| {
            let place = listed.iter().position(|class| class.number == question.class.number);
            place.unwrap_or_else(|| {
                listed.push(question.class);
                listed.len() - 1
            }) as u8
                + 1
        };
        let numbers = questions.iter().map(number_of).collect();
        self.args.push(listed.len().to_string().into());
        for class in listed {
            self.args.push(class.number.to_string().into());
            self.args.push(class.lasts_ms.to_string().into());
            self.args.push(class.packed.clone().into());
        }
        numbers
    }

    fn question(&mut self, store: &ScopeStore, question: &Question<'_>, class_number: u8) -> Result<(), StoreError> {
        let (keys, request) = (&store.keys, question.request);
        let idempotency = request.idempotency.as_ref();
        let limit_key = keys.limit(&request.session_id);
        self.keys.push(limit_key.clone());
        self.keys.push(keys.breaker(&request.kind));
        self.keys.push(idempotency.map_or(limit_key, |key| keys.idempotency(&key.key_hash)));
        self.keys.extend(question.uses.iter().map(|used| keys.named_limit(&used.limit.window.name, used.subject)));
        self.keys.extend(question.draws.iter().map(|draw| keys.budget(draw.name, draw.subject)));
        let envelope = question.envelope();
        self.args.push(question.head(class_number).into());
        self.args.push(request.task_id.as_str().into());
        self.args.push(idempotency.map_or("", |key| key.body_hash.as_str()).into());
        self.args.push(about(question, &envelope).into());
        self.args.push(encode_body(&envelope, &request.payload)?.into());
        Ok(())
    }
}
