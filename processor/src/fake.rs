//! A store in memory, and the things tests are made of.
//!
//! Responsible for behaving as the scripts promise, with faults on request. Tests wait for what they expect to see in
//! it and never for time to pass.

mod policy;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use portcullis_config::UserType;
use portcullis_lua::{
    Change, Claimed, CompiledPolicy, Envelope, FencingToken, Heartbeat, Lease, Outcome, PolicyStamp, Purpose,
    Reclaimed, Renewal, RevocationView, Settled, Settlement, StoreError, TaskId, TaskStatus,
};
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::attempt::Runner;
use crate::clock::RedisClock;
use crate::handler::{AttemptContext, Handlers};
use crate::output::{self, OutputWriter};
use crate::policy::ScopePolicy;
use crate::store::{TaskStore, Wake};
use crate::worker::Occupancy;

pub(crate) use policy::{live, policy, scope, stored};

/// The Redis clock, which stands still.
pub(crate) const NOW_MS: u64 = 1_700_000_000_005;

/// What is in the store and what has been done to it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own, and any of them go together")]
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// For `claim`.
    pub(crate) waiting: VecDeque<Lease>,
    /// For `reclaim`.
    pub(crate) lapsed: Vec<Lease>,
    /// Every call fails.
    pub(crate) outage: bool,
    /// Nobody is woken for what is waiting.
    pub(crate) wakes_nobody: bool,
    /// Claims take effect, and are not answered before this is false again.
    pub(crate) claim_hangs: bool,
    /// `settle` does not answer before this is false again.
    pub(crate) settle_hangs: bool,
    /// Tokens whose settlement Redis refuses.
    pub(crate) refused: HashSet<FencingToken>,
    /// Tokens that are no longer the newest.
    pub(crate) stale: HashSet<FencingToken>,
    /// Answers at renewal other than `Held`.
    pub(crate) renewals: HashMap<FencingToken, Renewal>,
    /// This many calls of `append_output` take effect but lose their answer.
    pub(crate) lost_answers: u32,
    /// What heartbeats are told.
    pub(crate) stored: PolicyStamp,
    /// The policy is not told before this is false again.
    pub(crate) policy_hangs: bool,
    /// The policy is asked for in vain, although Redis answers.
    pub(crate) policy_unusable: bool,

    /// What is revoked.
    pub(crate) revoked: Arc<RevocationView>,
    /// With which numbers it was asked for.
    pub(crate) revocations_asked: Vec<Option<u64>>,

    /// For claims to tell.
    pub(crate) next_due_ms: Option<u64>,

    pub(crate) claims: Vec<u32>,
    /// Claims that wait for work first.
    pub(crate) waits: Vec<u32>,
    pub(crate) settle_calls: usize,
    pub(crate) batches: Vec<usize>,
    pub(crate) settled: Vec<Settlement>,
    pub(crate) beats: Vec<Heartbeat>,
    pub(crate) left: Vec<String>,
    pub(crate) output: Vec<Bytes>,
    pub(crate) renew_calls: Vec<usize>,
    /// Calls of `catch_up`, `hear` and `force_boot`.
    pub(crate) looks: Vec<Look>,
}

/// How the stored policy was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    CatchUp,
    Hear(PolicyStamp),
    ForceBoot,
}

/// The store in memory.
#[derive(Debug)]
pub(crate) struct FakeStore {
    contents: watch::Sender<Contents>,
    pub(crate) changes: broadcast::Sender<Change>,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self { contents: watch::Sender::default(), changes: broadcast::Sender::new(16) }
    }
}

impl FakeStore {
    pub(crate) fn with(contents: Contents) -> Arc<Self> {
        Arc::new(Self { contents: watch::Sender::new(contents), ..Self::default() })
    }

    /// Changes the contents and wakes everyone who waits for it.
    pub(crate) fn change<T>(&self, work: impl FnOnce(&mut Contents) -> T) -> T {
        let mut done = None;
        self.contents.send_modify(|contents| done = Some(work(contents)));
        done.unwrap()
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Contents) -> T) -> T {
        work(&self.contents.borrow())
    }

    /// Waits until the contents are so; longer than any test lasts is in vain.
    pub(crate) async fn until(&self, so: impl FnMut(&Contents) -> bool) {
        let mut contents = self.contents.subscribe();
        tokio::time::timeout(Duration::from_secs(3600), contents.wait_for(so)).await.expect("it becomes so").unwrap();
    }

    pub(crate) fn outcomes(&self) -> Vec<(FencingToken, &'static str)> {
        self.read(|contents| contents.settled.iter().map(|done| (done.lease.token, word(&done.outcome))).collect())
    }

    fn call<T>(&self, work: impl FnOnce(&mut Contents) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.change(|contents| if contents.outage { Err(down()) } else { work(contents) })
    }

    async fn look(&self, look: Look) -> Result<(), StoreError> {
        self.until(|contents| !contents.policy_hangs).await;
        self.call(|contents| {
            contents.looks.push(look);
            if contents.policy_unusable { Err(StoreError::Protocol("no policy".to_owned())) } else { Ok(()) }
        })
    }
}

#[async_trait]
impl TaskStore for FakeStore {
    async fn revocations(&self, number: Option<u64>) -> Result<Arc<RevocationView>, StoreError> {
        self.call(|contents| {
            contents.revocations_asked.push(number);
            Ok(Arc::clone(&contents.revoked))
        })
    }

    async fn renew(
        &self,
        _policy: &CompiledPolicy,
        leases: &[(TaskId, FencingToken)],
    ) -> Result<Vec<Renewal>, StoreError> {
        self.call(|contents| {
            contents.renew_calls.push(leases.len());
            let answer = |token| contents.renewals.get(token).copied().unwrap_or(Renewal::Held);
            Ok(leases.iter().map(|(_, token)| answer(token)).collect())
        })
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.change(|contents| contents.settle_calls += 1);
        self.until(|contents| !contents.settle_hangs).await;
        self.call(|contents| {
            contents.batches.push(settlements.len());
            if settlements.iter().any(|settlement| contents.refused.contains(&settlement.lease.token)) {
                return Err(StoreError::Protocol("refused".to_owned()));
            }
            let settled = settlements.iter().map(|settlement| {
                if contents.stale.contains(&settlement.lease.token) {
                    return Settled::Stale;
                }
                contents.settled.push(settlement.clone());
                Settled::Done(TaskStatus::Succeeded)
            });
            Ok(settled.collect())
        })
    }

    async fn reclaim(&self, _policy: &CompiledPolicy) -> Result<Reclaimed, StoreError> {
        self.call(|contents| {
            Ok(Reclaimed { now_ms: NOW_MS, requeued: 0, leases: std::mem::take(&mut contents.lapsed) })
        })
    }

    async fn heartbeat(&self, _policy: &CompiledPolicy, beat: &Heartbeat) -> Result<PolicyStamp, StoreError> {
        self.call(|contents| {
            contents.beats.push(beat.clone());
            Ok(contents.stored)
        })
    }

    async fn leave(&self, worker: &str) -> Result<(), StoreError> {
        self.call(|contents| {
            contents.left.push(worker.to_owned());
            Ok(())
        })
    }

    async fn append_output(&self, lease: &Lease, before: u64, pieces: Vec<Bytes>) -> Result<bool, StoreError> {
        self.call(|contents| {
            if contents.stale.contains(&lease.token) {
                return Ok(false);
            }
            let there = contents.output.len() - before as usize;
            contents.output.extend(pieces.into_iter().skip(there));
            if contents.lost_answers > 0 {
                contents.lost_answers -= 1;
                return Err(down());
            }
            Ok(true)
        })
    }

    fn waker(&self) -> Box<dyn Wake> {
        Box::new(FakeWaker { contents: self.contents.clone() })
    }

    async fn changes(&self) -> Result<broadcast::Receiver<Change>, StoreError> {
        Ok(self.changes.subscribe())
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        self.look(Look::CatchUp).await
    }

    async fn hear(&self, stored: PolicyStamp) -> Result<(), StoreError> {
        self.look(Look::Hear(stored)).await
    }

    async fn force_boot(&self) -> Result<bool, StoreError> {
        self.look(Look::ForceBoot).await.map(|()| true)
    }
}

struct FakeWaker {
    contents: watch::Sender<Contents>,
}

#[async_trait]
impl Wake for FakeWaker {
    async fn claim_now(&mut self, _policy: &CompiledPolicy, slots: u32) -> Result<Claimed, StoreError> {
        self.answer(slots).await
    }

    async fn claim(
        &mut self,
        _policy: &CompiledPolicy,
        slots: u32,
        limit: Duration,
        hurry: &CancellationToken,
    ) -> Result<Claimed, StoreError> {
        self.contents.send_modify(|contents| contents.waits.push(slots));
        let mut contents = self.contents.subscribe();
        let arrived =
            contents.wait_for(|contents| contents.outage || (!contents.wakes_nobody && !contents.waiting.is_empty()));
        tokio::select! {
            _ = arrived => {}
            () = sleep(limit) => {}
            () = hurry.cancelled() => {}
        }
        self.answer(slots).await
    }
}

impl FakeWaker {
    /// Claims, and answers when it may.
    async fn answer(&self, slots: u32) -> Result<Claimed, StoreError> {
        let answer = claimed(&self.contents, slots);
        let mut contents = self.contents.subscribe();
        _ = contents.wait_for(|contents| !contents.claim_hangs).await;
        answer
    }
}

/// What a claim does, whoever sent it.
fn claimed(contents: &watch::Sender<Contents>, slots: u32) -> Result<Claimed, StoreError> {
    let mut answer = Err(down());
    contents.send_modify(|contents| {
        if contents.outage {
            return;
        }
        contents.claims.push(slots);
        let count = contents.waiting.len().min(slots as usize);
        let leases = contents.waiting.drain(..count).collect();
        let (waiting, next_due_ms) = (contents.waiting.len() as u64, contents.next_due_ms);
        let revocations = contents.revoked.number();
        answer = Ok(Claimed { now_ms: NOW_MS, revocations, leases, waiting, next_due_ms });
    });
    answer
}

fn down() -> StoreError {
    StoreError::Unavailable("down".to_owned())
}

/// The name of an outcome.
pub(crate) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded { .. } => "succeeded",
        Outcome::Failed { .. } => "failed",
        Outcome::Retry { .. } => "retry",
        Outcome::Cancelled => "cancelled",
        Outcome::Revoked { .. } => "revoked",
        Outcome::Expired => "expired",
        Outcome::Dead { .. } => "dead",
        Outcome::HandedBack => "handed back",
    }
}

/// A lease to run, first of three attempts, without a deadline.
pub(crate) fn lease(kind: &str, token: u64) -> Lease {
    Lease {
        task_id: TaskId::generate(),
        token: FencingToken(token),
        attempt: 1,
        max_attempts: 3,
        created_ms: 1_700_000_000_000,
        claimed_ms: NOW_MS,
        deadline_ms: None,
        probe_epoch: 0,
        purpose: Purpose::Run,
        envelope: Envelope {
            kind: kind.to_owned(),
            user_type: UserType::new("paid").unwrap(),
            session_id: "session-1".to_owned(),
            principal: "ada".to_owned(),
            actor: None,
            agents: Vec::new(),
            members: Vec::new(),
            issued_at_ms: 0,
            request_id: "request-1".to_owned(),
            traceparent: None,
            tracestate: None,
            content_type: "application/json".to_owned(),
            holds: Vec::new(),
        },
        payload: Bytes::from_static(b"{}"),
    }
}

pub(crate) fn runner(store: &Arc<FakeStore>, handlers: Handlers, policy: ScopePolicy) -> Runner {
    Runner {
        store: Arc::clone(store) as Arc<dyn TaskStore>,
        policy,
        scope: scope(),
        handlers,
        clock: RedisClock::new(),
        cutoff: CancellationToken::new(),
    }
}

pub(crate) fn occupancy(slots: Option<u32>) -> Arc<Occupancy> {
    Arc::new(Occupancy::new(slots))
}

/// What a handler gets, and where its output goes.
pub(crate) fn attempt_context(kind: &str, payload: &[u8]) -> (AttemptContext, Streamed) {
    let lease = lease(kind, 7);
    let (output, writer) = output::channel();
    let context = AttemptContext {
        task_id: lease.task_id.clone(),
        scope: scope(),
        number: lease.attempt,
        max_attempts: lease.max_attempts,
        token: lease.token,
        deadline_ms: 1_700_000_060_005,
        envelope: lease.envelope.clone(),
        payload: Bytes::copy_from_slice(payload),
        max_result_bytes: 1 << 20,
        cancelled: CancellationToken::new(),
        output,
    };
    (context, Streamed { writer, lease })
}

/// The output of a handler that was called without a processor around it.
pub(crate) struct Streamed {
    writer: OutputWriter,
    lease: Lease,
}

impl Streamed {
    /// Everything streamed so far.
    pub(crate) async fn pieces(self) -> Vec<String> {
        let (store, answered) = (FakeStore::default(), CancellationToken::new());
        answered.cancel();
        self.writer.write(&store, &self.lease, answered).await.unwrap();
        store.read(|contents| contents.output.iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect())
    }
}
