//! What was offered, what was admitted, what was refused and why, by user type.
//!
//! Responsible for counting answers and for remembering every accepted task until its end is known. Must never leave an
//! answer out: the sums are checked against what was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::client::{Answer, Client};
use crate::report::Table;

/// Everything that was answered.
#[derive(Debug, Default)]
pub struct Ledger {
    rows: Vec<(String, Row)>,
    accepted: Vec<Accepted>,
    known: BTreeSet<String>,
}

/// One user type's answers.
#[derive(Debug, Default)]
pub struct Row {
    /// Requests sent.
    pub offered: u64,
    /// Tasks accepted.
    pub admitted: u64,
    /// Repetitions answered with the task they already were.
    pub replayed: u64,
    /// Refusals by code.
    pub refused: BTreeMap<String, Refused>,
    /// Tasks by the status they ended in.
    pub ended: BTreeMap<String, u64>,
}

/// Refusals of one code.
#[derive(Debug)]
pub struct Refused {
    /// The HTTP status.
    pub status: u16,
    /// How many.
    pub count: u64,
    /// Shortest and longest `Retry-After`, where there was one.
    pub retry_after: Option<(Duration, Duration)>,
}

/// A task that was promised to its caller.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Whose it is.
    pub user_type: String,
    /// The caller who may see it.
    pub caller: Client,
    /// The task.
    pub task_id: String,
}

impl Ledger {
    /// Counts the answer to a submission.
    pub fn record(&mut self, user_type: &str, caller: &Client, answer: &Answer) {
        let replayed = self.known.contains(answer.task_id());
        let row = self.row_mut(user_type);
        row.offered += 1;
        if !answer.is_accepted() {
            row.refuse(answer);
        } else if replayed {
            row.replayed += 1;
        } else {
            row.admitted += 1;
            let task_id = answer.task_id().to_owned();
            self.known.insert(task_id.clone());
            self.accepted.push(Accepted { user_type: user_type.to_owned(), caller: caller.clone(), task_id });
        }
    }

    /// Counts how an accepted task ended.
    pub fn record_end(&mut self, user_type: &str, status: &str) {
        *self.row_mut(user_type).ended.entry(status.to_owned()).or_default() += 1;
    }

    /// Every task that was accepted, in order.
    #[must_use]
    pub fn accepted(&self) -> &[Accepted] {
        &self.accepted
    }

    /// The rows, in the order in which their types first appeared.
    #[must_use]
    pub fn rows(&self) -> &[(String, Row)] {
        &self.rows
    }

    /// How often this type was refused for this reason.
    #[must_use]
    pub fn refusals(&self, user_type: &str, code: &str) -> u64 {
        let row = self.rows.iter().find(|(name, _)| name == user_type);
        row.and_then(|(_, row)| row.refused.get(code)).map_or(0, |refused| refused.count)
    }

    /// Who was admitted, refused and why.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(&["user type", "offered", "admitted", "refused", "why", "Retry-After"]);
        for (user_type, row) in &self.rows {
            let refused = row.refused.values().map(|refused| refused.count).sum::<u64>();
            let mut lead = [user_type.clone(), row.offered.to_string(), row.admitted.to_string(), refused.to_string()];
            if row.replayed > 0 {
                let why = format!("{} × replayed: the task it already was", row.replayed);
                table.row(with_reason(std::mem::take(&mut lead), why, String::new()));
            }
            for (code, refused) in &row.refused {
                let why = format!("{} × {} {code}", refused.count, refused.status);
                table.row(with_reason(std::mem::take(&mut lead), why, describe(refused.retry_after)));
            }
            if !lead[0].is_empty() {
                table.row(with_reason(lead, String::new(), String::new()));
            }
        }
        table
    }

    fn row_mut(&mut self, user_type: &str) -> &mut Row {
        let index = self.rows.iter().position(|(name, _)| name == user_type).unwrap_or_else(|| {
            self.rows.push((user_type.to_owned(), Row::default()));
            self.rows.len() - 1
        });
        &mut self.rows[index].1
    }
}

impl Row {
    fn refuse(&mut self, answer: &Answer) {
        let code = if answer.code().is_empty() { "(no code)" } else { answer.code() };
        let new = Refused { status: answer.status, count: 0, retry_after: None };
        let refused = self.refused.entry(code.to_owned()).or_insert(new);
        refused.count += 1;
        if let Some(wait) = answer.retry_after() {
            let (shortest, longest) = refused.retry_after.unwrap_or((wait, wait));
            refused.retry_after = Some((shortest.min(wait), longest.max(wait)));
        }
    }
}

fn with_reason([user_type, offered, admitted, refused]: [String; 4], why: String, wait: String) -> [String; 6] {
    [user_type, offered, admitted, refused, why, wait]
}

fn describe(retry_after: Option<(Duration, Duration)>) -> String {
    match retry_after {
        None => "–".to_owned(),
        Some((shortest, longest)) if shortest == longest => format!("{} s", longest.as_secs()),
        Some((shortest, longest)) => format!("{}–{} s", shortest.as_secs(), longest.as_secs()),
    }
}
