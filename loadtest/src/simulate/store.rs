//! Redis: the model of the scripts, with a clock of its own, one call at a time.
//!
//! Responsible for what the model does not have: the stored policy and its stamp, fencing tokens, the wake-up list, and
//! the calls that lie behind a blocking pop. The policy's part restates `revise.lua`, `restore.lua` and `follow.lua`
//! (`store/policy.rs`), the wake-up list `include/wake.lua`. Must never tell a caller anything but an answer.

mod policy;

use std::collections::VecDeque;
use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_lua::{
    AdmitRequest, FencingToken, Lease, PolicyStamp, Settled, Settlement, StoreError, TaskId, TaskStatus, Verdict,
};

use super::call::{Answer, Call, Heard};
use super::clock::Clock;
use super::context::Context;
use super::event::{Event, Sent};
use super::mistake::Mistake;
use super::plan::Place;
use super::rules;
use crate::model::{Model, State, Ticks};
use policy::Policies;

/// 2026-03-02 10:00:00 UTC.
const START_MS: u64 = 1_772_445_600_000;

/// Most leases one call hands out (`CLAIM_BATCH` of the protocol).
const LEASES: u32 = 64;

/// One refused batch in so many is checked for having changed nothing, as that is expensive.
const REFUSALS_CHECKED: u64 = 64;

/// What is lost when data are lost.
#[derive(Clone)]
pub(super) struct Data {
    pub(super) model: Model,
    pub(super) policies: Policies,
    token: u64,
}

/// The server.
pub(super) struct Store {
    pub(super) data: Data,
    clock: Clock,
    jumped_ms: u64,
    /// Claims behind a blocking pop, first come first.
    waiters: VecDeque<Sent>,
    token_out: bool,
    refused_batches: u64,
}

impl Store {
    pub(super) fn new(clock: Clock) -> Self {
        let data = Data { model: Model::new(&rules::policy(0), Ticks::new()), policies: Policies::default(), token: 0 };
        Self { data, clock, jumped_ms: 0, waiters: VecDeque::new(), token_out: false, refused_batches: 0 }
    }

    /// The time, ms since the epoch.
    pub(super) fn now_ms(&self, now_us: u64) -> u64 {
        START_MS + self.jumped_ms + self.clock.shown_us(now_us) / 1000
    }

    pub(super) fn jump(&mut self, ms: u64) {
        self.jumped_ms += ms;
    }

    /// Another server takes over, with these data; its clock is as good.
    pub(super) fn fail_over(&mut self, data: Data) {
        self.data = data;
    }

    /// The connections of a process are gone, and calls that wait on them never run.
    pub(super) fn disconnect(&mut self, place: Place) {
        self.waiters.retain(|sent| sent.from != place);
    }

    /// Runs a call, and what it wakes; answers go out through `context`. Whether policies have been published.
    pub(super) fn take(&mut self, context: &mut Context, sent: Sent) -> bool {
        if let Call::Claim { wait_us: wait_us @ 1.., .. } = sent.call {
            if !std::mem::take(&mut self.token_out) {
                context.after(wait_us, Event::PopOver { id: sent.id });
                self.waiters.push_back(sent);
                return false;
            }
            context.coverage.count("wake-up was there");
        }
        self.run(context, sent)
    }

    /// A blocking pop gives up, and the claim behind it runs.
    pub(super) fn end_pop(&mut self, context: &mut Context, id: u64) {
        if let Some(at) = self.waiters.iter().position(|sent| sent.id == id)
            && let Some(sent) = self.waiters.remove(at)
        {
            self.run(context, sent);
        }
    }

    fn run(&mut self, context: &mut Context, first: Sent) -> bool {
        let (mut published, mut next) = (false, Some(first));
        while let Some(sent) = next {
            let before = self.data.policies.stamp();
            let (heard, wakes) = self.execute(context, sent.call);
            published |= self.data.policies.stamp() != before;
            context.answer(sent.from, sent.life, sent.id, heard);
            next = None;
            if wakes && !self.token_out {
                next = self.waiters.pop_front();
                self.token_out = next.is_none();
            }
        }
        published
    }

    /// The answer, and whether a wake-up is left.
    fn execute(&mut self, context: &mut Context, call: Call) -> (Heard, bool) {
        let now_ms = self.now_ms(context.now_us);
        match call {
            Call::Admit { policy, stamp, requests } => self.admit(context, now_ms, &policy, stamp, &requests),
            Call::Claim { policy, slots, .. } => self.claim(context, now_ms, &policy, slots),
            Call::Renew { policy, stamp, leases } => {
                self.data.model.follow(&policy);
                let current = stamp == self.data.policies.stamp();
                let renew = |(id, token): &(TaskId, FencingToken)| self.data.model.renew(now_ms, id, *token, current);
                (Ok(Answer::Renewed(leases.iter().map(renew).collect())), false)
            }
            Call::Settle { policy, settlements } => self.settle(context, now_ms, &policy, &settlements),
            Call::Reclaim { policy } => self.reclaim(context, now_ms, &policy),
            Call::Beat { policy, mut beat, .. } => {
                let timeout_ms = policy.monitoring.heartbeat_timeout_seconds * 1000;
                context.judge.ledger.beat(now_ms, timeout_ms, &beat);
                beat.draining &= !context.makes(Mistake::CountsDraining);
                self.data.model.follow(&policy);
                self.data.model.heartbeat(now_ms, &beat);
                (Ok(Answer::Stamp(self.data.policies.stamp())), false)
            }
            Call::Leave { worker } => {
                context.judge.ledger.leave(&worker);
                self.data.model.leave(&worker);
                self.data.policies.forget(&worker);
                (Ok(Answer::Done), false)
            }
            Call::Cancel { policy, task_id, principal } => {
                self.cancel(context, now_ms, &policy, &task_id, &principal);
                (Ok(Answer::Done), false)
            }
            Call::Subscribe | Call::Ping => (Ok(Answer::Done), false),
            call => (self.data.policies.answer(context, now_ms, call), false),
        }
    }

    fn admit(
        &mut self,
        context: &mut Context,
        now_ms: u64,
        policy: &Arc<Policy>,
        stamp: PolicyStamp,
        requests: &[AdmitRequest],
    ) -> (Heard, bool) {
        let current = self.data.policies.stamp();
        if stamp != current && !context.makes(Mistake::AdmitsUnderAnyPolicy) {
            return (Err(StoreError::StalePolicy { held: stamp, current }), false);
        }
        context.judge.decided_under(context.now_us, stamp, "admit");
        self.data.model.follow(policy);
        let was_empty = self.data.model.queue().is_empty();
        let before = self.is_checked(requests).then(|| self.without_decisions());
        let mut decisions = Vec::with_capacity(requests.len());
        let mut wakes = false;
        for request in requests {
            let decision = self.data.model.admit(now_ms, request);
            match &decision.verdict {
                Verdict::Admitted { .. } => {
                    context.coverage.count("admitted");
                    wakes |= was_empty || request.delay_ms > 0;
                    let noted = context.judge.ledger.admit(now_ms, policy, request, &decision);
                    if let Err((rule, what, subject)) = noted {
                        context.judge.accuse(context.now_us, rule, what, vec![subject]);
                    }
                }
                Verdict::Passed { .. } => context.coverage.count("passed"),
                Verdict::Replayed { .. } => context.coverage.count("replayed"),
                Verdict::Refused(refusal) => context.coverage.count(refusal.reason.code()),
            }
            decisions.push(decision);
        }
        let all_refused = decisions.iter().all(|decision| !matches!(decision.verdict, Verdict::Admitted { .. }));
        if let Some(before) = before.filter(|_| all_refused) {
            context.coverage.count("refusals compared");
            if before != self.without_decisions() {
                let what = format!("{} refusals changed something", requests.len());
                context.judge.accuse(context.now_us, "refusals change nothing", what, Vec::new());
            }
        }
        (Ok(Answer::Decided(decisions)), wakes)
    }

    fn is_checked(&mut self, requests: &[AdmitRequest]) -> bool {
        self.refused_batches += 1;
        requests.len() == 1 && self.refused_batches.is_multiple_of(REFUSALS_CHECKED)
    }

    /// All that a refusal must not change.
    fn without_decisions(&self) -> String {
        let mut model = self.data.model.clone();
        model.decisions.clear();
        format!("{model:?}")
    }

    /// Tokens greater than any before, as `claim.lua` makes them.
    fn tokens(&mut self, context: &Context, now_ms: u64, number: u32) -> Vec<FencingToken> {
        if !context.makes(Mistake::CountsTokens) {
            self.data.token = self.data.token.max(now_ms * 1000);
        }
        (1..=u64::from(number)).map(|nth| FencingToken(self.data.token + nth)).collect()
    }

    fn hand_out(&mut self, context: &mut Context, leases: &[Lease]) {
        self.data.token += leases.len() as u64;
        context.judge.handed_out(context.now_us, leases);
    }

    fn claim(&mut self, context: &mut Context, now_ms: u64, policy: &Arc<Policy>, slots: u32) -> (Heard, bool) {
        self.data.model.follow(policy);
        let slots = slots.min(LEASES);
        let tokens = self.tokens(context, now_ms, slots);
        let (leases, waiting, next_due_ms) = self.data.model.claim(now_ms, slots as usize, &tokens);
        self.hand_out(context, &leases);
        (Ok(Answer::Claimed { leases, waiting, next_due_ms }), waiting > 0)
    }

    fn reclaim(&mut self, context: &mut Context, now_ms: u64, policy: &Arc<Policy>) -> (Heard, bool) {
        self.data.model.follow(policy);
        let tokens = self.tokens(context, now_ms, LEASES);
        let (requeued, leases) = self.data.model.reclaim(now_ms, &tokens);
        if requeued > 0 || !leases.is_empty() {
            context.coverage.count("reclaimed");
        }
        self.hand_out(context, &leases);
        (Ok(Answer::Reclaimed { requeued, leases }), requeued > 0)
    }

    fn settle(
        &mut self,
        context: &mut Context,
        now_ms: u64,
        policy: &Arc<Policy>,
        settlements: &[Settlement],
    ) -> (Heard, bool) {
        self.data.model.follow(policy);
        let mut answers = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let mut settlement = settlement.clone();
            let task = self.data.model.tasks.get_mut(&settlement.lease.task_id);
            if let Some(task) = task {
                if context.makes(Mistake::LeaksHolds) {
                    task.envelope.holds.clear();
                }
                if let (true, State::Leased { token, .. }) = (context.makes(Mistake::SettlesWithoutToken), &task.state)
                {
                    settlement.lease.token = *token;
                }
            }
            let settled = self.data.model.settle(now_ms, &settlement);
            context.coverage.count(match settled {
                Settled::Stale => "stale settlement",
                Settled::Done(status) => status.as_str(),
            });
            answers.push(settled);
        }
        context.judge.settled(context.now_us, settlements, &answers);
        let again = answers.contains(&Settled::Done(TaskStatus::Queued));
        (Ok(Answer::Settled(answers)), again)
    }

    fn cancel(&mut self, context: &mut Context, now_ms: u64, policy: &Arc<Policy>, id: &TaskId, principal: &str) {
        self.data.model.follow(policy);
        let is_over = |model: &Model| matches!(model.tasks.get(id).map(|task| &task.state), Some(State::Ended { .. }));
        let was_over = is_over(&self.data.model);
        self.data.model.cancel(now_ms, id, principal);
        if !was_over && is_over(&self.data.model) {
            context.coverage.count("cancelled while it waited");
            context.judge.ended(context.now_us, id, "cancelled");
        }
    }
}
