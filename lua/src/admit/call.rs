//! The arguments of one call of `admit.lua`, in the order of its header.
//!
//! Responsible for their order and for saying what requests share once. Must never decide what applies to a request:
//! that is its [`Question`].

use fred::types::{Key, Value};

use crate::decision_log::about;
use crate::error::StoreError;
use crate::policy::{Class, CompiledPolicy};
use crate::question::Question;
use crate::store::ScopeStore;
use crate::task::encode_body;

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
