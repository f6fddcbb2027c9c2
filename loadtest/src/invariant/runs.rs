//! The runs of each task, newest token last, with the time of each claim.
//!
//! Responsible for what leases and settlements conclude from. A handler's log knows when a run began, not when its
//! lease did, and a lease may have waited in a processor for any time. But tokens follow the clock of Redis: a claim's
//! token is its time in µs and a count, unless tokens have run ahead because the clock went back. So where the two
//! clocks kept step and no run begins before the time in its token, that time is when its task was claimed.

use std::collections::BTreeMap;

use super::case::{Case, moment};
use crate::record::Attempt;

/// Tokens per ms of the clock (`claim.lua`).
const TOKENS_PER_MS: u64 = 1000;

/// A run of a handler under a lease.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) attempt: &'a Attempt,
    /// When its task was claimed, µs of the run; `None` where the token does not say.
    pub(super) claimed_us: Option<i64>,
}

/// Every task's runs, by token.
pub(super) fn by_task<'a>(case: &Case<'a>) -> BTreeMap<&'a str, Vec<Run<'a>>> {
    let mut tasks: BTreeMap<&str, Vec<Run<'a>>> = BTreeMap::new();
    for attempt in &case.record.attempts {
        let claimed_us = case.run_us(attempt.fencing_token / TOKENS_PER_MS).filter(|claimed_us| {
            let slack_us = case.slack_us();
            (-slack_us..=attempt.started_us as i64 + slack_us).contains(claimed_us)
        });
        tasks.entry(&attempt.task_id).or_default().push(Run { attempt, claimed_us });
    }
    for runs in tasks.values_mut() {
        runs.sort_by_key(|run| run.attempt.fencing_token);
    }
    tasks
}

impl Run<'_> {
    pub(super) fn started_us(&self) -> i64 {
        self.attempt.started_us as i64
    }

    /// When it ended; never, if it had not when the log was closed.
    pub(super) fn ended_us(&self) -> i64 {
        self.attempt.ended_us.map_or(i64::MAX, |ended_us| ended_us as i64)
    }

    /// The run in a line.
    pub(super) fn line(&self) -> String {
        let Attempt { task_id, attempt, fencing_token, end, .. } = self.attempt;
        let claimed = self.claimed_us.map_or("at an unknown time".to_owned(), moment);
        let ended = self.attempt.ended_us.map_or("the end of the run".to_owned(), |ended_us| moment(ended_us as i64));
        format!(
            "{task_id} attempt {attempt} token {fencing_token}: claimed {claimed}, ran from {} to {ended}: {end:?}",
            moment(self.started_us()),
        )
    }
}
