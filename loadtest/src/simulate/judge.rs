//! What must be true of a cluster, held against what happens in a simulated one.
//!
//! Responsible for its own account of the run, kept from the calls and answers as anybody could see them. Must never
//! ask an actor or the model what it thinks of itself, except to compare it with this account.
//!
//! Two accounts are kept. What Redis has been told ([`Ledger`]) goes back with Redis when a failover loses the last
//! writes, as nobody can be held to what is lost. What processes believe and have been told ([`Judge`]) does not.

mod belief;
mod ledger;

use std::collections::BTreeMap;

use portcullis_lua::{FencingToken, Lease, Outcome, PolicyStamp, Settled, Settlement, StoredPolicy, TaskId};

use super::rules;
use crate::model::{Model, State};
use belief::Beliefs;
pub(super) use belief::Claim;
pub(super) use ledger::Ledger;

/// Something that must never happen has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// When, µs after the start.
    pub at_us: u64,
    /// What happened.
    pub what: String,
    /// What it is about: ids that stand in the lines of the trace.
    pub subjects: Vec<String>,
}

/// The account of a run.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) violation: Option<Violation>,
    /// What Redis has been told and not lost.
    pub(super) ledger: Ledger,
    beliefs: Beliefs,
    newest: Option<FencingToken>,
    /// When each policy was written, Redis clock, ms.
    written_ms: BTreeMap<PolicyStamp, u64>,
    /// The latest time of writing of a policy whose author has been told that it is in force.
    accepted_ms: u64,
}

impl Judge {
    /// Says that a rule is broken; the first word counts.
    pub(super) fn accuse(&mut self, at_us: u64, rule: &'static str, what: String, subjects: Vec<String>) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, at_us, what, subjects });
        }
    }

    /// Leases were handed out.
    pub(super) fn handed_out(&mut self, now_us: u64, leases: &[Lease]) {
        for Lease { task_id, token, .. } in leases {
            if let Some(newest) = self.newest.filter(|newest| token <= newest) {
                let what = format!("{task_id} was handed out under {token} after {newest}");
                self.accuse(now_us, "tokens rise", what, vec![task_id.to_string()]);
            }
            self.newest = self.newest.max(Some(*token));
            self.ledger.hand_out(task_id, *token);
            if let Some(claim) = self.beliefs.other_holder(now_us, task_id, *token) {
                let what = format!("{task_id} was handed out under {token} while {claim}");
                self.accuse(now_us, "one holder", what, vec![task_id.to_string()]);
            }
        }
    }

    /// A processor trusts its lease, which was granted or extended by a call sent at `claim.sent_us`.
    pub(super) fn believes(&mut self, now_us: u64, token: FencingToken, claim: Claim) {
        let newer = self.ledger.newest_of(&claim.task_id).filter(|newest| *newest > token);
        if let Some(newest) = newer
            && claim.until_us > now_us
            && !self.beliefs.is_excused(&claim)
        {
            let what = format!("{claim} although {newest} is out");
            self.accuse(now_us, "one holder", what, vec![claim.task_id.to_string()]);
        }
        self.beliefs.insert(token, claim);
    }

    /// A processor trusts the lease under this token for a shorter time than before.
    pub(super) fn doubts(&mut self, token: FencingToken, until_us: u64) {
        self.beliefs.shorten(token, until_us);
    }

    /// A processor has ended the attempt under this token, or does not trust its lease any more.
    pub(super) fn gives_up(&mut self, token: FencingToken) {
        self.beliefs.remove(token);
    }

    /// Leases granted until now may lapse before their time: the clock of Redis has jumped, or they are lost.
    pub(super) fn excuse_leases(&mut self, now_us: u64) {
        self.beliefs.excuse(now_us);
    }

    /// Attempts were settled.
    pub(super) fn settled(&mut self, now_us: u64, settlements: &[Settlement], answers: &[Settled]) {
        for (settlement, answer) in settlements.iter().zip(answers) {
            let (id, token) = (&settlement.lease.task_id, settlement.lease.token);
            let Settled::Done(status) = answer else { continue };
            let newest = self.ledger.newest_of(id);
            if Some(token) != newest {
                let what = format!("{id} was settled under {token} although {newest:?} is out");
                self.accuse(now_us, "no stale settlement", what, vec![id.to_string()]);
            }
            if let Outcome::Succeeded { usage, .. } = &settlement.outcome {
                self.ledger.overrun(id, usage);
            }
            if status.is_terminal() {
                self.ended(now_us, id, status.as_str());
            }
        }
    }

    /// A task has reached its end.
    pub(super) fn ended(&mut self, now_us: u64, id: &TaskId, status: &'static str) {
        if let Err(what) = self.ledger.end(id, status) {
            self.accuse(now_us, "one end", what, vec![id.to_string()]);
        }
    }

    /// A policy is stored.
    pub(super) fn stored(&mut self, policy: &StoredPolicy) {
        self.written_ms.insert(policy.stamp, policy.at_ms);
        self.ledger.store_policy(policy.stamp);
    }

    /// The author of a policy was told that everybody follows it, and Redis has not lost it meanwhile.
    pub(super) fn accepted(&mut self, stamp: PolicyStamp) {
        if self.ledger.knows_policy(stamp) {
            self.accepted_ms = self.accepted_ms.max(self.written(stamp));
        }
    }

    /// Redis came back with this policy, written at that time: later ones are lost until somebody gives them back.
    pub(super) fn policies_lost(&mut self, stored_ms: u64) {
        self.accepted_ms = self.accepted_ms.min(stored_ms);
    }

    /// Somebody was told something by the policy of this stamp.
    pub(super) fn decided_under(&mut self, now_us: u64, stamp: PolicyStamp, by: &str) {
        if self.written(stamp) < self.accepted_ms {
            let what = format!("{by} decided under {stamp} after a later policy had been accepted");
            self.accuse(now_us, "no decision under an old policy", what, vec![stamp.to_string(), "revise".to_owned()]);
        }
    }

    fn written(&self, stamp: PolicyStamp) -> u64 {
        self.written_ms.get(&stamp).copied().unwrap_or(0)
    }
}

impl Judge {
    /// Compares what Redis has with what it was told: every task that was accepted and has not ended is somewhere, and
    /// every account holds what living tasks hold.
    pub(super) fn compare(&mut self, now_us: u64, redis_ms: u64, model: &Model) {
        let alive = model.tasks.iter().filter(|(_, task)| !matches!(task.state, State::Ended { .. }));
        if !alive.map(|(id, _)| id).eq(self.ledger.living()) {
            let known: Vec<String> = self.ledger.living().map(ToString::to_string).collect();
            let what = format!("{} tasks were accepted and have not ended, Redis has others", known.len());
            return self.accuse(now_us, "accepted tasks are accounted for", what, known);
        }
        for (of, account) in model.accounts_at(redis_ms) {
            let amount = rules::largest_amount(&of.0);
            if let Err(what) = self.ledger.check_account(of, &account, amount) {
                return self.accuse(now_us, "budgets add up", what, vec![of.1.clone()]);
            }
        }
    }
}
