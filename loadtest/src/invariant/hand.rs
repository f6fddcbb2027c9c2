//! Records made by hand, for the tests of each invariant.
//!
//! Responsible for a record that satisfies every invariant until a test breaks it. Must never be used outside tests.

use portcullis_config::Policy;
use portcullis_lua::{DecisionEvent, PassAsked, RequestOrigin};
use serde_json::Value;

use super::{Finding, Violation};
use crate::record::attempt::AttemptEnd;
use crate::record::{Answered, Attempt, Call, Caller, Ending, Fault, Outcome, PolicyChange, Record, TaskEnd};

/// Redis's clock at the start of every record made by hand.
pub(super) const START_MS: u64 = 1_000_000_000;

/// A record in the making.
#[derive(Clone)]
pub(super) struct Hand {
    pub(super) record: Record,
    session: String,
    revision: u64,
}

impl Hand {
    pub(super) fn new() -> Self {
        let effective = serde_json::to_value(Policy::shipped("acme", "shop")).unwrap();
        let caller = |number: u32, user_type: &str| Caller {
            number,
            load: "load".to_owned(),
            user_type: user_type.to_owned(),
            principal: Some("someone".to_owned()),
        };
        let record = Record {
            redis_start_ms: START_MS,
            took_us: 1_000_000,
            callers: vec![caller(0, "anonymous"), caller(1, "paid")],
            policies: vec![PolicyChange { revision: 0, sent_us: 0, accepted_us: 0, effective }],
            ..Record::default()
        };
        Self { record, session: "s".to_owned(), revision: 0 }
    }

    /// The session of all that follows.
    pub(super) fn session(mut self, session: &str) -> Self {
        session.clone_into(&mut self.session);
        self
    }

    /// The policy of all that follows: an update sent at this time and accepted a tenth of a second later.
    pub(super) fn revised(mut self, revision: u64, at_ms: u64, change: impl FnOnce(&mut Policy)) -> Self {
        let last = self.record.policies.last().unwrap().effective.clone();
        let (sent_us, accepted_us) = (at_ms * 1000, at_ms * 1000 + 100_000);
        let effective = changed(&last, change);
        self.record.policies.push(PolicyChange { revision, sent_us, accepted_us, effective });
        self.revision = revision;
        self
    }

    pub(super) fn set_policy(&mut self, place: usize, change: impl FnOnce(&mut Policy)) {
        let effective = changed(&self.record.policies[place].effective, change);
        self.record.policies[place].effective = effective;
    }

    /// An admission at this time, which leads to this depth. Tasks are numbered from 0.
    pub(super) fn admitted(self, user_type: &str, at_ms: u64, depth: u64, capacity: u64) -> Self {
        let task_id = format!("task-{}", self.record.decisions.len());
        let event = DecisionEvent {
            outcome: "admitted".to_owned(),
            task_id: Some(task_id),
            ..self.event(user_type, at_ms, depth, capacity)
        };
        self.with_event(event)
    }

    /// A pass at this time, not throttled, after which so many are in flight in its pool, or that is the depth.
    pub(super) fn passed(self, user_type: &str, at_ms: u64, depth: u64, capacity: u64, pooled: bool) -> Self {
        let event = DecisionEvent {
            outcome: "admitted".to_owned(),
            pass: Some(PassAsked { place: true, pooled, throttled: false }),
            ..self.event(user_type, at_ms, depth, capacity)
        };
        self.with_event(event)
    }

    pub(super) fn refused(self, user_type: &str, at_ms: u64, code: &str, depth: u64, capacity: u64) -> Self {
        let code = Some(code.to_owned());
        let event = DecisionEvent { code, ..self.event(user_type, at_ms, depth, capacity) };
        self.with_event(event)
    }

    /// A run of the last task's handler, by the time of its claim; it begins one ms later.
    pub(super) fn ran(mut self, claimed_ms: u64, ended_ms: Option<u64>, end: AttemptEnd) -> Self {
        let task_id = format!("task-{}", self.record.decisions.len() - 1);
        let runs = self.record.attempts.iter().filter(|attempt| attempt.task_id == task_id).count();
        self.record.attempts.push(Attempt {
            task_id,
            attempt: runs as u32 + 1,
            fencing_token: (START_MS + claimed_ms) * 1000 + 1,
            kind: "chat".to_owned(),
            user_type: "paid".to_owned(),
            principal: "someone".to_owned(),
            started_us: (claimed_ms + 1) * 1000,
            ended_us: ended_ms.map(|ended_ms| ended_ms * 1000),
            end,
        });
        self
    }

    /// A call of this caller, answered with what the last decision says.
    pub(super) fn called(mut self, caller: u32) -> Self {
        let event = self.record.decisions.last().unwrap();
        let accepted = event.outcome == "admitted";
        let answered = Answered {
            status: if accepted { 202 } else { 429 },
            code: event.code.clone(),
            step: event.step.clone(),
            retry_after_seconds: (!accepted).then_some(1),
            task_id: event.task_id.clone(),
            policy_revision: Some(event.policy_revision),
            request_id: Some(event.request_id.clone()),
        };
        let sent_us = (event.at_ms - START_MS) * 1000;
        self.record.calls.push(Call {
            caller,
            request: self.record.calls.len() as u64,
            repetition: 0,
            gateway: 0,
            kind: "chat".to_owned(),
            intended_us: sent_us,
            sent_us,
            ended_us: sent_us + 1000,
            outcome: Outcome::Answered(answered),
        });
        self
    }

    /// The last call, to be changed.
    pub(super) fn answer(&mut self) -> &mut Answered {
        match &mut self.record.calls.last_mut().unwrap().outcome {
            Outcome::Answered(answered) => answered,
            Outcome::Failed { .. } => panic!("the last call failed"),
        }
    }

    /// Gives the request of this call another id, in its answer and in its event.
    pub(super) fn request_id(&mut self, call: usize, id: &str) {
        let Outcome::Answered(answered) = &mut self.record.calls[call].outcome else { panic!("the call failed") };
        let before = answered.request_id.replace(id.to_owned());
        let events = self.record.decisions.iter_mut();
        for event in events.filter(|event| Some(&event.request_id) == before.as_ref()) {
            id.clone_into(&mut event.request_id);
        }
    }

    /// Everything came to rest, each admitted task with this status at this time.
    pub(super) fn ended(mut self, status: &str, finished_ms: u64) -> Self {
        let mut ending = Ending { rested_us: Some(0), ..Ending::default() };
        for event in &self.record.decisions {
            let Some(task_id) = event.task_id.clone() else { continue };
            let runs = self.record.attempts.iter().filter(|attempt| attempt.task_id == task_id).count();
            let end = TaskEnd {
                status: Some(status.to_owned()),
                attempts: runs as u32,
                created_ms: Some(event.at_ms),
                finished_ms: Some(START_MS + finished_ms),
            };
            ending.tasks.insert(task_id, end);
        }
        self.record.ending = Some(ending);
        self
    }

    pub(super) fn ending(&mut self) -> &mut Ending {
        self.record.ending.as_mut().unwrap()
    }

    pub(super) fn fault(mut self, name: &str, at_ms: u64, until_ms: u64) -> Self {
        let (name, detail) = (name.to_owned(), String::new());
        self.record.faults.push(Fault { name, detail, at_us: at_ms * 1000, until_us: Some(until_ms * 1000) });
        self
    }

    fn event(&self, user_type: &str, at_ms: u64, depth: u64, capacity: u64) -> DecisionEvent {
        let number = self.record.decisions.len();
        DecisionEvent {
            id: format!("{number}-0.0"),
            at_ms: START_MS + at_ms,
            policy_revision: self.revision,
            outcome: "refused".to_owned(),
            step: None,
            code: None,
            name: None,
            retry_after_ms: 0,
            task_id: None,
            pass: None,
            pass_id: None,
            user_type: user_type.to_owned(),
            session_id: self.session.clone(),
            principal: "someone".to_owned(),
            actor: None,
            kind: "chat".to_owned(),
            origin: RequestOrigin::default(),
            request_id: format!("request-{number}"),
            depth,
            capacity,
        }
    }

    fn with_event(mut self, event: DecisionEvent) -> Self {
        self.record.decisions.push(event);
        self
    }
}

fn changed(effective: &Value, change: impl FnOnce(&mut Policy)) -> Value {
    let mut policy: Policy = serde_json::from_value(effective.clone()).unwrap();
    change(&mut policy);
    serde_json::to_value(policy).unwrap()
}

fn finding(hand: &Hand, invariant: &str) -> Finding {
    super::check(&hand.record).of(invariant).unwrap().finding.clone()
}

/// The invariant holds; how many things were checked.
pub(super) fn held(hand: &Hand, invariant: &str) -> u64 {
    match finding(hand, invariant) {
        Finding::Held { checked } => checked,
        other => panic!("{other:?}"),
    }
}

/// The invariant is violated exactly once.
pub(super) fn violation(hand: &Hand, invariant: &str) -> Violation {
    match finding(hand, invariant) {
        Finding::Violated { count: 1, mut violations } => violations.remove(0),
        other => panic!("{other:?}"),
    }
}

/// The invariant is violated; how, of the first few times.
pub(super) fn violations(hand: &Hand, invariant: &str) -> Vec<Violation> {
    match finding(hand, invariant) {
        Finding::Violated { violations, .. } => violations,
        other => panic!("{other:?}"),
    }
}

/// The record does not say; why not.
pub(super) fn not_applicable(hand: &Hand, invariant: &str) -> String {
    match finding(hand, invariant) {
        Finding::NotApplicable { why } => why,
        other => panic!("{other:?}"),
    }
}
