//! A simulated caller: comes when it likes, and comes again when it is turned away.
//!
//! Responsible for requests of all sorts, and for remembering what it was promised. Must never wait for an answer
//! before its next request: callers are many.

use std::collections::BTreeMap;

use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_lua::{AdmitRequest, Idempotency, Provenance, TaskId};

use super::context::Context;
use super::dice::Dice;
use super::event::{Asked, Event, Told, Wish};
use super::rules;

/// How often a caller comes with one request.
const TRIES: u32 = 4;

/// A caller with a session of its own.
pub(super) struct Client {
    number: usize,
    dice: Dice,
    user_type: UserType,
    obeys: bool,
    mean_pause_us: u64,
    requests: u64,
    open: BTreeMap<u64, (AdmitRequest, u32)>,
    /// Tasks it was told are accepted.
    pub(super) promised: Vec<TaskId>,
}

impl Client {
    pub(super) fn new(seed: u64, number: usize, think_ms: u64) -> Self {
        let mut dice = Dice::of(seed, 100 + number as u64);
        let user_type = rules::user_type(dice.pick(&UserType::BUILT_IN).copied().unwrap_or(UserType::ANONYMOUS));
        let obeys = dice.chance(0.5);
        let mean_pause_us = think_ms * 1000;
        Self { number, dice, user_type, obeys, mean_pause_us, requests: 0, open: BTreeMap::new(), promised: Vec::new() }
    }

    /// Asks for something new, or wants an earlier task cancelled, and thinks of the next thing.
    pub(super) fn come(&mut self, context: &mut Context, gateways: usize) {
        let pause_us = if self.dice.chance(0.1) { 0 } else { self.dice.exponential(self.mean_pause_us) };
        context.after(pause_us.max(1), Event::Come { client: self.number });
        if let (true, Some(task_id)) = (self.dice.chance(0.08), self.dice.pick(&self.promised).cloned()) {
            let principal = self.principal();
            return self.ask(context, gateways, 0, Wish::Cancel { task_id, principal });
        }
        self.requests += 1;
        let request = self.request();
        self.open.insert(self.requests, (request.clone(), 1));
        self.ask(context, gateways, self.requests, Wish::Submit(Box::new(request)));
    }

    /// Comes again.
    pub(super) fn again(&mut self, context: &mut Context, gateways: usize, number: u64) {
        if let Some((request, tries)) = self.open.get_mut(&number) {
            *tries += 1;
            // Each try is a request of its own to the gateway, which gives it an id.
            request.task_id = id(self.number, number, *tries);
            let wish = Wish::Submit(Box::new(request.clone()));
            self.ask(context, gateways, number, wish);
        }
    }

    pub(super) fn told(&mut self, context: &mut Context, number: u64, told: Told) {
        let Some((_, tries)) = self.open.get(&number) else { return };
        let wait_us = match told {
            Told::Accepted(id) => {
                self.promised.push(id);
                None
            }
            _ if *tries >= TRIES => None,
            Told::Refused { retry_after_ms: 0 } => None,
            Told::Refused { retry_after_ms } if self.obeys => Some(retry_after_ms * 1000),
            Told::Refused { .. } | Told::Unavailable => Some(self.dice.between(20_000, 200_000)),
        };
        match wait_us {
            Some(wait_us) => context.after(wait_us, Event::Again { client: self.number, request: number }),
            None => {
                self.open.remove(&number);
            }
        }
    }

    fn ask(&mut self, context: &mut Context, gateways: usize, number: u64, what: Wish) {
        let gateway = self.dice.between(0, gateways as u64 - 1) as usize;
        let asked = Box::new(Asked { client: self.number, number, what });
        context.after(self.dice.between(100, 400), Event::Asked { gateway, asked });
    }

    /// Two callers share a principal.
    fn principal(&self) -> String {
        format!("principal-{}", self.number / 2)
    }

    fn request(&mut self) -> AdmitRequest {
        let dice = &mut self.dice;
        let kind = if dice.chance(0.3) { "k1" } else { "k0" }.to_owned();
        let deadline_ms = dice.chance(0.2).then(|| dice.between(50, 3_000));
        let delay_ms = if dice.chance(0.08) { dice.between(1, 2_000) } else { 0 };
        let with_key = dice.chance(0.3);
        let estimates = if dice.chance(0.7) { vec![("tokens".to_owned(), dice.between(1, 60))] } else { Vec::new() };
        let key = format!("{}-{}", self.number, self.requests);
        AdmitRequest {
            task_id: id(self.number, self.requests, 1),
            user_type: self.user_type.clone(),
            session_id: format!("session-{}", self.number),
            principal: self.principal(),
            actor: None,
            client_address: None,
            kind,
            pass: None,
            cost: 1,
            deadline_ms,
            delay_ms,
            max_attempts: 1,
            idempotency: with_key.then(|| Idempotency { key_hash: key, body_hash: "b".to_owned() }),
            estimates,
            provenance: Provenance::default(),
            request_id: String::new(),
            traceparent: None,
            tracestate: None,
            content_type: String::new(),
            payload: Bytes::new(),
        }
    }
}

/// The id of a try: digits only, which is how a ULID may look.
fn id(client: usize, request: u64, tries: u32) -> TaskId {
    let text = format!("{:08}{client:06}{request:010}{tries:02}", 0);
    TaskId::parse(&text).unwrap_or_else(TaskId::generate)
}
