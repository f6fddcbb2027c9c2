//! The life of a task between its admission and its end: leases, renewals, output, lapses.
//!
//! Must never let two states of a task be true at once: a task has one [`State`].

use portcullis_lua::{
    AdmitRequest, Attempt, Envelope, FencingToken, Hold, Lease, OutputId, Purpose, Renewal, TaskError, TaskId,
    TaskRecord, TaskResult, TaskStatus,
};

use super::Model;

/// Most leases a reclaim takes back, and most tasks whose time has come that a claim moves.
const BATCH: usize = 64;

/// A task.
#[derive(Clone, Debug)]
pub struct Task {
    /// What it was admitted as.
    pub request: AdmitRequest,
    /// What is kept of it beside its payload.
    pub envelope: Envelope,
    /// Time of its admission, ms.
    pub created_ms: u64,
    /// When it is worth nothing any more, ms.
    pub deadline_ms: Option<u64>,
    /// Half-open phase it is a probe of; 0 for none.
    pub epoch: u64,
    /// Where it is now.
    pub state: State,
    /// Runs so far.
    pub runs: u32,
    /// Runs that do not count.
    pub spared: u32,
    /// Start and end of each run that is over.
    pub history: Vec<(u64, u64)>,
    /// Its caller wants it no more, but a processor has it.
    pub cancelled: bool,
    /// Positions of what its runs have written.
    pub output: Vec<OutputId>,
}

/// Where a task is.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "times in ms; the names say the rest")]
pub enum State {
    /// In the queue; the smallest tag runs next.
    Queued { tag: u64 },
    /// Waiting for its start or for its next attempt.
    Delayed { due_ms: u64 },
    /// In somebody's hands.
    Leased { token: FencingToken, until_ms: u64, purpose: Purpose, since_ms: u64 },
    /// Over.
    Ended { status: TaskStatus, at_ms: u64, result: Option<TaskResult>, error: Option<TaskError> },
}

impl Task {
    pub(super) fn new(request: &AdmitRequest, now_ms: u64, epoch: u64, holds: Vec<Hold>, state: State) -> Self {
        Self {
            envelope: Envelope {
                kind: request.kind.clone(),
                user_type: request.user_type.clone(),
                session_id: request.session_id.clone(),
                principal: request.principal.clone(),
                actor: request.actor.clone(),
                agents: request.provenance.hops.iter().map(|hop| hop.client_id.clone()).collect(),
                members: request.provenance.members.to_vec(),
                issued_at_ms: request.provenance.issued_at_ms.unwrap_or(0),
                request_id: request.request_id.clone(),
                traceparent: request.traceparent.clone(),
                tracestate: request.tracestate.clone(),
                content_type: request.content_type.clone(),
                holds,
            },
            request: request.clone(),
            created_ms: now_ms,
            deadline_ms: request.deadline_ms.map(|deadline_ms| now_ms + deadline_ms),
            epoch,
            state,
            runs: 0,
            spared: 0,
            history: Vec::new(),
            cancelled: false,
            output: Vec::new(),
        }
    }

    pub(super) fn is_of(&self, user_type: &str) -> bool {
        self.request.user_type.as_str() == user_type
    }

    /// Whether this token is the newest, and the lease it stands for is still out.
    #[must_use]
    pub fn is_held_under(&self, held: FencingToken) -> bool {
        matches!(self.state, State::Leased { token, .. } if token == held)
    }

    /// Whether somebody has it.
    #[must_use]
    pub fn is_leased(&self) -> bool {
        matches!(self.state, State::Leased { .. })
    }

    /// Whether every run that counts has been used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.runs - self.spared >= self.request.max_attempts
    }

    fn lease(&self, now_ms: u64, token: FencingToken, purpose: Purpose) -> Lease {
        Lease {
            task_id: self.request.task_id.clone(),
            token,
            attempt: self.runs,
            max_attempts: self.request.max_attempts + self.spared,
            created_ms: self.created_ms,
            claimed_ms: now_ms,
            deadline_ms: self.deadline_ms,
            probe_epoch: self.epoch,
            purpose,
            envelope: self.envelope.clone(),
            payload: self.request.payload.clone(),
        }
    }

    /// What anybody may know of it.
    #[must_use]
    pub fn record(&self) -> TaskRecord {
        let ended = self.history.iter().map(|(from_ms, to_ms)| (*from_ms, Some(*to_ms)));
        let (mut running, mut finished_ms, mut outcome) = (None, None, (None, None));
        let status = match &self.state {
            State::Leased { purpose: Purpose::Run, since_ms, .. } => {
                running = Some((*since_ms, None));
                TaskStatus::Running
            }
            State::Ended { status, at_ms, result, error } => {
                finished_ms = Some(*at_ms);
                outcome = (result.clone(), error.clone());
                *status
            }
            _ => TaskStatus::Queued,
        };
        let attempts = (1..).zip(ended.chain(running));
        TaskRecord {
            task_id: self.request.task_id.clone(),
            envelope: self.envelope.clone(),
            status,
            created_ms: self.created_ms,
            attempts: attempts
                .map(|(number, (started_ms, ended_ms))| Attempt { number, started_ms, ended_ms })
                .collect(),
            finished_ms,
            result: outcome.0,
            error: outcome.1,
        }
    }
}

impl Model {
    /// Leases the first tasks in the queue under these tokens; also how many still wait, and when the next is due.
    pub fn claim(&mut self, now_ms: u64, slots: usize, tokens: &[FencingToken]) -> (Vec<Lease>, u64, Option<u64>) {
        for (_, id) in self.delayed().into_iter().filter(|(due_ms, _)| *due_ms <= now_ms).take(BATCH) {
            if let Some(task) = self.tasks.get_mut(&id) {
                task.state = State::Queued { tag: self.virtual_time };
            }
        }
        let until_ms = now_ms + self.policy.queue.lease_ms;
        let mut tokens = tokens.iter().copied();
        let mut leases = Vec::new();
        for (tag, id) in self.queue().into_iter().take(slots) {
            self.virtual_time = self.virtual_time.max(tag);
            let token = tokens.next().unwrap_or(FencingToken(0));
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let purpose = match task.deadline_ms {
                Some(deadline_ms) if now_ms >= deadline_ms => Purpose::Expire,
                _ => Purpose::Run,
            };
            task.runs += u32::from(purpose == Purpose::Run);
            task.state = State::Leased { token, until_ms, purpose, since_ms: now_ms };
            leases.push(task.lease(now_ms, token, purpose));
        }
        let next_due_ms = self.delayed().first().map(|(due_ms, _)| due_ms.saturating_sub(now_ms));
        (leases, self.queue().len() as u64, next_due_ms)
    }

    /// Extends a lease, if it is the task's newest. Only under the stored policy, which is `current`, may it end sooner
    /// than before.
    pub fn renew(&mut self, now_ms: u64, id: &TaskId, held: FencingToken, current: bool) -> Renewal {
        let lease_ms = self.policy.queue.lease_ms;
        let Some(task) = self.tasks.get_mut(id) else { return Renewal::Lost };
        let cancelled = task.cancelled;
        match &mut task.state {
            State::Leased { token, until_ms, .. } if *token == held => {
                let renewed_ms = now_ms + lease_ms;
                *until_ms = if current { renewed_ms } else { renewed_ms.max(*until_ms) };
                if cancelled { Renewal::Cancelled } else { Renewal::Held }
            }
            _ => Renewal::Lost,
        }
    }

    /// Pieces the running attempt has written so far.
    #[must_use]
    pub fn written(&self, lease: &Lease) -> u64 {
        let Some(task) = self.tasks.get(&lease.task_id) else { return 0 };
        task.output.iter().filter(|id| id.attempt == u64::from(task.runs)).count() as u64
    }

    /// Appends output under a lease; `false` if it is not the task's newest.
    pub fn append_output(&mut self, lease: &Lease, pieces: usize) -> bool {
        let written = self.written(lease);
        let Some(task) = self.tasks.get_mut(&lease.task_id) else { return false };
        if !task.is_held_under(lease.token) {
            return false;
        }
        let attempt = u64::from(task.runs);
        task.output.extend((1..=pieces as u64).map(|piece| OutputId { attempt, piece: written + piece }));
        true
    }

    /// Takes back lapsed leases: how many are to run again, and those to be ended, under these tokens.
    pub fn reclaim(&mut self, now_ms: u64, tokens: &[FencingToken]) -> (u64, Vec<Lease>) {
        let next_until_ms = now_ms + self.policy.queue.lease_ms;
        let mut tokens = tokens.iter().copied();
        let (mut requeued, mut leases) = (0, Vec::new());
        for (_, id) in self.leased().into_iter().filter(|(until_ms, _)| *until_ms <= now_ms).take(BATCH) {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            let State::Leased { mut purpose, since_ms, .. } = task.state else { continue };
            if purpose == Purpose::Run {
                task.history.push((since_ms, now_ms));
                if task.cancelled {
                    purpose = Purpose::Cancel;
                } else if task.is_used_up() {
                    purpose = Purpose::Bury;
                } else {
                    task.state = State::Queued { tag: 0 };
                    requeued += 1;
                    continue;
                }
            }
            let token = tokens.next().unwrap_or(FencingToken(0));
            task.state = State::Leased { token, until_ms: next_until_ms, purpose, since_ms: now_ms };
            leases.push(task.lease(now_ms, token, purpose));
        }
        (requeued, leases)
    }

    /// Cancels for the task's principal; what is known of it then.
    pub fn cancel(&mut self, now_ms: u64, id: &TaskId, principal: &str) -> Option<TaskRecord> {
        let task = self.tasks.get_mut(id).filter(|task| task.request.principal == principal)?;
        match task.state {
            State::Ended { .. } => {}
            State::Leased { .. } => task.cancelled = true,
            State::Queued { .. } | State::Delayed { .. } => self.end_unrun(now_ms, id),
        }
        self.tasks.get(id).map(Task::record)
    }
}
