//! The end of an attempt and of a task: what is committed, released, counted and kept.
//!
//! Must never end a task twice: only a leased or a waiting one ends.

use portcullis_lua::{Outcome, Purpose, Settled, Settlement, TaskError, TaskId, TaskResult, TaskStatus};

use super::breaker::Sign;
use super::{Model, State};

/// What becomes of a task.
enum Fate {
    Again(State),
    End(TaskStatus, Option<TaskResult>, Option<TaskError>),
}

impl Model {
    /// Settles an attempt, if its token is the task's newest.
    pub fn settle(&mut self, now_ms: u64, settlement: &Settlement) -> Settled {
        let (lease, outcome) = (&settlement.lease, &settlement.outcome);
        let Some(task) = self.tasks.get_mut(&lease.task_id) else { return Settled::Stale };
        let State::Leased { token, purpose, since_ms, .. } = task.state else { return Settled::Stale };
        if token != lease.token {
            return Settled::Stale;
        }
        let ran = purpose == Purpose::Run;
        if ran && !matches!(outcome, Outcome::Revoked { .. }) {
            task.history.push((since_ms, now_ms));
        }
        let (kind, epoch, fate) = (task.request.kind.clone(), task.epoch, fate(task, now_ms, ran, outcome));
        let took_ms = now_ms - since_ms;
        let slow = took_ms > self.policy.breaker_of(&kind).slow_call_ms;
        let sign = match outcome {
            Outcome::Succeeded { .. } | Outcome::Failed { .. } => Some(Sign::Success(slow)),
            Outcome::Retry { .. } | Outcome::Dead { .. } => Some(Sign::Failure),
            Outcome::Cancelled | Outcome::Revoked { .. } | Outcome::Expired => Some(Sign::None),
            // A probe that was handed back is still one, unless it is over.
            Outcome::HandedBack => matches!(fate, Fate::End(..)).then_some(Sign::None),
        };
        if let Some(sign) = sign {
            self.feed(now_ms, &kind, epoch, sign);
            if ran && sign != Sign::None {
                self.measure(took_ms.max(1) as f64);
            }
        }
        match fate {
            Fate::Again(state) => {
                if let Some(task) = self.tasks.get_mut(&lease.task_id) {
                    task.spared += u32::from(ran && matches!(outcome, Outcome::HandedBack));
                    task.state = state;
                }
                Settled::Done(TaskStatus::Queued)
            }
            Fate::End(status, result, error) => {
                self.release(now_ms, &lease.task_id, outcome);
                if let Some(task) = self.tasks.get_mut(&lease.task_id) {
                    task.state = State::Ended { status, at_ms: now_ms, result, error };
                }
                if status == TaskStatus::Dead {
                    self.bury(now_ms, &lease.task_id);
                }
                Settled::Done(status)
            }
        }
    }

    /// Ends a waiting task at its caller's wish.
    pub(super) fn end_unrun(&mut self, now_ms: u64, id: &TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.state = State::Ended { status: TaskStatus::Cancelled, at_ms: now_ms, result: None, error: None };
        let (kind, epoch) = (task.request.kind.clone(), task.epoch);
        self.feed(now_ms, &kind, epoch, Sign::None);
        self.release(now_ms, id, &Outcome::Cancelled);
    }

    pub(super) fn feed(&mut self, now_ms: u64, kind: &str, epoch: u64, sign: Sign) {
        let rules = self.policy.breaker_of(kind);
        self.breakers.entry(kind.to_owned()).or_default().feed(&rules, now_ms, epoch, sign);
    }

    /// A moving mean: a sixteenth of each new attempt.
    fn measure(&mut self, took_ms: f64) {
        self.measured_ms = Some(self.measured_ms.map_or(took_ms, |mean_ms| mean_ms + (took_ms - mean_ms) / 16.0));
    }

    /// Commits what was used of the holds and gives the rest back.
    fn release(&mut self, now_ms: u64, id: &TaskId, outcome: &Outcome) {
        let holds = self.tasks.get(id).map(|task| task.envelope.holds.clone()).unwrap_or_default();
        for hold in holds {
            // An account is made by its first hold and never goes.
            let Some(account) = self.budgets.get_mut(&(hold.budget, hold.subject)) else { continue };
            *account = account.at(now_ms);
            account.held = account.held.saturating_sub(hold.amount);
            let reported =
                |usage: &[(String, u64)]| usage.iter().find(|(unit, _)| *unit == hold.unit).map(|(_, amount)| *amount);
            account.spent += match outcome {
                Outcome::Succeeded { usage, .. } => reported(usage).unwrap_or(hold.amount),
                Outcome::Failed { usage, .. } => reported(usage).unwrap_or(0),
                _ => 0,
            };
        }
    }

    /// Keeps a dead letter; the oldest beyond the bound are forgotten.
    fn bury(&mut self, now_ms: u64, id: &TaskId) {
        self.dead.push((now_ms, id.clone()));
        self.dead.sort_unstable();
        let excess = self.dead.len().saturating_sub(self.policy.queue.max_dead_letters as usize);
        self.dead.drain(..excess);
    }
}

fn fate(task: &super::Task, now_ms: u64, ran: bool, outcome: &Outcome) -> Fate {
    match outcome {
        Outcome::Succeeded { result, .. } => Fate::End(TaskStatus::Succeeded, Some(result.clone()), None),
        Outcome::Failed { error, .. } => Fate::End(TaskStatus::Failed, None, Some(error.clone())),
        Outcome::Cancelled => Fate::End(TaskStatus::Cancelled, None, None),
        Outcome::Revoked { error } => Fate::End(TaskStatus::Cancelled, None, Some(error.clone())),
        Outcome::Expired => Fate::End(TaskStatus::Expired, None, None),
        Outcome::Dead { error } => Fate::End(TaskStatus::Dead, None, Some(error.clone())),
        Outcome::Retry { .. } | Outcome::HandedBack if task.cancelled => Fate::End(TaskStatus::Cancelled, None, None),
        Outcome::Retry { error, .. } if task.is_used_up() => Fate::End(TaskStatus::Dead, None, Some(error.clone())),
        Outcome::Retry { after_ms, .. } => Fate::Again(State::Delayed { due_ms: now_ms + after_ms }),
        Outcome::HandedBack if !ran && task.is_used_up() => Fate::End(TaskStatus::Dead, None, None),
        Outcome::HandedBack => Fate::Again(State::Queued { tag: 0 }),
    }
}
