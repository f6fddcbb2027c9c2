//! Random histories of a scope, on the scripts and on the model at once.
//!
//! Responsible for comparing every answer, and at the end everything that is stored. Must never let Redis's own clock
//! into it: a key that would lapse by that clock within a test is kept from lapsing.

mod pass;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use portcullis_config::Policy;
use portcullis_config::policy::Period;
use portcullis_loadtest::cluster::stand_in_beat;
use portcullis_loadtest::model::{Model, Ticks, period_end_ms};
use portcullis_lua::{
    AdmitRequest, CompiledPolicy, Decision, FencingToken, Lease, OutputId, PassLease, PassTerms, PolicyStamp, Purpose,
    Reason, Settlement, TaskId, Verdict,
};
use proptest::test_runner::{Config, TestError, TestRunner};
use tokio::runtime::Runtime;

use super::cast::{CALLERS, LOOK, failing, outcome, tight, to_request};
use super::operation::{Ask, End, Jump, Operation, Pick, history};
use super::stage::{Act, Stage, cases};
use super::ticks::ticks_of;

/// Starts: an ordinary second; the ends of a leap year's February, of a year, of a month in spring, and of February in
/// the century's year that is no leap year.
const STARTS_MS: [u64; 5] =
    [1_772_445_611_123, 1_835_481_599_000, 1_798_761_590_500, 1_777_593_599_999, 4_107_542_390_250];
const LENGTH: usize = 100;
const PERIODS: [Period; 5] = [Period::Minute, Period::Hour, Period::Day, Period::Week, Period::Month];

/// One history being played.
struct Play<'a> {
    act: &'a Act,
    policy: &'a CompiledPolicy,
    model: Model,
    now_ms: u64,
    leases: Vec<Lease>,
    passes: Vec<PassLease>,
    tasks: Vec<TaskId>,
    newest: FencingToken,
    seen: BTreeSet<String>,
}

/// Plays a history to its end, comparing everything. Panics at the first difference. Returns the answers that came up.
async fn play(
    act: &Act,
    policy: &CompiledPolicy,
    model: Model,
    start_ms: u64,
    operations: &[Operation],
) -> BTreeSet<String> {
    let (newest, seen) = (FencingToken(0), BTreeSet::new());
    let (leases, passes, tasks) = (Vec::new(), Vec::new(), Vec::new());
    let mut play = Play { act, policy, model, now_ms: start_ms, leases, passes, tasks, newest, seen };
    play.operation(&Operation::Beat { worker: 0, slots: 4, draining: false }).await;
    for operation in operations {
        play.operation(operation).await;
        play.compare_views(operation).await;
    }
    play.compare_the_rest().await;
    play.compare_keys().await;
    play.compare_passes().await;
    play.seen
}

impl Play<'_> {
    async fn operation(&mut self, operation: &Operation) {
        if let Operation::Admit(asks) = operation
            && asks.iter().any(|ask| ask.pass.is_some_and(|terms| terms.lease_ms == 0))
        {
            // What is spent at once may be all that an account says.
            self.leave_boundary();
        }
        let store = self.act.store.at(self.now_ms);
        match operation {
            Operation::Pass(jump) => self.now_ms = self.after(*jump),
            Operation::Beat { worker, slots, draining } => {
                let mut beat = stand_in_beat(format!("w{worker}"), *slots);
                beat.draining = *draining;
                store.heartbeat(self.policy, &beat).await.expect("an answer");
                self.model.heartbeat(self.now_ms, &beat);
            }
            Operation::Leave { worker } => {
                store.leave(&format!("w{worker}")).await.expect("an answer");
                self.model.leave(&format!("w{worker}"));
            }
            Operation::Admit(asks) => {
                let requests: Vec<AdmitRequest> = asks.iter().map(to_request).collect();
                let decisions = store.admit(self.policy, &requests).await.expect("an answer");
                self.keep_accounts().await;
                self.note_passes(decisions.iter().map(|decision| &decision.verdict));
                for (asked, decision) in requests.iter().zip(decisions) {
                    self.see(match &decision.verdict {
                        Verdict::Refused(refusal) => refusal.reason.code(),
                        Verdict::Replayed { .. } => "replayed",
                        Verdict::Admitted { .. } => "admitted",
                        Verdict::Passed { lease } => lease.as_ref().map_or("decided", |_| "passed"),
                    });
                    assert_eq!(decision, self.model.admit(self.now_ms, asked), "{asked:?}");
                }
                self.tasks = self.model.tasks.keys().cloned().collect();
            }
            Operation::Peek(asks) => {
                let requests: Vec<AdmitRequest> = asks.iter().map(to_request).collect();
                let decisions = store.peek(self.policy, &requests).await.expect("an answer");
                for (asked, decision) in requests.iter().zip(decisions) {
                    assert_eq!(decision, self.model.peek(self.now_ms, asked), "a look ahead: {asked:?}");
                }
            }
            Operation::Claim { slots } => self.claim(*slots).await,
            Operation::Renew(picks) => {
                let held: Vec<_> =
                    self.picked(picks).iter().map(|lease| (lease.task_id.clone(), lease.token)).collect();
                let renewals = store.renew(self.policy, &held).await.expect("an answer");
                for ((id, token), renewal) in held.iter().zip(renewals) {
                    self.see(format!("renewal {renewal:?}"));
                    assert_eq!(renewal, self.model.renew(self.now_ms, id, *token, true), "renewal of {id}");
                }
            }
            Operation::Write { lease, pieces } => {
                // Only who runs a task has output.
                for lease in self.picked(&[*lease]).iter().filter(|lease| lease.purpose == Purpose::Run) {
                    let (before, data) = (self.model.written(lease), vec!["x".into(); *pieces]);
                    let expected = self.model.append_output(lease, *pieces);
                    // The second call is the first one repeated: it finds the pieces there.
                    for call in ["first", "repeated"] {
                        let written = store.append_output(self.policy, lease, before, data.clone()).await;
                        assert_eq!(written, Ok(expected), "output of {}, {call} call", lease.task_id);
                    }
                }
            }
            Operation::Settle(ends) => self.settle(ends).await,
            Operation::Reclaim => {
                let reclaimed = store.reclaim(self.policy).await.expect("an answer");
                let tokens = self.new_tokens(&reclaimed.leases);
                let (requeued, leases) = self.model.reclaim(self.now_ms, &tokens);
                assert_eq!(format!("{:#?}", reclaimed.leases), format!("{leases:#?}"), "reclaimed");
                assert_eq!(reclaimed.requeued, requeued);
                self.leases.extend(reclaimed.leases);
            }
            Operation::Finish(leavings) => self.finish(leavings).await,
            Operation::Extend(lastings) => self.extend(lastings).await,
            Operation::Lapse => self.lapse().await,
            Operation::Cancel { task, by_owner } => self.cancel(*task, *by_owner).await,
        }
    }

    /// An idle processor takes the token before it claims, so that the claim must leave one if tasks still wait.
    async fn claim(&mut self, slots: u32) {
        self.act.probe.command("LPOP", [&self.act.key("wake")]).await.expect("an answer");
        let claimed = self.act.store.at(self.now_ms).claim(self.policy, slots).await.expect("an answer");
        let tokens = self.new_tokens(&claimed.leases);
        let (leases, waiting, next_due_ms) = self.model.claim(self.now_ms, slots as usize, &tokens);
        assert_eq!(format!("{:#?}", claimed.leases), format!("{leases:#?}"), "claimed");
        assert_eq!((claimed.waiting, claimed.next_due_ms), (waiting, next_due_ms));
        self.leases.extend(claimed.leases);
    }

    async fn settle(&mut self, ends: &[(Pick, End)]) {
        self.leave_boundary();
        let mut settlements = Vec::new();
        for (pick, end) in ends {
            for lease in self.picked(&[*pick]) {
                settlements.push(Settlement { lease, outcome: outcome(*end) });
            }
        }
        let settled = self.act.store.at(self.now_ms).settle(self.policy, &settlements).await.expect("an answer");
        self.keep_accounts().await;
        for (settlement, settled) in settlements.iter().zip(settled) {
            let (id, token) = (&settlement.lease.task_id, settlement.lease.token);
            self.see(format!("{settled:?}"));
            let expected = self.model.settle(self.now_ms, settlement);
            assert_eq!(settled, expected, "{id} under {token} settled as {:?}", settlement.outcome);
        }
    }

    async fn cancel(&mut self, task: Pick, by_owner: bool) {
        self.leave_boundary();
        if self.tasks.is_empty() {
            return;
        }
        let id = self.tasks[task.index(self.tasks.len())].clone();
        let principal = if by_owner { self.model.tasks[&id].request.principal.clone() } else { "mallory".to_owned() };
        let store = self.act.store.at(self.now_ms);
        let cancelled = store.cancel(self.policy, &id, &principal).await.expect("an answer");
        self.keep_accounts().await;
        let expected = self.model.cancel(self.now_ms, &id, &principal);
        assert_eq!(format!("{cancelled:#?}"), format!("{expected:#?}"), "cancelled");
    }

    /// An account that holds nothing lapses with its period, by Redis's clock: settle at the end of a minute only once
    /// it is over.
    fn leave_boundary(&mut self) {
        let ends_ms = period_end_ms(Period::Minute, self.now_ms);
        if ends_ms - self.now_ms < 5_000 {
            self.now_ms = ends_ms;
        }
    }

    async fn keep_accounts(&self) {
        for key in self.act.probe.keys(&self.act.key("budget:")).await.expect("keys") {
            self.act.probe.command("PERSIST", [key.as_str()]).await.expect("an answer");
        }
    }

    /// Tokens of new leases, each greater than any before.
    fn new_tokens(&mut self, leases: &[Lease]) -> Vec<FencingToken> {
        let tokens: Vec<FencingToken> = leases.iter().map(|lease| lease.token).collect();
        for Lease { token, purpose, .. } in leases {
            self.see(format!("lease to {purpose:?}"));
            assert!(*token > self.newest, "token {token} after {}", self.newest);
            self.newest = *token;
        }
        tokens
    }

    fn see(&mut self, answer: impl Into<String>) {
        self.seen.insert(answer.into());
    }

    /// Leases, four times in five such as are still out.
    fn picked(&self, picks: &[Pick]) -> Vec<Lease> {
        let is_out = |lease: &&Lease| self.model.tasks[&lease.task_id].is_held_under(lease.token);
        let out: Vec<&Lease> = self.leases.iter().filter(is_out).collect();
        let all: Vec<&Lease> = self.leases.iter().collect();
        let pick_one = |pick: &Pick| {
            let among = if pick.index(5) > 0 && !out.is_empty() { &out } else { &all };
            (!among.is_empty()).then(|| among[pick.index(among.len())].clone())
        };
        picks.iter().filter_map(pick_one).collect()
    }

    fn after(&self, jump: Jump) -> u64 {
        let to = |at_ms: Option<u64>, after_ms: i64| at_ms.and_then(|at_ms| at_ms.checked_add_signed(after_ms));
        let then_ms = match jump {
            Jump::Ms(ms) => Some(self.now_ms + ms),
            Jump::Seconds(seconds) => Some(self.now_ms + seconds * 1000),
            Jump::Hours(hours) => Some(self.now_ms + hours * 3_600_000),
            Jump::PeriodEnd(period, after_ms) => to(Some(period_end_ms(PERIODS[period], self.now_ms)), after_ms),
            Jump::BeatLapse(after_ms) => to(self.model.next_beat_lapse_ms(self.now_ms), after_ms),
            Jump::LeaseLapse(after_ms) => to(self.model.next_lease_lapse_ms(self.now_ms), after_ms),
            Jump::PassLapse(after_ms) => to(self.model.next_pass_lapse_ms(self.now_ms), after_ms),
            Jump::Deadline(after_ms) => to(self.model.next_deadline_ms(self.now_ms), after_ms),
            Jump::Probe(after_ms) => to(self.model.next_probe_ms(self.now_ms), after_ms),
        };
        then_ms.unwrap_or(self.now_ms).max(self.now_ms)
    }

    /// What anybody can see of the scope, and what the next request of either kind would be told.
    async fn compare_views(&self, operation: &Operation) {
        let store = self.act.store.at(self.now_ms);
        let view = store.queues(self.policy).await.expect("an answer");
        assert_eq!(view, self.model.queues(self.now_ms), "after {operation:?}");
        let breakers = store.breakers(self.policy).await.expect("an answer");
        assert_eq!(breakers, self.model.breakers(self.now_ms), "after {operation:?}");
        let pass = Some(PassTerms { lease_ms: 1000, throttled: true });
        let looks = [(0, None), (1, None), (1, pass), (2, pass), (3, pass)];
        let looks = looks.map(|(kind, pass)| to_request(&Ask { kind, pass, ..LOOK }));
        let decisions = store.peek(self.policy, &looks).await.expect("an answer");
        let expected = looks.map(|look| self.model.peek(self.now_ms, &look));
        assert_eq!(decisions, expected, "after {operation:?}");
        let tokens = self.act.probe.command("LLEN", [&self.act.key("wake")]).await.expect("an answer");
        let tokens = tokens.as_u64().expect("a number");
        assert!(tokens <= 1, "{tokens} wake-ups");
        assert!(tokens == 1 || view.queued == 0, "{} wait and nobody is woken, after {operation:?}", view.queued);
    }

    async fn compare_the_rest(&self) {
        let store = self.act.store.at(self.now_ms);
        for id in &self.tasks {
            let record = store.task(id).await.expect("an answer").expect("a known task");
            assert_eq!(format!("{record:#?}"), format!("{:#?}", self.model.tasks[id].record()));
            let output = store.output(id, OutputId::default(), 1000).await.expect("an answer");
            assert_eq!(output.iter().map(|piece| piece.id).collect::<Vec<_>>(), self.model.output(id));
        }
        for caller in 0..CALLERS.len() {
            let asked = to_request(&Ask { caller, ..LOOK });
            let decisions = store.peek(self.policy, std::slice::from_ref(&asked)).await.expect("an answer");
            assert_eq!(decisions[0], self.model.peek(self.now_ms, &asked), "limits and budgets of {caller}");
        }
        let events = store.decisions(10_000).await.expect("an answer");
        let said = events.iter().rev().map(|event| {
            let said = [&event.name, &event.task_id, &event.pass_id];
            (event.depth, event.capacity, said.map(|said| said.as_deref()))
        });
        let said: Vec<_> = said.collect();
        let made: Vec<_> = self.model.decisions.iter().map(said_of).collect();
        assert_eq!(said, made, "every decision has its event, in order");
    }

    /// Every task is in exactly one place, in the right order, and nothing is left of those that have ended.
    async fn compare_keys(&self) {
        for (name, expected) in [
            ("queue", self.model.queue()),
            ("delayed", self.model.delayed()),
            ("lease", self.model.leased()),
            ("dead", self.model.dead.clone()),
        ] {
            let members = self.strings("ZRANGE", [&self.act.key(name), "0", "-1"]).await;
            let expected: Vec<String> = expected.into_iter().map(|(_, id)| id.to_string()).collect();
            assert_eq!(members, expected, "{name}");
        }
        let alive: Vec<_> = [self.model.queue(), self.model.delayed(), self.model.leased()].concat();
        let kept = alive.iter().chain(&self.model.dead).map(|(_, id)| id.to_string()).collect::<BTreeSet<_>>();
        assert_eq!(BTreeSet::from_iter(self.strings("HKEYS", [&self.act.key("task")]).await), kept, "records");
        let known = |id: &TaskId| self.model.tasks[id].runs > 0 || self.model.tasks[id].is_leased();
        let expected: BTreeSet<_> = alive.iter().filter(|(_, id)| known(id)).map(|(_, id)| id.to_string()).collect();
        let runs = BTreeSet::from_iter(self.strings("HKEYS", [&self.act.key("run")]).await);
        assert!(expected.is_subset(&runs), "runs: {expected:?} and not {runs:?}");
        assert!(runs.is_subset(&alive.iter().map(|(_, id)| id.to_string()).collect()), "runs of ended tasks");
        let cancelled = self.strings("SMEMBERS", [&self.act.key("cancelled")]).await;
        let expected: BTreeSet<_> =
            alive.iter().filter(|(_, id)| self.model.tasks[id].cancelled).map(|(_, id)| id.to_string()).collect();
        assert_eq!(BTreeSet::from_iter(cancelled), expected, "to be cancelled");
    }

    async fn strings<const N: usize>(&self, command: &'static str, args: [&str; N]) -> Vec<String> {
        let answer = self.act.probe.command(command, args).await.expect("an answer");
        answer.convert().expect("strings")
    }
}

/// What the event of a decision says of it.
fn said_of(decision: &Decision) -> (u64, u64, [Option<&str>; 3]) {
    let (name, task_id, pass_id) = match &decision.verdict {
        Verdict::Refused(refusal) => (refusal.name.as_deref(), None, None),
        Verdict::Admitted { task_id, .. } | Verdict::Replayed { task_id } => (None, Some(task_id.as_str()), None),
        Verdict::Passed { lease } => (None, None, lease.as_ref().map(|lease| lease.pass_id.as_str())),
    };
    (decision.depth, decision.capacity, [name, task_id, pass_id])
}

/// Plays this many random histories under a policy; the shortest that goes wrong is told. Returns the answers that came
/// up.
pub(crate) fn play_many(runtime: &Runtime, stage: &Stage, policy: &Policy, number: usize) -> BTreeSet<String> {
    let seen = RefCell::new(BTreeSet::new());
    let compiled = CompiledPolicy::new(policy, PolicyStamp::NONE);
    let ticks: Ticks = runtime.block_on(ticks_of(stage, &compiled, &["anonymous", "registered", "paid", "privileged"]));
    let mut runner = TestRunner::new(Config {
        cases: number as u32,
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..Config::default()
    });
    let played = runner.run(&(0..STARTS_MS.len(), history(LENGTH)), |(start, operations)| {
        let act = stage.act();
        let model = Model::new(&Arc::new(policy.clone()), ticks.clone());
        let answers = runtime.block_on(play(&act, &compiled, model, STARTS_MS[start], &operations));
        seen.borrow_mut().extend(answers);
        runtime.block_on(act.strike());
        Ok(())
    });
    match played {
        Ok(()) => seen.into_inner(),
        Err(TestError::Fail(reason, case)) => panic!("{reason}\nthe shortest history found: {case:#?}"),
        Err(abort) => panic!("{abort}"),
    }
}

#[test]
fn random_histories_go_as_the_rules_say() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::set());
    let seen = play_many(&runtime, &stage, &tight(), cases(200));
    let purposes = ["Run", "Expire", "Cancel", "Bury"].map(|purpose| format!("lease to {purpose}"));
    let renewals = ["Held", "Cancelled", "Lost"].map(|renewal| format!("renewal {renewal}"));
    let statuses = ["Queued", "Succeeded", "Failed", "Dead", "Cancelled", "Expired"];
    let settled = statuses.map(|status| format!("Done({status})"));
    let mut all: BTreeSet<String> = Reason::ALL.map(|reason| reason.code().to_owned()).into();
    all.extend(["admitted", "replayed", "Stale", "passed", "decided"].map(str::to_owned));
    let of_passes = ["pass ended", "pass lost", "pass extended", "pass not extended", "pass lapsed"];
    all.extend(of_passes.map(str::to_owned));
    all.extend(purposes.into_iter().chain(renewals).chain(settled));
    if cases(200) >= 20 {
        assert_eq!(seen, all, "histories that are too tame");
    }
}

#[test]
fn random_histories_of_a_failing_backend_go_as_the_rules_say() {
    let runtime = Runtime::new().expect("a runtime");
    let stage = runtime.block_on(Stage::set());
    let seen = play_many(&runtime, &stage, &failing(), cases(200));
    assert!(seen.contains("circuit_open"), "the breaker never opened");
}
