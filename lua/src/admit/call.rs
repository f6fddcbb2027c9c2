//! The arguments of one call of `admit.lua`, in the order of its header.
//!
//! Responsible for their order and for saying what requests share once: Redis pays for every argument, whatever its
//! length. Must never decide what applies to a request: that is its [`Question`].

use std::collections::HashMap;

use bytes::Bytes;
use fred::types::{Key, Value};

use super::body::body;
use super::pass;
use crate::decision_log;
use crate::error::StoreError;
use crate::key::Keys;
use crate::pack::Packer;
use crate::policy::{Class, CompiledPolicy, SHAPE_BYTES, Window, period_number};
use crate::question::Question;
use crate::store::ScopeStore;

/// Keys before the scope's, from which keys are numbered.
const BEFORE: usize = 10;

/// The flag of a request that asks for a pass.
const PASS: u8 = 2;

/// The flag of one that shows what counts once.
const ONCE: u8 = 4;

/// Room for the head of a request without named limits and budgets, bytes.
const HEAD_BYTES: usize = 32;

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
        let mut args = Vec::with_capacity(16 + 2 * questions.len());
        let listed = ListedLimits::new(policy, questions);
        args.extend([
            store.now_arg(),
            mode.into(),
            settings(store, policy).into(),
            policy.max_decision_batches.to_string().into(),
            policy.idempotency_ttl_ms.to_string().into(),
            listed.packed.into(),
        ]);
        let classes = list_classes(&mut args, questions);
        let mut keys = Listed::new(store, questions.len());
        // In this order, so that a session's and a kind's key can be told from its number.
        let sessions = keys.number_each(questions, |question| store.keys.limit(&question.request.session_id))?;
        let kinds = keys.number_each(questions, |question| store.keys.breaker(&question.request.kind))?;
        let mut heads = Packer::with_capacity(64 + HEAD_BYTES * questions.len());
        heads.u8(questions.len() as u8).u8(sessions.count).u8(kinds.count);
        for first in &kinds.first {
            heads.u16(questions[*first].half_open_probes());
        }
        if questions.iter().any(|question| question.request.pass.is_some()) {
            heads.u16(keys.number(store.keys.pass())?).u16(keys.number(store.keys.pass_record())?);
        } else {
            heads.u16(0).u16(0);
        }
        for (index, question) in questions.iter().enumerate() {
            heads.u8(classes[index]).u8(sessions.numbers[index]).u8(kinds.numbers[index]);
            push_head(&mut heads, &mut keys, store, question)?;
            push_limits(&mut heads, &mut keys, store, question, &listed.numbers)?;
            push_budgets(&mut heads, &mut keys, store, question)?;
        }
        args.push(heads.finish().into());
        args.push(decision_log::abouts(questions).into());
        for question in questions {
            args.push(question.request.task_id.as_str().into());
            args.push(match question.request.pass {
                None => body(question).into(),
                Some(terms) => pass::body(question, terms)?.into(),
            });
        }
        Ok(Self { keys: keys.keys, args })
    }
}

/// Lists each class once; its number, from 1, for each request.
fn list_classes(args: &mut Vec<Value>, questions: &[Question<'_>]) -> Vec<u8> {
    let mut listed: Vec<&Class> = Vec::new();
    let numbers = questions.iter().map(|question| {
        let place = listed.iter().position(|class| class.number == question.class.number);
        place.unwrap_or_else(|| {
            listed.push(question.class);
            listed.len() - 1
        }) as u8
            + 1
    });
    let numbers = numbers.collect();
    args.push(listed.len().to_string().into());
    for class in listed {
        args.push(class.number.to_string().into());
        args.push(class.lasts_ms.to_string().into());
        args.push(class.packed.clone().into());
    }
    numbers
}

/// The rest of a request's head, after the numbers of its class, session and kind.
fn push_head(
    heads: &mut Packer,
    keys: &mut Listed,
    store: &ScopeStore,
    question: &Question<'_>,
) -> Result<(), StoreError> {
    let request = question.request;
    let is_task = request.pass.is_none();
    let idempotency = request.idempotency.as_ref().filter(|_| is_task);
    let once = request.provenance.once.as_ref();
    let sort = if is_task { u8::from(idempotency.is_some()) } else { PASS };
    heads
        .u32(question.cost())
        .u8(sort + if once.is_some() { ONCE } else { 0 })
        .f64(request.deadline_ms.filter(|_| is_task).unwrap_or(0) as f64)
        .f64(if is_task { request.delay_ms as f64 } else { 0.0 })
        .u16(request.max_attempts.clamp(1, u32::from(u16::MAX)) as u16)
        .u8((question.uses.len() + question.hop_uses.len()) as u8)
        .u8(question.draws.len() as u8);
    if let Some(once) = once {
        heads.u16(keys.number(store.keys.once(&once.digest))?).u32(once.lasts_ms);
    }
    if let Some(idempotency) = idempotency {
        let hash = idempotency.body_hash.as_bytes();
        let length = u8::try_from(hash.len()).map_err(|_| StoreError::Protocol("a hash of any length".to_owned()))?;
        heads.u16(keys.number(store.keys.idempotency(&idempotency.key_hash))?).u8(length).bytes(hash);
    }
    if let Some(terms) = request.pass {
        heads.f64(terms.lease_ms as f64);
        match question.pool {
            None => heads.u16(0).u16(0).f64(0.0),
            Some(places) => {
                let pool = keys.number(store.keys.pool(&request.kind))?;
                heads.u16(pool).u16(keys.number(store.keys.pool_service(&request.kind))?).f64(places as f64)
            }
        };
    }
    Ok(())
}

/// What a request uses of named limits, and then of those of its chain, whose shapes have these numbers.
fn push_limits(
    heads: &mut Packer,
    keys: &mut Listed,
    store: &ScopeStore,
    question: &Question<'_>,
    numbers: &HashMap<(u64, u64), u16>,
) -> Result<(), StoreError> {
    for used in &question.uses {
        let key = store.keys.named_limit(&used.limit.window.name, used.subject);
        heads.u16(used.limit.number.into()).u16(keys.number(key)?).f64(used.units as f64);
    }
    for used in &question.hop_uses {
        let missing = || StoreError::Protocol("a limit of a chain that is not listed".to_owned());
        let number = *numbers.get(&shape_of(&used.window)).ok_or_else(missing)?;
        let key = store.keys.chain_limit(used.window.length_ms, used.hash);
        heads.u16(number).u16(keys.number(key)?).f64(used.units as f64);
    }
    Ok(())
}

/// What a request draws on budgets.
fn push_budgets(
    heads: &mut Packer,
    keys: &mut Listed,
    store: &ScopeStore,
    question: &Question<'_>,
) -> Result<(), StoreError> {
    for draw in &question.draws {
        let key = store.keys.budget(draw.name, draw.subject);
        heads.u16(keys.number(key)?).u8(period_number(draw.budget.period));
        heads.f64(draw.budget.amount as f64).f64(draw.estimate as f64);
    }
    Ok(())
}

/// The policy's settings, and how many revocations the caller knows of.
fn settings(store: &ScopeStore, policy: &CompiledPolicy) -> Bytes {
    let mut settings = Packer::with_capacity(policy.admit_settings.len() + 8);
    settings.bytes(&policy.admit_settings).f64(store.revocations as f64);
    settings.finish()
}

/// What tells the shapes of two windows of chains apart: length and limit.
fn shape_of(window: &Window) -> (u64, u64) {
    (window.length_ms, window.limit)
}

/// The shapes of all named limits: the policy's, and after them those of chains, each once.
struct ListedLimits {
    packed: Bytes,
    /// Of those of chains.
    numbers: HashMap<(u64, u64), u16>,
}

impl ListedLimits {
    fn new(policy: &CompiledPolicy, questions: &[Question<'_>]) -> Self {
        let mut numbers = HashMap::new();
        if questions.iter().all(|question| question.hop_uses.is_empty()) {
            return Self { packed: policy.named_limits.clone(), numbers };
        }
        let mut packed = Packer::with_capacity(policy.named_limits.len() + 64);
        packed.bytes(&policy.named_limits);
        let mut next = (policy.named_limits.len() / SHAPE_BYTES) as u16;
        for used in questions.iter().flat_map(|question| &question.hop_uses) {
            numbers.entry(shape_of(&used.window)).or_insert_with(|| {
                used.window.pack(&mut packed);
                next += 1;
                next
            });
        }
        Self { packed: packed.finish(), numbers }
    }
}

/// The keys of a call, each once.
struct Listed {
    keys: Vec<Key>,
    numbers: HashMap<Key, u16>,
}

/// What every request has one of.
struct Numbered {
    /// How many different ones there are.
    count: u8,
    /// For each request, from 1.
    numbers: Vec<u8>,
    /// For each of them, the first request that has it.
    first: Vec<usize>,
}

impl Listed {
    fn new(store: &ScopeStore, requests: usize) -> Self {
        let k = &store.keys;
        let mut keys = Vec::with_capacity(16 + 2 * requests);
        keys.extend([
            k.queue(),
            k.delayed(),
            k.lease(),
            k.task(),
            k.wake(),
            k.decision(),
            k.beat(),
            k.processor(),
            k.pool(Keys::SHARED_POOL),
            k.pool_service(Keys::SHARED_POOL),
            k.scope(),
        ]);
        Self { keys, numbers: HashMap::with_capacity(8 + 2 * requests) }
    }

    /// The key's number, from the scope's on, which is 1.
    fn number(&mut self, key: Key) -> Result<u16, StoreError> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let number = u16::try_from(self.keys.len() + 1 - BEFORE);
        let number = number.map_err(|_| StoreError::Protocol("more keys than one call can have".to_owned()))?;
        self.keys.push(key.clone());
        self.numbers.insert(key, number);
        Ok(number)
    }

    /// Lists what every request has one of, before anything else that follows.
    fn number_each(
        &mut self,
        questions: &[Question<'_>],
        key_of: impl Fn(&Question<'_>) -> Key,
    ) -> Result<Numbered, StoreError> {
        let before = self.keys.len() - BEFORE;
        let mut each = Numbered { count: 0, numbers: Vec::with_capacity(questions.len()), first: Vec::new() };
        for (index, question) in questions.iter().enumerate() {
            let number = usize::from(self.number(key_of(question))?) - before;
            if number > each.first.len() {
                each.first.push(index);
            }
            each.numbers.push(number as u8);
        }
        each.count = each.first.len() as u8;
        Ok(each)
    }
}
