//! What happened, in words, for whoever looks at a violation.
//!
//! Responsible for the evidence: the last lines that concern one task, session or policy. Costs nothing while it is
//! off: a run that fails is made again with it on. Must never influence a run.

use std::collections::VecDeque;

use super::call::{Answer, Call, Heard};

/// Most lines kept.
const LINES: usize = 20_000;

/// Lines of what happened, oldest first; or nothing, when off.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<VecDeque<(u64, String)>>,
}

impl Trace {
    pub(super) fn new(on: bool) -> Self {
        Self { lines: on.then(VecDeque::new) }
    }

    /// Notes what happened, if anybody will look.
    pub(super) fn note(&mut self, at_us: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back((at_us, line()));
        }
    }

    /// The last lines that name any of these, oldest first.
    pub(super) fn about(&self, subjects: &[String], most: usize) -> Vec<String> {
        let lines = self.lines.iter().flatten().rev();
        let named = lines.filter(|(_, line)| subjects.iter().any(|subject| line.contains(subject.as_str())));
        let mut found: Vec<String> = named.take(most).map(|(at_us, line)| format!("{} {line}", time(*at_us))).collect();
        found.reverse();
        found
    }

    /// All lines.
    pub(super) fn all(&self) -> Vec<String> {
        self.lines.iter().flatten().map(|(at_us, line)| format!("{} {line}", time(*at_us))).collect()
    }
}

/// A time of the run, in seconds.
pub(super) fn time(at_us: u64) -> String {
    format!("{:3}.{:06}", at_us / 1_000_000, at_us % 1_000_000)
}

/// A call in one line.
pub(super) fn call(call: &Call) -> String {
    let name = call.name();
    match call {
        Call::Admit { stamp, requests, .. } => {
            let asked = requests.iter().map(|request| format!("{} of {}", request.task_id, request.session_id));
            format!("{name} under {stamp}: {}", asked.collect::<Vec<_>>().join(", "))
        }
        Call::Claim { slots, wait_us, .. } => format!("{name} {slots}, wait {wait_us} us"),
        Call::Renew { leases, policy, stamp } => {
            let held = leases.iter().map(|(id, token)| format!("{id} under {token}"));
            format!("{name} for {} ms under {stamp}: {}", policy.queue.lease_ms, held.collect::<Vec<_>>().join(", "))
        }
        Call::Settle { settlements, .. } => {
            let ended = settlements.iter().map(|settlement| {
                format!("{} under {} {:?}", settlement.lease.task_id, settlement.lease.token, settlement.outcome)
            });
            format!("{name}: {}", ended.collect::<Vec<_>>().join(", "))
        }
        Call::Beat { stamp, beat, .. } => {
            format!("{name} of {}, {} slots, draining {}, under {stamp}", beat.worker, beat.slots, beat.draining)
        }
        Call::Cancel { task_id, .. } => format!("{name} {task_id}"),
        Call::Restore { held } => format!("{name} {} written at {}", held.stamp, held.at_ms),
        Call::Revise { expected, document, .. } => format!("{name} to {document} on {expected}"),
        Call::Follow { name: gateway, stamp, .. } => format!("{name} of {gateway} under {stamp}"),
        _ => name.to_owned(),
    }
}

/// An answer in one line.
pub(super) fn answer(heard: &Heard) -> String {
    match heard {
        Ok(Answer::Decided(decisions)) => {
            let verdicts = decisions.iter().map(|decision| format!("{:?}", decision.verdict));
            verdicts.collect::<Vec<_>>().join(", ")
        }
        Ok(Answer::Claimed { leases, .. } | Answer::Reclaimed { leases, .. }) => {
            let leases =
                leases.iter().map(|lease| format!("{} under {} to {:?}", lease.task_id, lease.token, lease.purpose));
            format!("leases [{}]", leases.collect::<Vec<_>>().join(", "))
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}
