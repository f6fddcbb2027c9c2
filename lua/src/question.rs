//! One request for admission and what of the policy applies to it: windows, named limits, budgets, breaker.
//!
//! Responsible for reading the policy once per request, so that arguments, reply and event of a request are about the
//! same limits in the same order. Must never decide.

use bytes::Bytes;
use portcullis_config::policy::Budget;

use crate::decision::AdmitRequest;
use crate::error::StoreError;
use crate::pack::Packer;
use crate::policy::{Class, CompiledPolicy, Use, Window, period_number};
use crate::task::{Envelope, Hold};

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
    pub(crate) subject: &'a str,
    estimate: u64,
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

    /// Its packed numbers, as the header of `admit.lua` says.
    pub(crate) fn head(&self, class_number: u8) -> Bytes {
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

    /// What its task carries along.
    pub(crate) fn envelope(&self) -> Envelope {
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
