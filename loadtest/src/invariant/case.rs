//! A record prepared to be judged: its policies in typed form, its two clocks related, its events told as lines.
//!
//! Responsible for what several invariants need of a record. Must never judge.

use std::collections::{BTreeMap, HashMap};

use portcullis_config::policy::Subject;
use portcullis_config::{Policy, UserType};
use portcullis_lua::DecisionEvent;

use super::verdict::Findings;
use crate::record::{Call, Record};

/// How far the relation of the two clocks may be off: one question's time and the rounding to ms, and what two clocks
/// may drift apart while one of them is being slewed (adjtimex(2) allows 500 ppm).
const RELATION_US: i64 = 20_000;
const DRIFT_PER_MILLION: u64 = 500;

/// A record and what is derived from it once.
pub(super) struct Case<'a> {
    pub(super) record: &'a Record,
    policies: BTreeMap<u64, Policy>,
    /// Whether the two clocks kept step.
    steady: bool,
    /// What the ids of the run's own requests begin with; `None` where gateways give them others.
    run: Option<&'a str>,
    /// Its calls by number of the request and of the repetition.
    calls: HashMap<(u64, u32), &'a Call>,
}

/// Whose request an id is of.
pub(super) enum RequestOf<'a> {
    /// This call of the run's.
    Call(&'a Call),
    /// None of the run's.
    Others,
    /// Gateways give requests ids of their own.
    Unknown,
}

/// Whom a limit or budget counts for an event.
pub(super) enum Whose<'a> {
    /// This subject.
    Subject(&'a str),
    /// It has no such subject, and so does not count.
    Nobody,
    /// The event does not say.
    Unknown,
}

impl<'a> Case<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        let typed = |effective: &serde_json::Value| serde_json::from_value(effective.clone()).ok();
        let policies = record.policies.iter().filter_map(|each| Some((each.revision, typed(&each.effective)?)));
        let mut case = Self {
            record,
            policies: policies.collect(),
            steady: record.redis_start_ms > 0,
            run: record.calls.iter().find_map(own_prefix),
            calls: record.calls.iter().map(|call| ((call.request, call.repetition), call)).collect(),
        };
        case.steady &= case.keeps_step();
        case
    }

    /// Whether the clock of Redis never went back, and every call that was admitted spans its admission.
    fn keeps_step(&self) -> bool {
        let decisions = &self.record.decisions;
        let admitted = decisions.iter().filter(|event| event.outcome == "admitted");
        let admitted: HashMap<&str, i64> =
            admitted.filter_map(|event| Some((event.task_id.as_deref()?, self.run_us(event.at_ms)?))).collect();
        let slack_us = self.slack_us();
        let spans = |call: &Call| {
            let at_us = call.task_id().and_then(|task| admitted.get(task));
            at_us.is_none_or(|at_us| *at_us <= call.ended_us as i64 + slack_us)
        };
        decisions.windows(2).all(|pair| pair[0].at_ms <= pair[1].at_ms) && self.record.calls.iter().all(spans)
    }

    /// The policy of an event's revision; what is left out for want of it is said.
    pub(super) fn policy(&self, revision: u64, findings: &mut Findings) -> Option<&Policy> {
        let policy = self.policies.get(&revision);
        if policy.is_none() {
            findings.leave_out(format!("decisions under revision {revision}, whose policy is not in the record"));
        }
        policy
    }

    /// Every policy that was in force.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    /// Events from before the run and of it, oldest first: what windows and budgets were filled by.
    pub(super) fn history(&self) -> impl Iterator<Item = &'a DecisionEvent> {
        self.record.earlier.iter().chain(&self.record.decisions)
    }

    /// Whose request this id is of.
    pub(super) fn request_of(&self, request_id: &str) -> RequestOf<'a> {
        let Some(run) = self.run else { return RequestOf::Unknown };
        let numbers = request_id.strip_prefix(run).and_then(|rest| rest.strip_prefix('-')?.split_once('-'));
        let numbers = numbers.and_then(|(request, repetition)| Some((request.parse().ok()?, repetition.parse().ok()?)));
        let call = numbers.and_then(|numbers| self.calls.get(&numbers).copied());
        call.map_or(RequestOf::Others, RequestOf::Call)
    }

    /// Whether nobody else calls: the cluster was started for the run.
    pub(super) fn is_alone(&self) -> bool {
        self.record.samples.iter().any(|sample| !sample.processes.is_empty())
    }

    /// Whether every decision is in the record and Redis lost nothing; if not, says that nothing can be judged.
    pub(super) fn is_complete(&self, findings: &mut Findings) -> bool {
        if self.record.decisions_incomplete {
            findings.not_applicable("decision events may be missing: Redis lost data, or the stream was cut too early");
        }
        !self.record.decisions_incomplete
    }

    /// Whether times of Redis can be held against one another and against the run's.
    pub(super) fn keeps_time(&self) -> bool {
        self.steady
    }

    /// A time of Redis on the run's clock, µs; `None` where the two were not related, or did not keep step.
    pub(super) fn run_us(&self, redis_ms: u64) -> Option<i64> {
        self.steady.then(|| (redis_ms as i64 - self.record.redis_start_ms as i64) * 1000)
    }

    /// By how much a time of the one clock may be off on the other, µs.
    pub(super) fn slack_us(&self) -> i64 {
        RELATION_US + (self.record.took_us * DRIFT_PER_MILLION / 1_000_000) as i64
    }

    /// An event in a line.
    pub(super) fn line(&self, event: &DecisionEvent) -> String {
        let at = moment(self.record.decided_us(event));
        let outcome = event.code.as_deref().unwrap_or(&event.outcome);
        let task = event.task_id.as_deref().or(event.pass_id.as_deref()).unwrap_or("-");
        let what = if event.pass.is_some() { "pass" } else { "task" };
        let DecisionEvent { id, session_id, user_type, depth, capacity, policy_revision, .. } = event;
        format!(
            "{at} {outcome} {what} {task} {user_type} session {session_id} depth {depth} capacity {capacity} \
             revision {policy_revision} (event {id})"
        )
    }

    /// A call in a line.
    pub(super) fn call_line(&self, call: &Call) -> String {
        let caller = self.record.callers.get(call.caller as usize);
        let who = caller.map_or("unknown", |caller| caller.user_type.as_str());
        let task = call.task_id().unwrap_or("-");
        let status = call.answered().map_or(0, |answered| answered.status);
        format!(
            "{} to {} request {}.{} of caller {} ({who}): {status} {} task {task}",
            moment(call.sent_us as i64),
            moment(call.ended_us as i64),
            call.request,
            call.repetition,
            call.caller,
            call.outcome.name(),
        )
    }
}

/// `RUN` of an answer's request id, if that is `RUN-REQUEST-REPETITION` with the numbers of its call.
fn own_prefix(call: &Call) -> Option<&str> {
    let id = call.answered()?.request_id.as_deref()?;
    id.strip_suffix(&format!("-{}-{}", call.request, call.repetition))
}

/// Whom a limit or budget `per` this subject counts for an event.
pub(super) fn whose(per: Subject, event: &DecisionEvent) -> Whose<'_> {
    match per {
        Subject::Tenant => Whose::Subject(""),
        Subject::UserType => Whose::Subject(&event.user_type),
        Subject::Principal => Whose::Subject(&event.principal),
        Subject::Session => Whose::Subject(&event.session_id),
        Subject::Agent => {
            let named = event.origin.hops.first().map(|hop| hop.client_id.as_str());
            named.or(event.actor.as_deref()).map_or(Whose::Nobody, Whose::Subject)
        }
        Subject::ClientAddress => Whose::Unknown,
    }
}

/// The event's user type, as policies name it.
pub(super) fn user_type(event: &DecisionEvent) -> Option<UserType> {
    UserType::new(event.user_type.as_str()).ok()
}

/// A time of the run, as evidence shows it.
pub(super) fn moment(at_us: i64) -> String {
    format!("{:.3} s", at_us as f64 / 1e6)
}
